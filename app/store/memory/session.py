"""One transaction, as PostgreSQL's READ COMMITTED has it.

A statement sees what was committed before it, and what its own transaction did. Who would change a
row that another transaction has changed waits for its end, and looks again: a row that no longer
fits is left alone. What was changed appears as a whole, at the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

from app.errors import StoreUnavailableError
from app.store.memory.locks import Locks, Mode
from app.store.memory.tables import Table

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Session:
    """A transaction: its own changes, and the locks that it has."""

    def __init__(self, locks: Locks, open_sessions: dict[Session, None], now: datetime) -> None:
        self.now = now  # when it began: the same in each of its statements
        self.failed = False  # a statement has: it can only be rolled back
        self.read_only = False  # as on a server that is a standby now
        self._locks = locks
        self._open = open_sessions
        self.told: dict[str, None] = {}  # with the commit, to those that listen
        self._changes: dict[Table[Any, Any], dict[Any, Any]] = {}  # None: the row is gone
        self._open[self] = None
        self._locks.hold(self, self, Mode.UPDATE)  # others wait for the end by it

    # What it sees.

    def get(self, table: Table[K, R], key: K) -> R | None:
        """Return a row."""
        changes = self._changes.get(table, {})
        row: R | None = changes[key] if key in changes else table.get(key)
        return row

    def rows(self, table: Table[K, R], group: Hashable = None) -> Iterator[tuple[K, R]]:
        """Iterate over the rows of a table, or of one of its groups, in the order of insertion."""
        committed = table.items() if group is None else table.of(group)
        changes: dict[K, R | None] | None = self._changes.get(table)
        if not changes:
            yield from committed
            return
        known = set()
        for key, row in committed:
            known.add(key)
            current = changes.get(key, row)
            if current is not None:
                yield key, current
        for key, changed in changes.items():
            if key not in known and changed is not None and group in (None, table.group(changed)):
                yield key, changed

    def where(
        self, table: Table[K, R], fits: Callable[[R], bool], *, group: Hashable = None
    ) -> list[tuple[K, R]]:
        """Return the rows that fit, of a table or of one of its groups."""
        return [(key, row) for key, row in self.rows(table, group) if fits(row)]

    # What it locks. Rows only where it may write.

    def write(self) -> None:
        """Raise StoreUnavailableError where nothing may be written."""
        if self.read_only:
            raise StoreUnavailableError("the transaction is read-only; it is tried again")

    async def lock(self, name: Hashable) -> None:
        """Lock a name until the end; wait for others that have."""
        await self._locks.take(name, self, Mode.UPDATE)

    async def lock_within(self, name: Hashable, longest: timedelta) -> bool:
        """Lock a name until the end; False where others have it for so long."""
        return await self._locks.take_within(name, self, Mode.UPDATE, longest.total_seconds())

    async def lock_row(
        self,
        table: Table[K, R],
        key: K,
        fits: Callable[[R], bool] = lambda _row: True,
        *,
        mode: Mode = Mode.NO_KEY_UPDATE,
    ) -> R | None:
        """Lock a row that fits, and return it; None if there is none, or after a wait no longer."""
        self.write()
        row = self.get(table, key)
        if row is None or not fits(row):
            return None
        lock = (table, key)
        had = self._locks.held(lock, self)
        await self._locks.take(lock, self, mode)
        row = self.get(table, key)
        if row is not None and fits(row):
            return row
        if had is None:
            self._locks.release(lock, self)
        return None

    def skips(self, table: Table[K, R], key: K, mode: Mode = Mode.UPDATE) -> bool:
        """Whether others have locked a row, so that `FOR UPDATE SKIP LOCKED` leaves it out."""
        return not self._locks.is_free((table, key), self, mode)

    # What it changes.

    async def update(
        self,
        table: Table[K, R],
        key: K,
        change: Callable[[R], R],
        fits: Callable[[R], bool] = lambda _row: True,
    ) -> R | None:
        """Change a row that fits, and return it as it is now; None when there is none."""
        row = await self.lock_row(table, key, fits)
        if row is None:
            return None
        return self.put(table, key, change(row))

    async def delete(
        self, table: Table[K, R], key: K, fits: Callable[[R], bool] = lambda _row: True
    ) -> R | None:
        """Delete a row that fits, and return it as it was; None when there was none."""
        row = await self.lock_row(table, key, fits, mode=Mode.UPDATE)
        if row is not None:
            self._changes.setdefault(table, {})[key] = None
        return row

    async def insert(
        self,
        table: Table[K, R],
        key: K,
        row: R,
        *,
        unless: Callable[[R], bool] = lambda _row: False,
        group: Hashable = None,
    ) -> bool:
        """Insert a row; False when there is one with its key, or one of the group that fits.

        While another transaction inserts, changes or deletes such a row, its end is waited for.
        """
        self.write()
        while (other := self._decides(table, key, unless)) is not None:
            await self._locks.take(other, self, Mode.KEY_SHARE)
            self._locks.release(other, self)
        if self.get(table, key) is not None or self.where(table, unless, group=group):
            return False
        self.put(table, key, row)
        return True

    def _decides(self, table: Table[K, R], key: K, unless: Callable[[R], bool]) -> Session | None:
        """Return another transaction that decides whether a row may be inserted."""
        for session in self._open:
            if session is self:
                continue
            if session.has_changed(table, key, unless):
                return session
        return None

    def has_changed(self, table: Table[K, R], key: K, fits: Callable[[R], bool]) -> bool:
        """Whether it has changed a row with this key, or one that fits, or did."""
        for changed, row in self._changes.get(table, {}).items():
            versions = [version for version in (row, table.get(changed)) if version is not None]
            if changed == key or any(map(fits, versions)):
                return True
        return False

    def put(self, table: Table[K, R], key: K, row: R) -> R:
        """Change a row that is locked already, or no other session knows."""
        self.write()
        self._changes.setdefault(table, {})[key] = row
        return row

    def remove(self, table: Table[K, R], key: K) -> None:
        """Delete a row that is locked already, or goes with one that is."""
        self.write()
        self._changes.setdefault(table, {})[key] = None

    def notify(self, word: str) -> None:
        """Tell those that listen, with the commit; what is said twice is told once."""
        self.told[word] = None

    # How it ends.

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._changes or self.told)

    def commit(self) -> None:
        """Let others see what was changed.

        Raises RuntimeError when a statement of it has failed, though its block went on.
        """
        if self.failed:
            raise RuntimeError("a transaction was rolled back: a statement of it had failed")
        for table, changes in self._changes.items():
            for key, row in changes.items():
                if row is None:
                    table.remove(key)
                else:
                    table.put(key, row)
        self.roll_back()

    def roll_back(self) -> None:
        """Forget what was changed."""
        if self not in self._open:
            return
        self._changes = {}
        self._open.pop(self, None)
        self._locks.release_all(self)
