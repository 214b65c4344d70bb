"""The life of orders: granted, restored in turns, downloaded, done; retried, cancelled, expired.

Nothing here waits or speaks: time is the clock's, what is to be said is handed to `tell`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from compose.rs_order import events
from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import File
from compose.rs_order.clock import Clock
from compose.rs_order.cutting import cut, dataset_of
from compose.rs_order.order import Dataset, Order, OrderedFile, Suborder, User
from compose.rs_order.patterns import picks
from compose.rs_order.places import Places
from compose.rs_order.states import (
    FileState,
    Happening,
    OrderStatus,
    SuborderState,
    order_of,
    suborder_of,
)

Tell = Callable[[Order, events.Body], None]
T = TypeVar("T")


class RetryRefusedError(Exception):
    """An order can't be retried as it stands."""


class Orders:
    """All orders of the process."""

    def __init__(self, *, clock: Clock, behaviour: Behaviour, tell: Tell) -> None:
        self.clock = clock
        self.by_id: dict[int, Order] = {}
        self._behaviour = behaviour
        self._tell = tell
        self._places: Places[Suborder] = Places()
        self._files: dict[int, OrderedFile] = {}
        self._order_ids = itertools.count(1)
        self._file_ids = itertools.count(1)
        self._suborder_ids = itertools.count(1)
        self._task_ids = itertools.count(1)

    def grant(
        self,
        *,
        tenant: str,
        user: str,
        correlation_id: str,
        files: Iterable[File],
        order_id: int | None = None,
    ) -> Order:
        """Accept an order, and let it begin; `order_id` is the next one, or a given one."""
        switches = self._behaviour.switches
        order = Order(
            order_id=next(self._order_ids) if order_id is None else order_id,
            tenant=tenant,
            user=user,
            correlation_id=correlation_id,
            created_at=self.clock.now(),
        )
        order.fate = self._behaviour.faults.fate
        self.by_id[order.order_id] = order
        datasets: dict[str, list[File]] = {}
        for file in files:
            name = dataset_of(file.product_id, switches.datasets)
            datasets.setdefault(name, []).append(file)
        for of_dataset in datasets.values():
            dataset = Dataset(task_id=next(self._task_ids))
            order.datasets.append(dataset)
            for part in self._cut([(file, file.size) for file in of_dataset], _size_of_pair):
                suborder = self._make_suborder(order)
                for file, size in part:
                    ordered = OrderedFile(
                        file_id=next(self._file_ids),
                        file=file,
                        size=size,
                        dataset=dataset,
                        suborder=suborder,
                        external=picks(switches.external, file.path.name),
                    )
                    suborder.take(ordered)
                    dataset.files.append(ordered)
                    order.files[ordered.file_id] = self._files[ordered.file_id] = ordered
        self._live_until(order, self.clock.now() + self._lifetime(len(order.suborders)))
        late = switches.granted_late
        order.owes_granted = bool(late) and order.order_id % late == 0
        if not order.owes_granted:
            self._tell(order, events.granted(order))
        self._fill(order.owner)
        self._finish(order)
        return order

    def file(self, file_id: int) -> tuple[Order, OrderedFile] | None:
        """Return a file and its order, unless it is gone."""
        file = self._files.get(file_id)
        return None if file is None else (file.suborder.order, file)

    def happened(self, file: OrderedFile, what: Happening) -> None:
        """Something happened to a file: its order goes on."""
        file.happens(what)
        self._look(file.suborder)

    def retry(self, order: Order) -> None:
        """Make the files in error available again, in new suborders. Raises RetryRefusedError."""
        if not order.status.may_be_retried:
            raise RetryRefusedError("ORDER_MUST_BE_DONE_WITH_WARNING_OR_FAILED")
        made = 0
        for dataset in order.datasets:
            again = [
                file
                for file in dataset.files
                if file.state in (FileState.ERROR, FileState.DOWNLOAD_ERROR)
            ]
            for part in self._cut(again, _size_of):
                suborder = self._make_suborder(order)
                made += 1
                for file in part:
                    file.suborder.forget(file)
                    file.suborder = suborder
                    suborder.take(file)
                    file.happens(Happening.RETRIED)
        order.fate = self._behaviour.faults.fate
        order.move(OrderStatus.RUNNING)
        later = self.clock.now() + self._lifetime(made)
        self._live_until(order, max(order.expires_at, later))
        self._fill(order.owner)
        self._finish(order)

    def cancel(self, order_id: int) -> None:
        """Forget an order's files, and give its places back; one that there is not is ignored."""
        order = self.by_id.get(order_id)
        if order is not None:
            order.cancelled = True
            self._end(order, OrderStatus.DELETED)

    def _cut(self, files: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
        switches = self._behaviour.switches
        return cut(
            files,
            size_of=size_of,
            max_bytes=switches.suborder_bytes,
            max_files=switches.suborder_files,
        )

    def _make_suborder(self, order: Order) -> Suborder:
        suborder = Suborder(suborder_id=next(self._suborder_ids), order=order)
        order.suborders.append(suborder)
        self._places.ask(order.owner, suborder)
        return suborder

    # Lifetimes

    def _lifetime(self, suborders: int) -> float:
        switches = self._behaviour.switches
        return min((suborders + 2) * switches.cache_seconds, switches.longest_order_seconds)

    def _live_until(self, order: Order, when: float) -> None:
        order.expires_at = when
        self.clock.after(when - self.clock.now(), partial(self._expire, order))

    def _expire(self, order: Order) -> None:
        if order.expires_at <= self.clock.now():  # it was not retried meanwhile
            self._end(order, OrderStatus.EXPIRED)

    def _end(self, order: Order, how: OrderStatus) -> None:
        """End an order: its files go, its places are free. Nothing is said of that."""
        if order.status.gone:
            return
        order.move(how)
        for file_id in order.files:
            del self._files[file_id]
        for suborder in order.suborders:
            suborder.available = {}
            suborder.counts.clear()
            if suborder.state is not SuborderState.ENDED:
                suborder.move(SuborderState.ENDED)
            self._places.leave(order.owner, suborder)
        for dataset in order.datasets:
            dataset.files = []
        self._fill(order.owner)

    # Restoring

    def _fill(self, user: User) -> None:
        """Begin the suborders that come next."""
        for suborder in self._places.admit(user, self._behaviour.switches.user_places):
            self._begin(suborder)

    def _begin(self, suborder: Suborder) -> None:
        switches = self._behaviour.switches
        suborder.move(SuborderState.RESTORING)
        if suborder.order.fate == "stuck":
            return
        if not switches.restore_file_seconds:
            files = list(suborder.files.values())
            self.clock.after(switches.restore_seconds, partial(self._restored, suborder, files))
            return
        for number, file in enumerate(suborder.files.values(), start=1):
            seconds = switches.restore_seconds + number * switches.restore_file_seconds
            self.clock.after(seconds, partial(self._restored, suborder, [file]))

    def _restored(self, suborder: Suborder, files: Sequence[OrderedFile]) -> None:
        if suborder.order.status.gone:
            return
        switches = self._behaviour.switches
        for file in files:
            if file.suborder is not suborder:
                continue  # it was asked for too early, then retried
            fails = suborder.order.fate == "fail" or picks(
                switches.unrestorable, file.file.path.name
            )
            file.happens(Happening.LOST if fails else Happening.RESTORED)
            file.cached_until = self.clock.now() + switches.cache_seconds
        self._look(suborder)

    # Moving on

    def _look(self, suborder: Suborder) -> None:
        """Move a suborder on, its order, and its user's other suborders."""
        order = suborder.order
        now = suborder_of(suborder.counts)
        if suborder.state is not SuborderState.QUEUED and now is not suborder.state:
            suborder.move(now)
            if now is SuborderState.WAITING:
                self._say(
                    order,
                    events.suborder_done(
                        suborder,
                        errors=self._behaviour.faults.order_errors or self._errors(suborder.counts),
                        count_all=self._behaviour.switches.total_suborders == "all",
                    ),
                )
            else:
                self._places.leave(order.owner, suborder)
        self._finish(order)
        self._fill(order.owner)

    def _finish(self, order: Order) -> None:
        """Say what an order came to, once none of its files is PENDING."""
        if order.status is not OrderStatus.RUNNING or order.count(FileState.PENDING):
            return
        errors = sum(self._errors(suborder.counts) for suborder in order.suborders)
        order.move(order_of(len(order.files), errors))
        faults = self._behaviour.faults
        self._say(
            order,
            events.finished(
                order,
                errors=faults.order_errors or errors,
                error_type=faults.error_type,
                message="told to fail" if order.fate == "fail" else None,
            ),
        )

    def _errors(self, counts: Mapping[FileState, int]) -> int:
        count = counts.get(FileState.ERROR, 0)
        if self._behaviour.switches.broken_downloads_count:
            count += counts.get(FileState.DOWNLOAD_ERROR, 0)
        return count

    def _say(self, order: Order, event: events.Body) -> None:
        self._tell(order, event)
        if order.owes_granted:
            order.owes_granted = False
            self._tell(order, events.granted(order))


def _size_of(file: OrderedFile) -> int:
    return file.size


def _size_of_pair(pair: tuple[File, int]) -> int:
    return pair[1]
