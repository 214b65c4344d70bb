"""Pages of a listing, in the form of Spring's HATEOAS."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Page:
    """Which entries are asked for."""

    number: int
    size: int
    path: str

    @classmethod
    def of(cls, request: web.Request) -> Page:
        """Read `page` and `size`. Raises HTTPBadRequest."""
        try:
            number, size = int(request.query.get("page", 0)), int(request.query.get("size", 20))
        except ValueError:
            number, size = -1, -1
        if number < 0 or size < 1:
            raise web.HTTPBadRequest(text="page must be 0 or more, size 1 or more")
        return cls(number=number, size=size, path=request.path)

    def chosen(self, found: Sequence[T]) -> Sequence[T]:
        """Return the entries of this page."""
        return found[self.number * self.size : (self.number + 1) * self.size]

    def body(self, entries: Sequence[Mapping[str, Any]], *, total: int) -> dict[str, Any]:
        """Return the page; `total` is how many entries there are on all."""
        pages = -(-total // self.size)
        following = f"{self.path}?page={self.number + 1}&size={self.size}"
        return {
            "metadata": {
                "size": self.size,
                "totalElements": total,
                "totalPages": pages,
                "number": self.number,
            },
            "content": list(entries),
            "links": [{"rel": "next", "href": following}] if self.number + 1 < pages else [],
        }


class Shuffle:
    """Puts what is unordered in another order each time, the same in each run."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def order(self, found: Sequence[T]) -> Sequence[T]:
        """Return a view of them in the next order."""
        return _Shuffled(found, next(self._numbers))


class _Shuffled(Sequence[T]):
    """Steps through a sequence by a number that has no divisor in common with its length."""

    def __init__(self, found: Sequence[T], number: int) -> None:
        self._found = found
        self._first = number
        steps = range(1 + number, 1 + number + len(found))
        self._step = next((step for step in steps if math.gcd(step, len(found)) == 1), 1)

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self._at(range(*index.indices(len(self)))))
        return next(self._at([index]))

    def _at(self, indices: Sequence[int]) -> Iterator[T]:
        for index in indices:
            yield self._found[(self._first + index * self._step) % len(self._found)]
