"""The domain: the life of a delivery, what is said about one, and what it needs from the outside.

A delivery is opened by a request (`usecases.submit.receive`), and moved on by what is named here:

RECEIVED      GRANTED       rs-admin knows its user             usecases.submit.check
GRANTED       ORDERED       rs-order has named the order        usecases.order_progress
ORDERED       AVAILABLE     rs-order has all files              usecases.order_progress
AVAILABLE     READY         its archive is laid out             usecases.plan
READY         TRANSFERRING  a worker claims it                  ports.Leases.claim
TRANSFERRING  DONE          its object appeared, verified       usecases.transfer
each          ERROR         its time is over                    usecases.expire
                            a client or an operator cancels     usecases.intervene, order_progress
                            work on it can't go well            usecases.settle, fail

The whole table is `states.TRANSITIONS`. What is acknowledged at each hop, from the first message to
the last, stands in docs/architecture.md, "One delivery, hop by hop".
"""
