"""The composition root: here, and nowhere else, it is said what each port is plugged with.

A file for each thing outside, which opens it by the settings: `database` (PostgreSQL), `tenants`
(their settings, and what opens their secrets), `targets` (object stores), `regards` (rs-order,
rs-admin, sign-in), `amqp`, `kafka`, and `dead_letters` of both. What is open together is one value:
`operations.Operations` where the first two are enough, `services.Services` where deliveries are
looked at and steered, `worker.WorkerServices` where they are made. What starts a process, and every
command, asks these, and imports of them what it needs.
"""
