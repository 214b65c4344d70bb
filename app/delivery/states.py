"""The states of a delivery: which may follow which, what a worker does in each, how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a delivery stands. Only `Status` reaches the outside.

    All work goes by it, so a row in a state that is not among these could be neither shown nor left
    alone. There is none: the database's own check refuses it, and a new state is added here, with
    that check, a version before `TRANSITIONS` has a way to it.
    """

    RECEIVED = "RECEIVED"  # the request is saved; whether its user may order is being asked
    GRANTED = "GRANTED"  # the request is answered; rs-order is being asked
    ORDERED = "ORDERED"  # rs-order accepted the order and named it
    AVAILABLE = "AVAILABLE"  # the order is done, or its first suborder: files can be listed
    READY = "READY"  # the archive is laid out: a worker may transfer it
    TRANSFERRING = "TRANSFERRING"  # a worker streams, or another is due, or a suborder is awaited
    DONE = "DONE"  # the archive is on the target, verified
    ERROR = "ERROR"  # ended without an archive

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the delivery: no transition leads out of this state."""
        return not TRANSITIONS[self]

    @property
    def work(self) -> Work | None:
        """What a worker can do for the delivery now; None while it waits for rs-order, or if ended.

        PostgreSQL computes the same (the column `work` of `delivery`), since claims go by it; for
        deliveries that take a part, in words that versions which know none don't look for.
        """
        return _WORK.get(self)


class Work(StrEnum):
    """What a worker claims a delivery for."""

    CHECK = "check"  # ask rs-admin about the user
    PLAN = "plan"  # read the order's listing, write the manifest
    TRANSFER = "transfer"  # stream the archive to the target


_WORK = MappingProxyType(
    {
        State.RECEIVED: Work.CHECK,
        State.AVAILABLE: Work.PLAN,
        State.READY: Work.TRANSFER,
        State.TRANSFERRING: Work.TRANSFER,  # once its lease has run out, or was let go of
    }
)


# Every move of a delivery: what may follow each state. None leads back: work that is given up for
# later stays in its state, and what ended in ERROR is tried again as a new delivery.
#
# ERROR follows every state but the last two: the time to live is over, a client or an operator
# cancels, rs-order fails the order, or a worker meets what will not go well (PermanentError).
TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.RECEIVED: frozenset(
            {
                State.GRANTED,  # rs-admin knows the user; of one it doesn't, nothing is kept
                State.ERROR,
            }
        ),
        State.GRANTED: frozenset(
            {
                State.ORDERED,  # rs-order says GRANTED
                # It says first that it is done, or a suborder: what was before is late, or lost.
                State.AVAILABLE,
                State.ERROR,
            }
        ),
        State.ORDERED: frozenset(
            {
                State.ORDERED,  # it says more of the order, which is noted (`total_suborders`)
                State.AVAILABLE,  # it says that it is done, or a suborder
                State.ERROR,
            }
        ),
        State.AVAILABLE: frozenset(
            {
                State.READY,  # a worker has laid the archive out, in the same transaction
                State.ERROR,
            }
        ),
        State.READY: frozenset(
            {
                State.TRANSFERRING,  # a worker claims it: its first attempt
                State.ERROR,
            }
        ),
        State.TRANSFERRING: frozenset(
            {
                # A further attempt: the last was given up for later, or its worker is dead.
                State.TRANSFERRING,
                State.DONE,  # by the last attempt alone, once the object is verified
                State.ERROR,
            }
        ),
        State.DONE: frozenset(),
        State.ERROR: frozenset(),
    }
)


# The moves that `Leases.claim` alone makes: with each it counts the attempt and takes the lease, in
# one statement. A delivery that came to be TRANSFERRING otherwise would be no worker's.
CLAIMED: frozenset[State] = frozenset({State.TRANSFERRING})
# All others are made by `UnitOfWork.advance`, which refuses what is not among them.
ADVANCES: Mapping[State, frozenset[State]] = MappingProxyType(
    {state: after - CLAIMED for state, after in TRANSITIONS.items()}
)


class Status(StrEnum):
    """What a client is told."""

    GRANTED = "GRANTED"  # the request is saved; another answer follows
    DENIED = "DENIED"  # the request is refused; nothing follows
    DONE = "DONE"  # the archive is on the target; nothing follows
    ERROR = "ERROR"  # there will be no archive; nothing follows
