"""Several requests at once, and not more than a server and the memory of a worker should have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")

_AT_ONCE = 16  # requests


async def each(jobs: Iterable[JobT], act: Callable[[JobT], Awaitable[ResultT]]) -> list[ResultT]:
    """Do it for each, some at once; return the results in order.

    The first error ends those that are under way, and is raised.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(job: JobT) -> ResultT:
        async with limit:
            return await act(job)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(job)) for job in jobs]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0]  # noqa: B904 - it has its own cause
    return [task.result() for task in tasks]
