"""What must hold: at every moment, and in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from app.delivery.formats import AS_FILES
from app.delivery.manifest import MANIFEST_NAME
from app.delivery.marks import Whose, marks_of, whose
from app.delivery.states import State
from app.errors import ErrorType
from app.store.memory.rows import DeliveryRow
from sinks.stores.memory import MemoryObject, MemoryTarget
from tests.simulation.archives import is_archive_of, is_manifest_of
from tests.simulation.clients import Clients, Heard
from tests.simulation.worker import Parties

_BOUND = 30.0  # seconds for a small delivery, whatever its neighbours do
_HEARD = timedelta(seconds=120)  # in which an answer of rs-order is applied, when all is well
_OTHERS = (Whose.ANOTHER_TENANTS, Whose.ANOTHER_USERS)


@dataclass
class Checks:
    """Looks on, and writes down what is wrong."""

    parties: Parties
    clients: Clients
    patient: bool  # no request for an order is out while the answer to another of its id may come
    epoch: datetime  # when the loop's clock is at zero
    calm_at: datetime | None = None  # when all is well from then on
    found: list[str] = field(default_factory=list)
    on_wrong: Callable[[], object] = list  # told of each
    _bodies: dict[str, dict[str, Any]] = field(default_factory=dict)  # by message id

    def __post_init__(self) -> None:
        self.clients.on_response = self.heard
        self.parties.shelf.appeared = self.appeared
        self.parties.shelf.placed = self.placed
        self.parties.shelf.fences.wrong = self.wrong

    def wrong(self, what: str) -> None:
        """Write down what is wrong."""
        if what not in self.found:
            self.found.append(what)
            self.on_wrong()

    def heard(self, heard: Heard) -> None:
        """A client hears something."""
        before = self._bodies.setdefault(heard.message_id, heard.body)
        name = f"{heard.tenant}/{heard.body['correlationId']}"
        if before != heard.body:
            self.wrong(f"{name} hears two things of one request: {before} and {heard.body}")
        if heard.status == "GRANTED" and heard.body is before:
            self._granted(heard, name)
        if heard.status == "DONE" and heard.body is before:
            self._done(heard, name)

    def _granted(self, heard: Heard, name: str) -> None:
        for delivery_id, _ in self.parties.database.deliveries.items():
            if str(uuid5(delivery_id, "granted")) == heard.message_id:
                if str(uuid5(delivery_id, "terminal")) in self._bodies:
                    self.wrong(f"{name} hears how it ended before it hears that it is granted")
                return

    def _done(self, heard: Heard, name: str) -> None:
        row = self._row_of(heard.message_id)
        if row is None or row.state is not State.DONE:
            self.wrong(f"{name} hears DONE, and its delivery is not")
            return
        url = heard.body["url"]
        if url.endswith("/"):
            url += MANIFEST_NAME
        there = self._object(url)
        if self._is_over(row):
            pass  # its time was short, or a person was quick: the place is free, or another's
        elif there is None:
            if not self._is_being_replaced(row):
                self.wrong(f"{name} hears DONE of {url}, and nothing is there")
        elif not self._is_archive_of(there, row) and not self._is_of_a_later_one(there, row):
            self.wrong(f"{name} hears DONE of {url}, and something else is there")
        if self.patient:
            self._is_what_was_asked_for(row, name)

    def _is_what_was_asked_for(self, row: DeliveryRow, name: str) -> None:
        rs_order = self.parties.rs_order
        order = rs_order.orders[row.delivery.order_id or 0]
        if rs_order.requests[order.request]["queries"] != row.delivery.order["queries"]:
            self.wrong(f"{name} hears DONE of order {order.number}, which asked for something else")

    def _is_being_replaced(self, row: DeliveryRow) -> bool:
        """Whether the same client has asked for files of that id once more, before it heard this.

        Then the manifest goes before the first of them comes.
        """
        return row.delivery.format == AS_FILES and any(
            later.delivery.format == AS_FILES
            and later.delivery.attempt > 0
            and later.delivery.requested_at > row.delivery.requested_at
            and later.delivery.correlation_id == row.delivery.correlation_id
            and whose(marks_of(later.delivery), marks_of(row.delivery)) is Whose.ITS_USERS
            for _, later in self.parties.database.deliveries.items()
        )

    def _is_of_a_later_one(self, there: MemoryObject, row: DeliveryRow) -> bool:
        """Whether an object is that of a later delivery of the same id, which may replace it."""
        marks = dict(there.found.marks)
        later = self.parties.database.deliveries.get(UUID(marks["rs-delivery-id"]))
        return later is not None and (
            later.delivery.requested_at > row.delivery.requested_at
            and whose(marks, marks_of(row.delivery)) is Whose.ITS_USERS
        )

    def _is_over(self, row: DeliveryRow) -> bool:
        """Whether what was delivered is to be removed, or is."""
        database = self.parties.database
        kept = database.kept_contents.get(row.delivery.id)
        return kept is not None and kept.is_over(database.time())

    def _contents_are_gone(self) -> None:
        """All that is over is removed, and nothing else was."""
        database = self.parties.database
        for delivery_id, kept in database.kept_contents.items():
            if kept.removed_at is None:
                self.wrong(
                    f"the content of {kept.content.url} was to be removed: {kept.last_cause}"
                )
            row = database.deliveries.get(delivery_id)
            if row is None or row.keeps_content:
                self.wrong(f"{kept.content.url} is removed, and its delivery is kept for it")
            removed, until = kept.removed_at, kept.content.until
            if removed is None or kept.asked_at is not None:
                continue
            if until is None or removed < until:
                self.wrong(f"{kept.content.url} was removed before its time was over")

    def _row_of(self, message_id: str) -> DeliveryRow | None:
        for delivery_id, row in self.parties.database.deliveries.items():
            if str(uuid5(delivery_id, "terminal")) == message_id:
                return row
        return None

    def _object(self, url: str) -> Any:
        container, _, key = url.removeprefix("memory://").partition("/")
        for there in self.parties.shelf.places():
            if there.container == container:
                return self.parties.shelf.store.objects(there).get(key)
        return None

    def _is_archive_of(self, there: MemoryObject, row: DeliveryRow) -> bool:
        files = self._files_of(row)
        if row.delivery.archive_name == MANIFEST_NAME:
            return is_manifest_of(there.content, files)
        return is_archive_of(there.content, files)

    def _files_of(self, row: DeliveryRow) -> list[tuple[str, bytes]]:
        """Return the members of a delivery, in their order, and what they are to be."""
        order = self.parties.rs_order.orders[row.delivery.order_id or 0]
        files = sorted(
            (file.position, file.member, order.files[file.file_id])
            for _, file in (
                (key, file.file) for key, file in self.parties.database.files.of(row.delivery.id)
            )
        )
        return [(member, content) for _, member, content in files]

    def appeared(self, target: MemoryTarget, key: str, before: MemoryObject | None) -> None:
        """An object is visible."""
        there = self.parties.shelf.store.objects(target)[key]
        marks = dict(there.found.marks)
        delivery_id = UUID(marks["rs-delivery-id"])
        row = self.parties.database.deliveries.get(delivery_id)
        if row is None:
            self.wrong(f"{key} appears, and is of no delivery")
            return
        if marks != marks_of(row.delivery):
            self.wrong(f"{key} appears with marks that are not its delivery's")
        if not self._is_archive_of(there, row):
            self.wrong(f"{key} appears, and is not the archive of {row.delivery}")
        if before is not None and whose(before.found.marks, marks) in _OTHERS:
            self.wrong(f"{key} takes the place of another's object")
        if row.delivery.archive_name == MANIFEST_NAME:
            self._has_its_files(target, key, row, "appears")

    def placed(self, target: MemoryTarget, key: str, before: MemoryObject | None) -> None:
        """A file that is delivered as it is, is visible."""
        objects = self.parties.shelf.store.objects(target)
        there = objects[key]
        row = self.parties.database.deliveries.get(UUID(there.found.marks["rs-delivery-id"]))
        if row is None or not there.found.has(marks_of(row.delivery)):
            self.wrong(f"{key} appears, and is of no delivery")
            return
        folder = row.delivery.key.removesuffix(MANIFEST_NAME)
        if (key.removeprefix(folder), there.content) not in self._files_of(row):
            self.wrong(f"{key} appears, and is no file of {row.delivery}")
        if before is not None and whose(before.found.marks, there.found.marks) in _OTHERS:
            self.wrong(f"{key} takes the place of another's object")
        manifest = objects.get(folder + MANIFEST_NAME)
        if manifest is not None and not manifest.found.has(marks_of(row.delivery)):
            self.wrong(f"{key} appears beside the manifest of another delivery")

    def _has_its_files(self, target: MemoryTarget, key: str, row: DeliveryRow, when: str) -> None:
        objects, folder = self.parties.shelf.store.objects(target), key.removesuffix(MANIFEST_NAME)
        for member, content in self._files_of(row):
            there = objects.get(folder + member)
            if there is None or there.content != content:
                self.wrong(f"{key} of {row.delivery} {when}, and {member} is not there as it tells")
            elif not there.found.has(marks_of(row.delivery)):
                self.wrong(f"{key} of {row.delivery} {when}, and {member} is another delivery's")

    def at_the_end(self) -> None:
        """All has come to rest, or should have."""
        self._deliveries_have_ended()
        self._nothing_is_owed()
        self._answers_are_credited()
        self._clients_are_answered()
        self._neighbours_did_not_wait()
        self._contents_are_gone()
        self._shelf_is_clean()

    def _deliveries_have_ended(self) -> None:
        for _, row in self.parties.database.deliveries.items():
            name = f"{row.delivery} ({row.state})"
            if not row.state.ended:
                self.wrong(f"{name} has not ended: {row.delivery.last_cause}")
                continue
            if row.lease_owner is not None:
                self.wrong(f"{name} still has a lease")
            terminal = str(uuid5(row.delivery.id, "terminal"))
            if terminal not in self._bodies:
                self.wrong(f"{name} has ended, and its client has not heard of it")
            self._order_is_settled(row)
            self._answer_was_heard(row)

    def _nothing_is_owed(self) -> None:
        database, log = self.parties.database, self.parties.log
        for name, table in (("outbox", database.outbox), ("arrival", database.arrivals)):
            left = list(table.items())
            if left:
                self.wrong(f"{len(left)} rows are left in {name}: {left[0][1]}")
        broker = self.parties.broker
        buried = {stored.message_id for stored in broker.dead_letters()}
        if buried != self.clients.spoilt:
            self.wrong(f"dead letters: {buried}, and {self.clients.spoilt} can't be read")
        for number in self.parties.rs_order.kept():
            self.wrong(f"order {number} keeps a place of its user at rs-order")
        for queue in broker.queues.values():
            if queue.waiting and not queue.is_of_dead_letters:
                self.wrong(f"{len(queue.waiting)} messages are left in {queue.name}")
        for (topic, _), records in log.records.items():
            if topic.endswith("dead-letters") and records:
                self.wrong(f"an event was buried: {records[0].value.decode()}")

    def _answers_are_credited(self) -> None:
        """Of each id as many answers are waited for as there are orders without one.

        (By which delivery is not known: an answer does not tell which request it is for.) More may
        be, where a request was to be sent again: it is not known whether it was.
        """
        rs_order = self.parties.rs_order
        answered = rs_order.denied + Counter(order.request for order in rs_order.orders.values())
        waiting: Counter[tuple[str, str]] = Counter()
        repeated: Counter[tuple[str, str]] = Counter()
        denied: Counter[tuple[str, str]] = Counter()
        again: set[tuple[str, str]] = set()
        silent: Counter[tuple[str, str]] = Counter()
        for _, row in self.parties.database.deliveries.items():
            key = row.delivery.tenant, row.delivery.correlation_id
            request = str(uuid5(row.delivery.id, "order"))
            waiting[key] += row.order_awaited
            repeated[key] += row.answers_due
            denied[key] += rs_order.denied[request]
            if row.answers_due or row.repeated_orders:
                again.add(key)
            silent[key] += rs_order.taken[request] - answered[request]
        for key, count in waiting.items():
            exact = key not in again and not denied[key]
            most = count + repeated[key]
            if silent[key] > most or (exact and silent[key] < count):
                self.wrong(
                    f"{count} deliveries {'/'.join(key)} wait for the answers to their orders, "
                    f"{repeated[key]} answers more may come, and {silent[key]} do not"
                )

    def _order_is_settled(self, row: DeliveryRow) -> None:
        request = str(uuid5(row.delivery.id, "order"))
        for order in self.parties.rs_order.orders.values():
            if order.request != request or "FAILED" in order.told:
                continue
            users = {
                other.delivery.id: other
                for _, other in self.parties.database.deliveries.items()
                if other.delivery.order_id == order.number
            }
            taken = any(other.state is State.DONE for other in users.values())
            if not taken and not order.cancelled:
                self.wrong(f"order {order.number} of {row.delivery} ({row.state}) is left open")

    def _answer_was_heard(self, row: DeliveryRow) -> None:
        """No delivery waits until its time is over where rs-order has answered."""
        assert row.finished_at is not None
        told = self.parties.rs_order.answered_at.get(str(uuid5(row.delivery.id, "order")))
        if told is None or row.error is None or row.error[0] != ErrorType.EXPIRED:
            return
        assert self.calm_at is not None
        expired = (
            row.finished_at - self.parties.database.ahead
        )  # or later: it may have jumped since
        answered = max(self.epoch + timedelta(seconds=told), self.calm_at)
        if row.delivery.order_id is None and expired > answered + _HEARD:
            self.wrong(f"{row.delivery} waited until it expired, though rs-order had answered")

    def _clients_are_answered(self) -> None:
        for key, asked in self.clients.asked.items():
            answers, alone = len(self.clients.answers[key]), self.clients.alone[key]
            if not alone <= answers <= asked:
                self.wrong(
                    f"{'/'.join(key)} was asked for {asked} times, {alone} of them by itself, and "
                    f"answered {answers} times"
                )

    def _neighbours_did_not_wait(self) -> None:
        """One tenant's object store never answered: the deliveries of the others took no longer."""
        mute = self.parties.shelf.mute_tenant
        if mute is None:
            return
        for _, row in self.parties.database.deliveries.items():
            if row.delivery.tenant == mute or self._waited_for_another(row):
                continue
            if row.finished_at is not None:
                took = (row.finished_at - row.delivery.requested_at).total_seconds()
                if took > _BOUND:
                    self.wrong(f"{row.delivery} took {took:.0f} s beside a mute neighbour")

    def _waited_for_another(self, row: DeliveryRow) -> bool:
        """Whether another user may have completed an object of its name, for all that was known.

        Or any may have put files there, and failed: these are removed before others come.
        """
        return any(
            _may_have_completed(other, row) or _may_have_put(other, row)
            for _, other in self.parties.database.deliveries.items()
            if other.delivery.tenant == row.delivery.tenant
            and other.delivery.correlation_id == row.delivery.correlation_id
            and other.delivery.id != row.delivery.id
        )

    def _shelf_is_clean(self) -> None:
        shelf = self.parties.shelf
        for upload in shelf.store.open():
            self.wrong(f"an upload of {upload.key} is left open")
        for target in shelf.places():
            for key, there in shelf.store.objects(target).items():
                delivery_id = UUID(there.found.marks["rs-delivery-id"])
                row = self.parties.database.deliveries.get(delivery_id)
                if row is not None and row.state is State.DONE and self._is_over(row):
                    self.wrong(f"{key} of {row.delivery} is there, and its time is over")
                    continue
                if row is not None and row.state is State.DONE:
                    self._is_told_by_its_manifest(target, key, row)
                    continue
                if not self._is_told(target.url_of(key), there):
                    self.wrong(f"{key} is there, and its delivery is {row and row.state}")

    def _is_told_by_its_manifest(self, target: MemoryTarget, key: str, row: DeliveryRow) -> None:
        """Of files that are delivered as they are none is left that was replaced."""
        if row.delivery.archive_name != MANIFEST_NAME:
            return
        told = row.delivery.key
        manifest = self.parties.shelf.store.objects(target).get(told)
        if manifest is None or not manifest.found.has(marks_of(row.delivery)):
            self.wrong(f"{key} of {row.delivery} is left, and its manifest is gone")
        elif key == told:
            self._has_its_files(target, key, row, "is there in the end")

    def _is_told(self, url: str, there: MemoryObject) -> bool:
        """Whether a client was told an object of these bytes.

        A late completion of an earlier delivery with the same files has put its own there.
        """
        return any(
            row.result is not None and (row.result.url, row.result.etag) == (url, there.found.etag)
            for _, row in self.parties.database.deliveries.items()
            if row.state is State.DONE
        )


def _may_have_completed(other: DeliveryRow, row: DeliveryRow) -> bool:
    until, is_anothers = other.completing_until, other.delivery.user != row.delivery.user
    return is_anothers and until is not None and until > row.delivery.requested_at


def _may_have_put(other: DeliveryRow, row: DeliveryRow) -> bool:
    put = other.delivery.attempt > 0 and other.state is not State.DONE
    return put and other.delivery.format == row.delivery.format == AS_FILES
