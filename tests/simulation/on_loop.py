"""Contract tests on a simulated loop: for those twins that a night drives."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from tests.simulation.loop import SimulatedLoop

C = TypeVar("C", bound=type)

SEEDS = range(5)


def simulated(made: str) -> Callable[[C], C]:
    """Let each test of a class run on a simulated loop, with one seed after the other.

    The fixture of that name makes, of a seed, what a test is given by it. Tasks take their turns
    as asyncio gives them: what is asked is in which order a twin does things, not its clients.
    """

    def decorate(contract: C) -> C:
        for name, test in inspect.getmembers(contract, inspect.iscoroutinefunction):
            if name.startswith("test_"):
                setattr(contract, name, _with_each_seed(test, made))
        return contract

    return decorate


def _with_each_seed(test: Callable[..., Coroutine[Any, Any, None]], made: str) -> Any:
    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        make = fixtures.pop(made)
        for seed in SEEDS:
            run_simulated(test(*args, **fixtures, **{made: make(seed)}), seed=seed)

    return run


def run_simulated(work: Coroutine[Any, Any, None], *, seed: int) -> None:
    """Run something on a loop of its own; what it leaves behind is ended."""
    loop = SimulatedLoop(Random(seed), disorder=0.0)
    try:
        loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
