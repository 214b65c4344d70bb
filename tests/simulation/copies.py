"""Copies of requests that nothing tells of: the one case in which a request may have two answers.

RabbitMQ restarts and gives a message again without its flag, its client has set no message id, and
the worker that had saved it can't note that it comes again (`streams/bridge.py`): from when
RabbitMQ takes it back until the copy counts, that worker is dead, stands still or does not reach
PostgreSQL (`docs/roadmap.md`). Wherever it could, or the note is there, a second answer is wrong.

It could if PostgreSQL took a commit, whichever worker's, while it ran and reached it: if all is
well, its own note is one. Other workers are no excuse: not those that had the message later and did
not save it, whose notes would be about nothing, nor the one whose agent handled the event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from app.delivery.ingress import ArrivalKind, event_key
from app.store.memory.rows import ArrivalRow, InboxRow
from streams.amqp import names
from streams.amqp.messages import _digest
from streams.events import RequestReceived
from tests.simulation.postgres import PARTY, Change, SimulatedDatabase
from tests.simulation.processes import PROCESS, Process
from tests.simulation.rabbitmq import Stored


@dataclass
class _Given:
    """A message as RabbitMQ gave it once, and a worker has saved it."""

    process: Process | None
    key: bytes  # of its event: tenant and correlation id
    forgotten: bool = False  # RabbitMQ has taken it back, and does not know that it gave it
    could_be_noted: bool = False  # since then: that it comes again

    def look(self) -> None:
        """See whether its worker could note now that it comes again."""
        process = self.process
        self.could_be_noted |= process is not None and (
            process.alive and not process.frozen and PARTY not in process.cut_off
        )


@dataclass
class Copies:
    """Looks at what counts a second time, and writes down which answers that may have."""

    database: SimulatedDatabase
    answers: set[str] = field(default_factory=set)  # message ids of what ends such a delivery
    _excused: list[UUID] = field(default_factory=list)  # copies, by their ingress id
    # By its digest: each time that a message was given and saved, in their order, by ingress id.
    _given: defaultdict[bytes, dict[UUID, _Given]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    _not_noted: list[_Given] = field(default_factory=list)  # of those that are forgotten

    def forgotten(self, stored: Stored, process: Process) -> None:
        """RabbitMQ has taken a message back, and does not know that a process had it."""
        if stored.redelivered:  # that it was given before that is known
            return
        tenant = str(stored.message.headers.get(names.HEADER_TENANT))
        for given in self._given[_digest(tenant, stored.message)].values():
            if given.process is process and not given.forgotten:
                given.forgotten = True
                self._not_noted.append(given)

    def committing(self, changes: Sequence[Change]) -> None:
        """Look at a commit, before others see it."""
        for given in self._not_noted:
            given.look()
        self._not_noted = [each for each in self._not_noted if not each.could_be_noted]
        for change in changes:
            if change.before is not None:
                continue
            match change.after:
                case ArrivalRow() if change.after.arrival.kind is ArrivalKind.REQUEST:
                    self._saved(change.after)
                case InboxRow() if change.after.kind is ArrivalKind.REQUEST:
                    self._handled(change.after)

    def _saved(self, row: ArrivalRow) -> None:
        arrival = row.arrival
        digest = RequestReceived.decode(arrival.value).digest
        assert digest is not None
        self._given[digest].setdefault(arrival.ingress_id, _Given(PROCESS.get(), arrival.key))

    def _handled(self, receipt: InboxRow) -> None:
        if not receipt.counted:
            return
        if self._is_excused(receipt):
            self._excused.append(receipt.ingress_id)
            self.answers.add(_answer_to(receipt.ingress_id))
            return
        for copy in self._excused:
            if self._shares(receipt, copy):
                self.answers.discard(_answer_to(copy))

    def _is_excused(self, receipt: InboxRow) -> bool:
        """Whether it is a second one, and the worker could not note it whose note was missed.

        That is the one that had the message last before, of those of which something is handled. A
        note about an earlier one is met by then: it told what that was.
        """
        inbox, given = self.database.inbox, self._given[receipt.digest]
        known = [row for _, row in inbox.of((receipt.kind, receipt.digest))]
        if not any(row.counted for row in known) or any(row.returned_at for row in known):
            return False
        ids = {row.ingress_id for row in known} | {receipt.ingress_id}
        if receipt.flagged or not ids <= given.keys():
            return False
        handled = [each for each in given if each in ids]
        last = handled[-1] if handled[-1] != receipt.ingress_id else handled[-2]
        # It may have been overtaken by its copy: the one of both that was given first comes again.
        first, second = sorted((receipt.ingress_id, last), key=list(given).index)
        could_be_noted = given[first].could_be_noted or given[second].could_be_noted
        return given[first].forgotten and not could_be_noted

    def _shares(self, receipt: InboxRow, copy: UUID) -> bool:
        """Whether a request has come while the delivery of a copy is active, and has its answer."""
        row, given = self.database.deliveries.get(copy), self._given[receipt.digest]
        if row is None or row.state.ended or receipt.ingress_id not in given:
            return False
        key = event_key(row.delivery.tenant, row.delivery.correlation_id)
        return given[receipt.ingress_id].key == key


def _answer_to(ingress_id: UUID) -> str:
    return str(uuid5(ingress_id, "terminal"))
