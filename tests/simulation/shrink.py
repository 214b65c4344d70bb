"""A night that failed, made as small as it can be while it still fails in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tests.simulation.night import Night, play
from tests.simulation.plan import Plan

_MAX_PLAYS = 300


def kinds(night: Night) -> set[str]:
    """Return what is wrong with a night, without the names and numbers that differ each time."""
    return {re.sub(r"[a-z]-?\d+\S*|\d+", "#", what)[:80] for what in night.wrong}


def shrink(night: Night, *, play: Callable[[Plan], Night] = play) -> Night:
    """Leave out what the failure does not need: requests, disasters, steps, faults, disorder."""
    wanted = kinds(night)
    plays = 0
    smaller = True
    while smaller:
        smaller = False
        for plan in _smaller(night.plan):
            if plays == _MAX_PLAYS:
                return night
            plays += 1
            tried = play(plan)
            if kinds(tried) & wanted:
                night = tried
                smaller = True
                break
    return night


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Iterate over plans with less in them: halves first, then one thing less."""
    for name in ("wishes", "disasters", "ambushes", "steps"):
        for fewer in _fewer(getattr(plan, name)):
            changes: dict[str, Any] = {name: tuple(fewer)}
            yield replace(plan, **changes)
    for fewer in _fewer(sorted(plan.faults)):
        yield replace(plan, faults={name: plan.faults[name] for name in fewer})
    if plan.disorder:
        yield replace(plan, disorder=0.0)
    if any(plan.clocks):
        yield replace(plan, clocks=tuple(0.0 for _ in plan.clocks))
    for number, wish in enumerate(plan.wishes):
        plain = replace(wish, again=0, twice_after=None, cancelled_after=None)
        if plain != wish:
            changed = [*plan.wishes]
            changed[number] = plain
            yield replace(plan, wishes=tuple(changed))


def _fewer(things: Sequence[Any]) -> Iterator[Sequence[Any]]:
    size = len(things)
    while size:
        for start in range(0, len(things), size):
            yield [*things[:start], *things[start + size :]]
        size //= 2
