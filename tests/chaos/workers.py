"""Workers as an operator's supervisor runs them: one that ended is started again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import psutil

from compose.embedded.processes import Child, running, start
from compose.embedded.stack import ROOT, Stack

_PAUSE = 0.5  # seconds before a new start, as a supervisor has it
_TOLD = 40  # lines of a log, which is gone when its test is over


class Worker:
    """One `delivery worker`, again and again."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.exits: Counter[int] = Counter()

    async def supervise(self) -> None:
        """Start it again whenever it ends; until cancelled."""
        while True:
            code = await asyncio.to_thread(self.child.process.wait)
            self.exits[code] += 1
            await asyncio.sleep(_PAUSE)
            await self.child.restart()

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to the program under its guard; False when there is none right now."""
        with contextlib.suppress(psutil.Error):
            for program in psutil.Process(self.child.process.pid).children():
                program.send_signal(number)
                return True
        return False

    async def freeze(self, seconds: float) -> bool:
        """Let it stand still for a while."""
        if not self.send(signal.SIGSTOP):
            return False
        try:
            await asyncio.sleep(seconds)
        finally:
            self.send(signal.SIGCONT)
        return True


@contextlib.asynccontextmanager
async def running_workers(
    stack: Stack, count: int, settings: Mapping[str, str]
) -> AsyncIterator[list[Worker]]:
    """Run so many workers, each supervised. What is raised meanwhile has the end of their logs."""
    async with contextlib.AsyncExitStack() as opened:
        workers = []
        for number in range(count):
            child = start(
                f"worker {number}",
                [sys.executable, "-m", "app.cli", "worker"],
                log=stack.folder / f"worker-{number}.log",
                environment={**stack.environment, **settings},
                cwd=ROOT,
            )
            await opened.enter_async_context(running(child))
            workers.append(Worker(child))
        supervisors = [asyncio.create_task(worker.supervise()) for worker in workers]
        try:
            yield workers
        except Exception as error:
            for worker in workers:
                error.add_note(f"{worker.child.name}:\n{worker.child.tail(_TOLD)}")
            raise
        finally:
            for supervisor in supervisors:
                supervisor.cancel()
            await asyncio.gather(*supervisors, return_exceptions=True)
