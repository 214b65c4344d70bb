"""What decides: what a delivery is, what may happen to it, and how it is kept.

(`streams` brings in and runs, `sinks` sends out, `web` shows and configures.)

delivery    the domain: states, what comes in, orders, files, targets, what is sent; no adapter
usecases    what can happen to a delivery: functions of a message and its dependencies, or small
            classes where several things are done with the same
tenants     what tenants may set, have set, and how that changes
views       what operators look at
audit       who did what
store       PostgreSQL, and its twin in memory
run         processes, and what they are wired of
cli         the `delivery` command
settings    what is read from the environment, once
waiting     for what is away for a while, and for work
telemetry   logs, metrics, spans
network     hosts that may be spoken to, and TLS
errors      one tree; what is retried and what is final is a class
encoding    JSON as it is sent, and what others sent of it
"""

__version__ = "0.1.0"
