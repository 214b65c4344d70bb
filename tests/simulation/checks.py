"""What must hold: at every moment, and in the end."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from app.delivery.formats import AS_FILES
from app.delivery.manifest import MANIFEST_NAME, REPORT_NAME, ManifestFile
from app.delivery.manifest_document import archive_key_of
from app.delivery.marks import Whose, marks_of, whose
from app.delivery.missing import MissingFile
from app.delivery.reports import is_replaceable_report
from app.delivery.states import State
from app.errors import ErrorType
from app.store.memory.rows import DeliveryRow
from sinks.stores.memory import MemoryObject, MemoryTarget
from tests.simulation.archives import members_of, missing_line, told_by, told_missing
from tests.simulation.clients import Clients, Heard
from tests.simulation.rs_order import GONE, LOST
from tests.simulation.worker import Parties

# To read a flawed file; less one, as an answer of PostgreSQL that is lost counts one twice.
_ATTEMPTS = 3 - 1
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
        if heard.status == "ERROR" and heard.body is before and "reportUrl" in heard.body:
            self._reported(heard.body["reportUrl"], self._row_of(heard.message_id), name)

    def _granted(self, heard: Heard, name: str) -> None:
        for delivery_id, _ in self.parties.database.deliveries.items():
            if str(uuid5(delivery_id, "granted")) == heard.message_id:
                if str(uuid5(delivery_id, "terminal")) in self._bodies:
                    self.wrong(f"{name} hears how it ended before it hears that it is granted")
                return

    def _reported(self, url: str, row: DeliveryRow | None, name: str) -> None:
        """A client hears where the report of its delivery is."""
        if row is None or row.state is not State.ERROR:
            self.wrong(f"{name} hears ERROR, and its delivery is {row and row.state}")
            return
        there = self._object(url)
        later = any(
            other.delivery.requested_at > row.delivery.requested_at
            and other.delivery.correlation_id == row.delivery.correlation_id
            and other.delivery.tenant == row.delivery.tenant
            for _, other in self.parties.database.deliveries.items()
        )
        if self._is_over(row):  # it is heard late: the place may be anyone's again
            return
        if there is None and not later:
            self.wrong(f"{name} hears of a report at {url}, and nothing is there")
        elif there is not None and not is_replaceable_report(there.found, row.delivery):
            self.wrong(f"{name} hears of a report at {url}, and there is another's")

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
        return self._is_made_of(there, row, self._files_of(row))

    def _was_archive_of(self, there: MemoryObject, row: DeliveryRow) -> bool:
        """Whether it is an archive of the delivery with files that were left out meanwhile."""
        return self._is_made_of(there, row, self._files_of(row), self._files_ever_of(row))

    @staticmethod
    def _is_made_of(
        there: MemoryObject,
        row: DeliveryRow,
        files: list[tuple[str, bytes]],
        ever: list[tuple[str, bytes]] | None = None,
    ) -> bool:
        has = told_by if row.delivery.archive_name == MANIFEST_NAME else members_of
        found = has(there.content, ever or files)
        wanted = [name for name, _ in files]
        if ever is None or found is None:
            return found == wanted
        return {*wanted} <= {*found}

    def _files_of(self, row: DeliveryRow) -> list[tuple[str, bytes]]:
        """Return the members of a delivery, in their order, and what they are to be."""
        files = (file.file for _, file in self.parties.database.files.of(row.delivery.id))
        return self._with_contents(row, files)

    def _files_ever_of(self, row: DeliveryRow) -> list[tuple[str, bytes]]:
        """Return the same, with those that were left out."""
        files = [file.file for _, file in self.parties.database.files.of(row.delivery.id)]
        left_out = (each for each in self._missing_of(row) if each.position is not None)
        return self._with_contents(row, [*files, *(each.laid_out() for each in left_out)])

    def _with_contents(
        self, row: DeliveryRow, files: Iterable[ManifestFile]
    ) -> list[tuple[str, bytes]]:
        contents = self.parties.rs_order.orders[row.delivery.order_id or 0].files
        laid_out = sorted(files, key=lambda file: file.position)
        return [(file.member, contents[file.file_id]) for file in laid_out]

    def _missing_of(self, row: DeliveryRow) -> list[MissingFile]:
        missing = self.parties.database.missing.of(row.delivery.id)
        return [each.missing for _, each in sorted(missing, key=lambda found: found[0][1])]

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
        if not self._was_archive_of(there, row):
            self.wrong(f"{key} appears, and is not the archive of {row.delivery}")
        if before is not None and whose(before.found.marks, marks) in _OTHERS:
            self.wrong(f"{key} takes the place of another's object")
        if row.delivery.archive_name == MANIFEST_NAME:
            self._has_its_files(target, key, row, "appears")
        self._manifest_is_of_what_is_there(target, key, there, "appears")

    def placed(self, target: MemoryTarget, key: str, before: MemoryObject | None) -> None:
        """A file that is delivered as it is, is visible."""
        objects = self.parties.shelf.store.objects(target)
        there = objects[key]
        row = self.parties.database.deliveries.get(UUID(there.found.marks["rs-delivery-id"]))
        if row is None or not there.found.has(marks_of(row.delivery)):
            self.wrong(f"{key} appears, and is of no delivery")
            return
        if before is not None and whose(before.found.marks, there.found.marks) in _OTHERS:
            self.wrong(f"{key} takes the place of another's object")
        if key.endswith(f"/{REPORT_NAME}"):
            self._report_appeared(key, row, before)
            return
        if row.delivery.archive_name != MANIFEST_NAME:
            self._manifest_tells_of_its_archive(target, key, row, "appears")
            return
        folder = row.delivery.key.removesuffix(MANIFEST_NAME)
        if (key.removeprefix(folder), there.content) not in self._files_of(row):
            self.wrong(f"{key} appears, and is no file of {row.delivery}")
        manifest = objects.get(folder + MANIFEST_NAME)
        if (
            manifest is not None
            and not manifest.found.has(marks_of(row.delivery))
            and archive_key_of(manifest.content) is None
        ):
            self.wrong(f"{key} appears beside the manifest of another delivery")

    def _report_appeared(self, key: str, row: DeliveryRow, before: MemoryObject | None) -> None:
        """A report comes only where there was one of the same client, or nothing.

        Also late: of an attempt that failed, and could not save that; another has delivered since.
        Nothing keeps that out. But then its place is noted, and it is looked for.
        """
        if row.state is State.DONE and row.report is None:
            self.wrong(f"{key} appears, {row.delivery} is DONE, and nothing looks for it")
        if before is not None and not is_replaceable_report(before.found, row.delivery):
            self.wrong(f"{key} takes the place of what is no report of its client")

    def _is_told_report(self, target: MemoryTarget, key: str, row: DeliveryRow | None) -> None:
        """What is there in the end was told, and its time is not over."""
        told = row is not None and row.state is State.ERROR
        if row is None or not told or row.told.report_url != target.url_of(key):
            self.wrong(f"{key} is there, and no client was told of it")
        elif self._is_over(row):
            self.wrong(f"{key} of {row.delivery} is there, and its time is over")

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
        self._what_is_missing_is_told()
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

    def _what_is_missing_is_told(self) -> None:
        """A delivery that is done has all of its order, but for what it tells; and that it lacks.

        What it lacks was refused, or wrong, often enough, or never restored.
        """
        for _, row in self.parties.database.deliveries.items():
            if row.state is not State.DONE:
                continue
            delivery, missing = row.delivery, self._missing_of(row)
            if missing and not delivery.partial:
                self.wrong(f"{delivery} takes all or nothing, and {missing[0]} is missing")
            files = sum(each.files for each in missing)
            if (row.told.missing or 0) != files:
                self.wrong(f"{delivery} tells that {row.told.missing} are missing, not {files}")
            order = self.parties.rs_order.orders[delivery.order_id or 0]
            has = {file.file.file_id for _, file in self.parties.database.files.of(delivery.id)}
            named = {each.file_id for each in missing if each.file_id is not None}
            if has & named:
                self.wrong(f"{delivery} has {has & named}, and tells that they are missing")
            untold = order.files.keys() - has - named
            if len(untold) != sum(each.files for each in missing if each.file_id is None):
                self.wrong(f"{delivery} lacks {untold} of order {order.number}, and does not tell")
            for file_id in named:
                flaw = self.parties.rs_order.flaw_of(order, file_id)
                often = order.failed[file_id] >= _ATTEMPTS or (flaw == GONE and order.failed)
                if flaw != LOST and not order.fails and not often:
                    self.wrong(f"{delivery} lacks file {file_id}, of which {order.failed} failed")

    def _manifest_tells_of_its_archive(
        self, target: MemoryTarget, key: str, row: DeliveryRow, when: str
    ) -> None:
        """What stands beside an archive tells of that, of its files, and of what is missing."""
        objects = self.parties.shelf.store.objects(target)
        told = json.loads(objects[key].content)
        name = f"{key} of {row.delivery} {when}, and"
        archive = objects.get(told["archive"]["key"])
        if archive is None or not archive.found.has(marks_of(row.delivery)):
            self.wrong(f"{name} {told['archive']['key']} is not there, or another delivery's")
            return
        md5 = hashlib.md5(archive.content, usedforsecurity=False).hexdigest()
        if (told["archive"]["size"], told["archive"]["md5"]) != (len(archive.content), md5):
            self.wrong(f"{name} tells of another archive than is there")
        if not self._is_archive_of(archive, row):
            self.wrong(f"{name} its archive is another one")
        found = [(f["path"], f["size"], f["md5"], f["crc32"]) for f in told["files"]]
        if found != [_digested(*file) for file in self._files_of(row)]:
            self.wrong(f"{name} tells {found} of its files")
        missing = [(f.get("fileId"), f.get("files", 1)) for f in told.get("missing", ())]
        if missing != [(each.file_id, each.files) for each in self._missing_of(row)]:
            self.wrong(f"{name} tells that {missing} are missing")

    def _manifest_is_of_what_is_there(
        self, target: MemoryTarget, key: str, there: MemoryObject, when: str
    ) -> None:
        """No manifest tells of an archive that another delivery has replaced."""
        beside = key.rpartition("/")[0] + f"/{MANIFEST_NAME}"
        manifest = self.parties.shelf.store.objects(target).get(beside)
        if manifest is None or beside == key:
            return
        of_archive = archive_key_of(manifest.content) == key
        if of_archive and manifest.found.marks != there.found.marks:
            self.wrong(f"{key} {when}, and {beside} tells of what it replaces")

    def _nothing_is_owed(self) -> None:
        database, log = self.parties.database, self.parties.log
        for name, table in (("outbox", database.outbox), ("arrival", database.arrivals)):
            left = list(table.items())
            if left:
                self.wrong(f"{len(left)} rows are left in {name}: {left[0][1]}")
        for _, owed in database.webhook_events.items():
            told = owed.owed.event
            self.wrong(f"{told.type} of {told.correlation_id} is owed to a webhook: {owed}")
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
        for what in self.clients.miscounted():
            self.wrong(what)

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
                if key.endswith(f"/{REPORT_NAME}"):
                    self._is_told_report(target, key, row)
                    continue
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
        there = self.parties.shelf.store.objects(target)[key]
        if row.delivery.archive_name != MANIFEST_NAME:
            if key.endswith(f"/{MANIFEST_NAME}"):
                self._manifest_tells_of_its_archive(target, key, row, "is there in the end")
            elif not self._is_archive_of(there, row):
                self.wrong(f"{key} is there in the end, and is not the archive of {row.delivery}")
            return
        told = row.delivery.key
        manifest = self.parties.shelf.store.objects(target).get(told)
        if manifest is None or not manifest.found.has(marks_of(row.delivery)):
            self.wrong(f"{key} of {row.delivery} is left, and its manifest is gone")
        elif key == told:
            lines = [missing_line(each) for each in self._missing_of(row)]
            if told_missing(manifest.content) != lines:
                self.wrong(f"{key} does not tell {lines}, which {row.delivery} lacks")
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


def _digested(name: str, content: bytes) -> tuple[str, int, str, str]:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return name, len(content), md5, f"{zlib.crc32(content):08x}"


def _may_have_completed(other: DeliveryRow, row: DeliveryRow) -> bool:
    until, is_anothers = other.completing_until, other.delivery.user != row.delivery.user
    return is_anothers and until is not None and until > row.delivery.requested_at


def _may_have_put(other: DeliveryRow, row: DeliveryRow) -> bool:
    put = other.delivery.attempt > 0 and other.state is not State.DONE
    return put and other.delivery.format == row.delivery.format == AS_FILES
