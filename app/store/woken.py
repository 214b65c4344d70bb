"""What workers are woken for: the words that a commit tells, and what is published after it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from app.delivery.outgoing import OutgoingMessage
from app.delivery.states import Work


def works_of(told: Iterable[str]) -> frozenset[Work]:
    """Return what work there is by what was told; any, where a later version tells of another."""
    known = {work.value: work for work in Work}
    found = [known.get(word) for word in told]
    return frozenset(Work) if None in found else frozenset(work for work in found if work)


def unheard(_works: frozenset[Work]) -> None:
    """Leave it with what the commit tells: this process hears of it by its line, or not at all."""


def unpublished(_hints: Collection[OutgoingMessage]) -> None:
    """Leave it with what the commit tells: this process has no way to Kafka."""
