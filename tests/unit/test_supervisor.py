"""What systemd hears of a process, over a socket such as its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from mode import Service

from app import cli
from app.run import worker
from app.run.supervisor import Supervisor


class Heard:
    """The socket that a supervisor listens on."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)

    async def next(self) -> str:
        """Return what is told next."""
        async with asyncio.timeout(60):
            said = await asyncio.get_running_loop().sock_recv(self.socket, 4096)
        return said.decode()

    def all(self) -> list[str]:
        """Return what was told until now."""
        told = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(self.socket.recv(4096).decode())
        return told


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest) -> Iterator[Heard]:
    """A socket by its path (which a socket's address has little room for), and one without."""
    with tempfile.TemporaryDirectory(prefix="sv-") as folder:
        path = f"{folder}/notify" if request.param == "path" else f"@rs-delivery-{uuid4().hex}"
        opened = Heard(path)
        yield opened
        opened.socket.close()


async def test_a_supervisor_is_told_when_work_begins_and_when_it_ends(heard: Heard) -> None:
    async with Supervisor({"NOTIFY_SOCKET": heard.address}).working():
        assert await heard.next() == "READY=1"
    assert await heard.next() == "STOPPING=1"
    assert heard.all() == []  # it has asked for no sign of life


async def test_a_loop_that_goes_round_is_told_again_and_again(heard: Heard) -> None:
    environment = {
        "NOTIFY_SOCKET": heard.address,
        "WATCHDOG_USEC": "20000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    async with Supervisor(environment).working():
        assert [await heard.next() for _ in range(4)] == ["READY=1", *["WATCHDOG=1"] * 3]


async def test_a_watchdog_of_another_process_is_told_nothing(heard: Heard) -> None:
    environment = {"NOTIFY_SOCKET": heard.address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    async with Supervisor(environment).working():
        await asyncio.sleep(0)
    assert heard.all() == ["READY=1", "STOPPING=1"]


async def test_without_a_supervisor_none_is_told() -> None:
    async with Supervisor({"WATCHDOG_USEC": "1"}).working():
        await asyncio.sleep(0)


async def test_a_supervisor_that_hears_nothing_ends_no_work(tmp_path: Path) -> None:
    reached = False
    with structlog.testing.capture_logs() as logs:
        async with Supervisor({"NOTIFY_SOCKET": str(tmp_path / "nothing")}).working():
            reached = True
    assert reached
    assert {entry["event"] for entry in logs} == {"supervisor_not_told"}


def test_a_process_tells_that_it_works_and_that_it_was_asked_to_stop(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY comes when everything is there, not when the program begins."""

    @contextlib.asynccontextmanager
    async def running(*_: object, **__: object) -> AsyncIterator[Service]:
        assert heard.all() == []
        service = Service()
        await service.start()
        asyncio.get_running_loop().call_later(0, signal.raise_signal, signal.SIGTERM)
        yield service
        assert heard.all() == ["READY=1", "STOPPING=1"]  # before what is slow begins to stop
        await service.stop()

    monkeypatch.setattr(worker, "running_worker", running)
    monkeypatch.setattr(sys, "argv", ["delivery", "worker"])
    monkeypatch.setenv("NOTIFY_SOCKET", heard.address)
    cli.main()
    assert heard.all() == []
