"""Orders that are cut into suborders, which are restored in turns: the stand-in's own model.

A user has two places over all orders (`compose.rs_order.orders`): what has none waits until a
suborder that has one is wholly downloaded, or its order cancelled. So a client that waits for DONE
before the first download may wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from app.delivery.order_facts import DatasetFacts, OrderFacts
from app.errors import SourceNotReadyError, SourceRefusedError
from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import File
from compose.rs_order.clock import Clock
from compose.rs_order.order import Order, OrderedFile
from compose.rs_order.orders import Orders
from compose.rs_order.states import FileState, Happening, OrderStatus, SuborderState
from compose.rs_order.switches import UNLIMITED
from tests.simulation.weather import by_no_process

_PLACES = 2  # of a user
_FILES = (0, 0, 1, 1, 2)  # of a suborder, as it is drawn; 0: all of the order
_LONGEST = 4.0  # seconds that a suborder is being restored
_READY = (SuborderState.WAITING, SuborderState.ENDED)
Tell = Callable[[Order, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class _File(File):
    """A file that is nowhere but here."""

    content: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)


class _Clock(Clock):
    """The clock of the night."""

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        super().after(seconds, action)
        by_no_process(seconds, self.run_due)


class Suborders:
    """All orders, and the places of their users."""

    def __init__(self, draws: Random, tell: Tell, *, knows_all: bool = False) -> None:
        """`tell` is called with what is said of an order, in the order in which it happens.

        One that `knows_all` tells each order as a whole; else it does not of every third.
        """
        self._draws = draws
        self._knows_all = knows_all
        self.lost: dict[str, str] = {}  # by their names, files that are never restored
        self._behaviour = Behaviour()
        clock = _Clock(asyncio.get_running_loop().time)
        self._orders = Orders(clock=clock, behaviour=self._behaviour, tell=tell)

    def grant(self, files: Mapping[str, bytes], *, fails: bool, **order: Any) -> None:
        """Accept an order of these files, by name; what it `fails` to restore is told as FAILED."""
        self._behaviour.switches = UNLIMITED.model_copy(
            update={
                "user_places": _PLACES,
                "suborder_files": self._draws.choice(_FILES),
                "restore_seconds": self._draws.uniform(0.05, _LONGEST),
                "unrestorable": f"^({'|'.join(self.lost)})$" if self.lost else "",
            }
        )
        self._behaviour.faults.order = "fail" if fails else None
        held = [
            _File(product_id="P", path=Path(name), data_type="RAWDATA", content=content)
            for name, content in files.items()
        ]
        self._orders.grant(files=held, **order)

    def cancel(self, number: int) -> None:
        """Forget an order: its places are free."""
        self._orders.cancel(number)

    def available(self, number: int, suborder: int | None) -> Iterator[tuple[int, str, bytes]]:
        """Iterate over the files that can be downloaded: their ids, names and contents.

        Those of an order, or of one of its suborders. Raises SourceNotReadyError, and
        SourceRefusedError.
        """
        order = self._orders.by_id[number]
        found, ready = order.available(), order.status is not OrderStatus.RUNNING
        if suborder is not None:
            named = next((cut for cut in order.suborders if cut.suborder_id == suborder), None)
            if named is None:
                raise SourceRefusedError(f"order {number} has no suborder {suborder}")
            found, ready = list(named.available.values()), named.state in _READY
        if not ready:
            raise SourceNotReadyError(f"suborder {suborder} of order {number} is not finished")
        for file in found:
            yield file.file_id, file.file.path.name, _content(file)

    def facts(self, number: int) -> OrderFacts | None:
        """Tell about an order as a whole; None where it is not told, as by some versions."""
        order = self._orders.by_id[number]
        if number % 3 == 0 and not self._knows_all:
            return None
        return OrderFacts(
            status=order.status,
            waiting_for_user=order.waiting_for_user,
            available=order.count(FileState.AVAILABLE),
            in_error=order.count(FileState.ERROR),
            datasets=tuple(
                DatasetFacts(dataset_id=part.task_id, files=len(part.files), size=part.size)
                for part in order.datasets
            ),
        )

    def every_file(self, number: int) -> Iterator[tuple[int, str, bytes, str, int]]:
        """Iterate over all files of an order: ids, names, contents, states, suborders."""
        for file_id, file in self._orders.by_id[number].files.items():
            suborder = file.suborder.suborder_id
            yield file_id, file.file.path.name, _content(file), file.state, suborder

    def download(self, number: int, file_id: int) -> bytes:
        """Return a file, which is downloaded by that. Raises SourceNotReadyError."""
        file = self._orders.by_id[number].files[file_id]
        if file.state is FileState.PENDING:
            self._orders.happened(file, Happening.BROKEN_OFF)
            raise SourceNotReadyError(f"file {file_id} is not restored yet")
        self._orders.happened(file, Happening.READ)
        return _content(file)

    def name_of(self, number: int, file_id: int) -> str:
        """Return the name of a file."""
        return self._orders.by_id[number].files[file_id].file.path.name

    def break_off(self, number: int, file_id: int) -> None:
        """Note that a download of a file was refused."""
        self._orders.happened(self._orders.by_id[number].files[file_id], Happening.BROKEN_OFF)

    def kept(self) -> Iterator[int]:
        """Iterate over the orders that keep a place of their user, or wait for one."""
        for order in self._orders.by_id.values():
            if any(suborder.state is not SuborderState.ENDED for suborder in order.suborders):
                yield order.order_id


def files_of(order: Order) -> dict[int, bytes]:
    """Return the contents of an order's files, by their ids."""
    return {file_id: _content(file) for file_id, file in order.files.items()}


def _content(file: OrderedFile) -> bytes:
    assert isinstance(file.file, _File)
    return file.file.content
