"""What saves checkpoints disturbs no archive, and is disturbed by none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.delivery.checkpoint import Boundary, Step
from app.errors import StoreUnavailableError
from sinks.pipeline import checkpoints
from sinks.pipeline.checkpoints import Checkpoints

STEP = Step(
    follows=0,
    part_size=64,
    boundary=Boundary(parts=1, md5_state=bytes(16), members=0, crc=0),
    parts=[],
    members=[],
)


class Archive:
    """Has one step to save."""

    def __init__(self) -> None:
        self.done: list[Step] = []

    def step(self) -> Step | None:
        return None if self.done else STEP

    def saved(self, step: Step) -> None:
        self.done.append(step)


async def _fails(error: Exception) -> bool:
    raise error


async def _never() -> bool:
    await asyncio.Event().wait()
    return True


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(lambda: _fails(StoreUnavailableError("away")), id="away"),
        pytest.param(lambda: _fails(ValueError("a fault")), id="a fault"),
        pytest.param(_never, id="silent"),
    ],
)
async def test_what_could_not_be_saved_is_saved_with_the_next_one(
    first: Callable[[], Awaitable[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_TIMEOUT", 0.01)
    tries = [first]

    async def save(_step: Step) -> bool:
        return await tries.pop()() if tries else True

    archive: Any = Archive()
    saving = Checkpoints(archive, save)
    await saving.save()
    assert archive.done == []
    await saving.save()
    assert archive.done == [STEP]
