"""Locks as PostgreSQL has them: on rows, on names, on the end of a transaction.

They are granted in the order of asking and kept until their transaction ends. Of transactions that
wait for each other, the one that closes the circle is refused, at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from app.errors import StoreUnavailableError


class Mode(Enum):
    """How a lock is held. Two that only share are held side by side."""

    KEY_SHARE = auto()  # another row refers to this one: it may change, and must not go
    NO_KEY_UPDATE = auto()  # it is changed, but for what others refer to
    UPDATE = auto()  # nothing beside it


_SIDE_BY_SIDE = frozenset({Mode.KEY_SHARE, Mode.NO_KEY_UPDATE})


def _exclude(mode: Mode, other: Mode) -> bool:
    return Mode.KEY_SHARE not in (mode, other) or not {mode, other} <= _SIDE_BY_SIDE


@dataclass(eq=False, slots=True)
class _Waiter:
    owner: object
    mode: Mode
    granted: asyncio.Future[None]


class Locks:
    """Who has locked what, and who waits. An owner is a transaction."""

    def __init__(self, *, timeout: float | None = None) -> None:
        """`timeout`: seconds that an owner waits."""
        self._timeout = timeout
        self._held: dict[Hashable, dict[object, Mode]] = {}
        self._waiting: dict[Hashable, list[_Waiter]] = {}

    def held(self, key: Hashable, owner: object) -> Mode | None:
        """Return how an owner has a lock; None if not at all."""
        return self._held.get(key, {}).get(owner)

    def is_free(self, key: Hashable, owner: object, mode: Mode) -> bool:
        """Whether an owner has a lock, or would get it without a wait."""
        return self._has(key, owner, mode) or not any(self._before(key, owner, mode))

    def _has(self, key: Hashable, owner: object, mode: Mode) -> bool:
        held = self.held(key, owner)
        return held is not None and held.value >= mode.value

    def hold(self, key: Hashable, owner: object, mode: Mode) -> None:
        """Get a lock that no other owner can have, or wait for."""
        self._held.setdefault(key, {})[owner] = mode

    async def take(self, key: Hashable, owner: object, mode: Mode) -> None:
        """Get a lock.

        Raises StoreUnavailableError when its holders wait for this owner, or keep it for too long.
        """
        if not await self.take_within(key, owner, mode, self._timeout):
            raise StoreUnavailableError(
                f"another transaction keeps a lock for more than {self._timeout:g} s"
            )

    async def take_within(
        self, key: Hashable, owner: object, mode: Mode, longest: float | None
    ) -> bool:
        """Get a lock; False where its holders keep it for so many seconds (None: they may).

        Raises StoreUnavailableError when they wait for this owner.
        """
        if self._has(key, owner, mode):
            return True
        if self.is_free(key, owner, mode):
            self.hold(key, owner, mode)
            return True
        waiter = _Waiter(owner, mode, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(key, []).append(waiter)
        try:
            if owner in self._blockers(owner):
                raise StoreUnavailableError(
                    "two transactions wait for each other; this one is rolled back"
                )
            async with asyncio.timeout(longest):
                await waiter.granted
        except TimeoutError:
            return False
        finally:
            if waiter in self._waiting.get(key, ()):
                self._waiting[key].remove(waiter)
                self._grant(key)
        return True

    def release(self, key: Hashable, owner: object) -> None:
        """Let go of one lock."""
        if self._held.get(key, {}).pop(owner, None) is not None:
            self._grant(key)

    def release_all(self, owner: object) -> None:
        """Let go of all that an owner has locked, or waits for."""
        for key, waiters in list(self._waiting.items()) if self._waiting else ():
            for waiter in [waiter for waiter in waiters if waiter.owner is owner]:
                waiters.remove(waiter)
                self._grant(key)
        for key in [key for key, holders in self._held.items() if owner in holders]:
            self.release(key, owner)

    def _before(self, key: Hashable, owner: object, mode: Mode) -> Iterator[object]:
        """Iterate over the owners that a lock would have to wait for."""
        for holder, held_mode in self._held.get(key, {}).items():
            if holder is not owner and _exclude(held_mode, mode):
                yield holder
        for waiter in self._waiting.get(key, ()):
            if waiter.owner is owner:
                return
            if _exclude(waiter.mode, mode) and owner not in self._held.get(key, {}):
                yield waiter.owner

    def _blockers(self, owner: object) -> set[object]:
        """Return all that an owner waits for, and what those wait for."""
        found: set[object] = set()
        asked = [owner]
        while asked:
            blocked = asked.pop()
            for key, waiters in self._waiting.items():
                for waiter in waiters:
                    if waiter.owner is blocked:
                        new = set(self._before(key, blocked, waiter.mode)) - found
                        found |= new
                        asked += new
        return found

    def _grant(self, key: Hashable) -> None:
        """Give a lock to those that waited longest, as many as can hold it side by side."""
        if key not in self._waiting:
            if not self._held.get(key):
                self._held.pop(key, None)
            return
        for waiter in list(self._waiting.get(key, ())):
            if any(self._before(key, waiter.owner, waiter.mode)):
                continue
            self._waiting[key].remove(waiter)
            if not waiter.granted.done():
                self._held.setdefault(key, {})[waiter.owner] = waiter.mode
                waiter.granted.set_result(None)
        if not self._held.get(key):
            self._held.pop(key, None)
        if not self._waiting.get(key):
            self._waiting.pop(key, None)
