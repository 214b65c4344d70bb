"""Tries what deliveries need of a folder, in hidden names, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator

from app.delivery.targets import TargetCheck
from app.errors import DeliveryError, TargetRefusedError
from sinks.stores.file.faults import translated
from sinks.stores.file.folders import Place
from sinks.stores.file.names import HIDDEN, new_id
from sinks.stores.file.uploads import LOCKS

_CHECK = f"{HIDDEN}check-"
_LEFT_AFTER = 3600.0  # seconds: no trial takes that long, nor do clocks differ by it
_TEXT = b"rs-delivery looks whether it can write here"


def try_place(place: Place) -> list[TargetCheck]:
    """Return what each step found; the first that fails ends it.

    Steps: the folder is there, and room in it; a file can be written, and is read as it was; there
    are locks; an archive can get its mode and group; it can appear in one step.
    """
    found: list[TargetCheck] = []
    for step, check in _steps(place):
        try:
            check()
        except OSError as error:
            flaw = str(translated(error, place.target, f"see that it is {step}"))
        except DeliveryError as error:
            flaw = str(error)
        else:
            found.append(TargetCheck(check=step))
            continue
        return [*found, TargetCheck(check=step, flaw=flaw)]
    return found


def _steps(place: Place) -> Iterator[tuple[str, Callable[[], None]]]:
    system = place.system
    first, second = (f"{_CHECK}{new_id()}" for _ in range(2))
    with contextlib.ExitStack() as stack:
        opened: list[int] = []  # the folder, the file, the file once more

        def reach() -> None:
            opened.append(stack.enter_context(place.open()))

        def write() -> None:
            _sweep(place, opened[0])
            opened.append(system.make_file(first, at=opened[0]))
            stack.callback(_remove, place, opened[0], first, second)
            stack.callback(system.close, opened[1])
            system.write(opened[1], _TEXT, 0)
            system.sync(opened[1])
            system.forget(opened[1], 0, len(_TEXT))
            if system.read(opened[1], len(_TEXT), 0) != _TEXT:
                raise TargetRefusedError(f"{place.target} gives other bytes back than were written")

        def lock() -> None:
            system.lock(opened[1], LOCKS)
            opened.append(system.open_file(first, at=opened[0], write=True))
            stack.callback(system.close, opened[2])
            try:
                system.lock(opened[2], LOCKS)
            except BlockingIOError:
                return
            raise TargetRefusedError(
                f"{place.target} gives one lock twice: mount its file system with locks"
            )

        def appear() -> None:
            try:
                system.link(first, second, at=opened[0], to_at=opened[0])
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                    raise
                system.move(first, second, at=opened[0], to_at=opened[0])

        yield "reachable", reach
        yield "free", lambda: place.check_room(opened[0], 0)
        yield "writable", write
        yield "locked", lock
        yield "shared", lambda: place.own(opened[1], place.target.mode)
        yield "linked", appear


def _remove(place: Place, folder: int, *names: str) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            place.system.unlink(name, at=folder)


def _sweep(place: Place, folder: int) -> None:
    """Remove what workers left here that died in a trial."""
    for name in place.system.names(folder):
        if name.startswith(_CHECK):
            with contextlib.suppress(FileNotFoundError):  # another one that ends just now
                made = place.system.describe(name, at=folder).st_mtime
                if time.time() - made > _LEFT_AFTER:
                    place.system.unlink(name, at=folder)
