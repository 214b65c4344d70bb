"""Tables: what is committed, by key. A row is a frozen value; another version takes its place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Table(Generic[K, R]):
    """Committed rows in the order in which they were inserted, also by a group that never changes.

    Read through a session, which sees its own changes, too.
    """

    def __init__(self, name: str, *, group: Callable[[R], Hashable] | None = None) -> None:
        self.name = name
        self._group = group
        self._rows: dict[K, R] = {}
        self._numbers = itertools.count(1)
        self._groups: dict[Hashable, dict[K, None]] = {}

    def __repr__(self) -> str:
        return f"table {self.name}"

    def number(self) -> int:
        """Return the next number for a key; those of transactions that fail are lost."""
        return next(self._numbers)

    def get(self, key: K) -> R | None:
        """Return a row."""
        return self._rows.get(key)

    def items(self) -> Iterator[tuple[K, R]]:
        """Iterate over all rows."""
        return iter(self._rows.items())

    def of(self, group: Hashable) -> Iterator[tuple[K, R]]:
        """Iterate over the rows of a group."""
        return ((key, self._rows[key]) for key in self._groups.get(group, ()))

    def group(self, row: R) -> Hashable:
        """Return the group of a row; None where there are none."""
        return None if self._group is None else self._group(row)

    def put(self, key: K, row: R) -> None:
        """Commit a row."""
        self._rows[key] = row
        if self._group is not None:
            self._groups.setdefault(self._group(row), {})[key] = None

    def remove(self, key: K) -> None:
        """Commit that a row is gone."""
        row = self._rows.pop(key, None)
        if row is not None and self._group is not None:
            group = self._group(row)
            self._groups[group].pop(key)
            if not self._groups[group]:
                del self._groups[group]
