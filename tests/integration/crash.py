"""The service, dying where it is told: `python -m tests.integration.crash POINT COMMAND`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from aio_pika.message import IncomingMessage
from faust.transport.consumer import Consumer

from app.cli import main


def _die_before_acknowledging() -> None:
    async def ack(self: IncomingMessage, multiple: bool = False) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    IncomingMessage.ack = ack  # type: ignore[method-assign]


def _never_acknowledge() -> None:
    async def ack(self: IncomingMessage, multiple: bool = False) -> None:
        """Forget to; whoever runs this kills it."""

    IncomingMessage.ack = ack  # type: ignore[method-assign]


def _never_commit() -> None:
    async def commit(self: Consumer, *args: Any, **options: Any) -> bool:
        return False

    Consumer.commit = commit  # type: ignore[method-assign]


POINTS = {
    "at-ack": _die_before_acknowledging,
    "before-ack": _never_acknowledge,
    "before-commit": _never_commit,
}

if __name__ == "__main__":
    POINTS[sys.argv.pop(1)]()
    main()
