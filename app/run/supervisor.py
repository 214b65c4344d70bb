"""What systemd is told of a process: that it works, that its loop goes round, that it stops.

The protocol of sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names. Without such a
variable, as in a container, nothing is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping

from app.telemetry.logs import get_logger

log = get_logger(__name__)

_TIMEOUT = 5.0  # seconds that a supervisor has to take what it is told


class Supervisor:
    """What has started this process, as far as the environment tells."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # Linux has names of sockets that are no path; the variable spells their zero byte "@".
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        asked = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._line: socket.socket | None = None
        self._patience = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 if asked else 0

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Tell that the work begins, that it goes on for as long as the block lasts, and its end.

        A loop that is held for as long as the supervisor waits makes it end this process: the
        leases have run out by then, and other workers go on.
        """
        if not self._address:
            yield
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            self._line = line
            await self._tell(line, "READY=1")
            beating = asyncio.create_task(self._beat(line), name="watchdog of the supervisor")
            try:
                yield
            finally:
                beating.cancel()
                self._line = None
                await self._tell(line, "STOPPING=1")

    @contextlib.asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """Tell that files are read again for as long as the block lasts, and that this is over."""
        if self._line is not None:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            await self._tell(self._line, f"RELOADING=1\nMONOTONIC_USEC={now}")
        yield
        if self._line is not None:
            await self._tell(self._line, "READY=1")

    async def _beat(self, line: socket.socket) -> None:
        while self._patience:
            await asyncio.sleep(self._patience / 2)
            await self._tell(line, "WATCHDOG=1")

    async def _tell(self, line: socket.socket, state: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_TIMEOUT):
                await loop.sock_sendto(line, state.encode(), self._address)
        except (OSError, TimeoutError) as error:
            log.warning("supervisor_not_told", state=state, cause=str(error) or "it reads nothing")
