"""Events that were lost with their topic are due again."""

from __future__ import annotations

from typing import Any, cast

import pytest

from app.delivery.ports import Arrivals
from app.usecases.reconcile import topics_lost


class Lost:
    """Notes whether all events were lost."""

    def __init__(self) -> None:
        self.all = False

    async def all_lost(self) -> None:
        self.all = True


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        (["delivery.requests"], True),
        (["delivery.progress", "delivery.requests"], True),
        (["delivery.progress"], False),
        ([], False),
    ],
)
async def test_events_are_due_again_when_a_topic_is_missing_that_agents_read(
    missing: list[str], lost: bool
) -> None:
    arrivals: Any = Lost()
    consumed = ("delivery.requests", "delivery.cancels")
    await topics_lost(missing, consumed=consumed, arrivals=cast("Arrivals", arrivals))
    assert arrivals.all is lost
