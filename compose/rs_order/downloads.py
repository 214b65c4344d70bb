"""What a GET of a file comes to: its status, the user's quota, and the state that follows."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from compose.rs_order.behaviour import Behaviour
from compose.rs_order.order import Order, OrderedFile, User
from compose.rs_order.orders import Orders
from compose.rs_order.states import FileState, Happening


class RefusedError(Exception):
    """A download is answered by another status than 200."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Reading:
    """A download that was answered 200."""

    def __init__(self, close: Callable[[Happening], None]) -> None:
        self._close = close
        self._open = True

    def end(self) -> None:
        """Count the file as read to its end: who has its last byte may ask for the next at once."""
        self.close(Happening.READ)

    def close(self, how: Happening) -> None:
        """Count the download as over; only the first time counts."""
        if self._open:
            self._open = False
            self._close(how)


class Downloads:
    """Counts the downloads of users."""

    def __init__(self, orders: Orders, behaviour: Behaviour) -> None:
        self._orders = orders
        self._behaviour = behaviour
        self.begun: Counter[User] = Counter()
        self.open: Counter[User] = Counter()

    @contextlib.contextmanager
    def reading(self, order: Order, file: OrderedFile) -> Iterator[Reading]:
        """Count a download, from its answer to its end; raises RefusedError.

        Whatever is not read to its end, for whatever reason, is an error of that download, but of a
        file that rs-order does not follow to its end: large ones, referenced ones.
        """
        try:
            self._allow(order, file)
        except RefusedError as refused:
            file.refused[refused.status] += 1
            self._orders.happened(file, Happening.BROKEN_OFF)
            raise
        self.begun[order.owner] += 1
        self.open[order.owner] += 1
        file.begun += 1
        file.open += 1
        reading = Reading(partial(self._closed, order, file))
        try:
            yield reading
        finally:
            reading.close(Happening.BROKEN_OFF)

    def _closed(self, order: Order, file: OrderedFile, how: Happening) -> None:
        self.open[order.owner] -= 1
        file.open -= 1
        file.ended += how is Happening.READ
        if not (order.status.gone or self._is_not_followed(file)):
            self._orders.happened(file, how)

    def _is_not_followed(self, file: OrderedFile) -> bool:
        large = self._behaviour.switches.large_file_bytes
        return file.external or bool(large and file.size >= large)

    def _allow(self, order: Order, file: OrderedFile) -> None:
        faults, switches, user = self._behaviour.faults, self._behaviour.switches, order.owner
        if faults.use("answers_500"):
            raise RefusedError(500, "told to fail")
        if refusal := faults.refusal_of(file.file.path.name):
            raise RefusedError(refusal, "told to refuse")
        if file.state is FileState.PENDING or faults.use("not_ready"):
            raise RefusedError(202, "the file is not restored yet")
        if file.state is FileState.ERROR:
            raise RefusedError(422, "the file could not be restored")
        if self._orders.clock.now() >= file.cached_until:
            raise RefusedError(410, "the file has left the cache")
        if file.open and switches.second_get:
            raise RefusedError(switches.second_get, "the file is being downloaded already")
        if switches.quota and self.begun[user] >= switches.quota:
            raise RefusedError(429, f"the quota of {switches.quota} downloads is used up")
        at_once = switches.simultaneous_downloads
        if at_once and self.open[user] >= at_once:
            raise RefusedError(429, f"{at_once} downloads are under way already")
