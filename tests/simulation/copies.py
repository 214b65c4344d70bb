"""Copies of requests that nothing tells of: the one case in which a request may have two answers.

RabbitMQ restarts and gives a message again without its flag, its client has set no message id, and
the worker that had it can't note that it comes again: it is dead, stands still or does not reach
PostgreSQL (`docs/roadmap.md`). Wherever it could, or the note is there, a second answer is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid5

from app.delivery.ingress import ArrivalKind
from app.store.memory.rows import InboxRow
from streams.amqp import names
from streams.amqp.messages import _digest
from tests.simulation.postgres import PARTY, Change, SimulatedDatabase
from tests.simulation.processes import Process
from tests.simulation.rabbitmq import Stored


@dataclass
class Copies:
    """Looks at what counts a second time, and writes down which answers that may have."""

    database: SimulatedDatabase
    answers: set[str] = field(default_factory=set)  # message ids of what ends such a delivery
    # Who had a message that is given again without its flag, by its digest.
    _had_by: dict[bytes, Process] = field(default_factory=dict)

    def forgotten(self, stored: Stored, process: Process) -> None:
        """RabbitMQ has taken a message back, and does not know that a process had it."""
        tenant = str(stored.message.headers.get(names.HEADER_TENANT))
        self._had_by[_digest(tenant, stored.message)] = process

    def committing(self, changes: Sequence[Change]) -> None:
        """Look at what is noted in the inbox, before others see it."""
        for change in changes:
            if change.table == "inbox" and change.before is None and self._is_excused(change.after):
                self.answers.add(str(uuid5(change.after.ingress_id, "terminal")))

    def _is_excused(self, receipt: InboxRow) -> bool:
        had_by = self._had_by.get(receipt.digest)
        if receipt.kind is not ArrivalKind.REQUEST or had_by is None or receipt.flagged:
            return False
        known = [row for _, row in self.database.inbox.of((receipt.kind, receipt.digest))]
        return (
            receipt.counted
            and any(row.counted for row in known)
            and not any(row.returned_at for row in known)
            and (not had_by.alive or had_by.frozen or PARTY in had_by.cut_off)
        )
