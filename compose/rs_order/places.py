"""The places of users: how many suborders are restored, or wait for download, at a time."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Places(Generic[T]):
    """Who has a place, and who comes next: in the order of asking, over all orders of a user."""

    def __init__(self) -> None:
        self._queues: defaultdict[Hashable, deque[T]] = defaultdict(deque)
        self._taken: defaultdict[Hashable, set[T]] = defaultdict(set)

    def ask(self, user: Hashable, suborder: T) -> None:
        """Queue for one of the user's places."""
        self._queues[user].append(suborder)

    def leave(self, user: Hashable, suborder: T) -> None:
        """Give the place back, or leave the queue."""
        self._taken[user].discard(suborder)
        if suborder in self._queues[user]:
            self._queues[user].remove(suborder)

    def admit(self, user: Hashable, places: int) -> list[T]:
        """Give the places that are free to those who come next, and return them; 0: all come."""
        queue, taken = self._queues[user], self._taken[user]
        admitted = []
        while queue and (not places or len(taken) < places):
            admitted.append(queue.popleft())
            taken.add(admitted[-1])
        return admitted
