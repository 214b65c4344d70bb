"""Every order in which requests of several clients of a store may be carried out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast


async def at_once() -> None:
    """Let a request be carried out when it is sent."""


@dataclass(kw_only=True)
class Model:
    """A store's rules: `turn` is awaited before each request, which is then carried out whole."""

    turn: Callable[[], Awaitable[None]] = at_once


ModelT = TypeVar("ModelT", bound=Model)


@dataclass
class Course:
    """Several who make requests, one at a time, in an order that is given."""

    model: Model
    waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    steps: list[str] = field(default_factory=list)

    async def turn(self) -> None:
        name = cast("asyncio.Task[None]", asyncio.current_task()).get_name()
        self.waiting[name] = called = asyncio.get_running_loop().create_future()
        await called

    async def run(
        self, actors: dict[str, Callable[[], Coroutine[Any, Any, None]]], order: Sequence[int]
    ) -> list[int]:
        """Let each in `order` (an index of those that want a turn) take its next step.

        Behind its end, the first. Returns from how many each was chosen.
        """
        self.model.turn = self.turn
        tasks = [asyncio.create_task(actor(), name=name) for name, actor in actors.items()]
        for task in tasks:
            task.add_done_callback(lambda task: self.done.add(task.get_name()))
        choices: list[int] = []
        while True:
            while len(self.waiting) + len(self.done) < len(tasks):
                await asyncio.sleep(0)
            if not self.waiting:
                break
            ready = sorted(self.waiting)
            name = ready[order[len(choices)] if len(choices) < len(order) else 0]
            choices.append(len(ready))
            self.steps.append(name)
            self.waiting.pop(name).set_result(None)
        for task in tasks:
            task.result()
        self.model.turn = at_once
        return choices


async def every_order(
    begin: Callable[[], Awaitable[tuple[ModelT, dict[str, Any], Callable[[], None]]]],
    *,
    at_least: int,
) -> None:
    """Run every order that there is, each on a beginning of its own, and check each."""
    runs = 0
    orders: list[list[int]] = [[]]
    while orders:
        order = orders.pop()
        model, actors, check = await begin()
        course = Course(model)
        choices = await course.run(actors, order)
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{error}, in the order {course.steps}") from error
        runs += 1
        for step in range(len(order), len(choices)):
            first = order + [0] * (step - len(order))
            orders += [[*first, index] for index in range(1, choices[step])]
    assert runs >= at_least
