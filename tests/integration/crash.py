"""The service, dying or standing still where it is told.

python -m tests.integration.crash POINT COMMAND
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from aio_pika.message import IncomingMessage
from faust.transport.consumer import Consumer

from app.cli import main
from app.delivery.ingress import Arrival
from app.store.checkpoints import PostgresCheckpoints
from sinks.pipeline import large_file
from sinks.stores.s3.store import S3ObjectStore
from streams.kafka.log import EventLog


def _die_before_acknowledging() -> None:
    async def ack(self: IncomingMessage, multiple: bool = False) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    IncomingMessage.ack = ack  # type: ignore[method-assign]


def _die_between_note_and_append() -> None:
    async def carry(self: EventLog, arrival: Arrival) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    EventLog.carry = carry  # type: ignore[method-assign]


def _never_acknowledge() -> None:
    async def ack(self: IncomingMessage, multiple: bool = False) -> None:
        """Forget to; the test that runs this kills it."""

    IncomingMessage.ack = ack  # type: ignore[method-assign]


def _never_commit() -> None:
    async def commit(self: Consumer, *args: Any, **options: Any) -> bool:
        return False

    Consumer.commit = commit  # type: ignore[method-assign]


def _stand_still_before_completing() -> None:
    complete = S3ObjectStore.complete

    async def later(self: S3ObjectStore, *args: Any, **options: Any) -> str:
        os.kill(os.getpid(), signal.SIGSTOP)
        return await complete(self, *args, **options)

    S3ObjectStore.complete = later  # type: ignore[method-assign]


def _die_in_a_large_file() -> None:
    """Once it is saved for the second time how far that is."""
    save, saved = PostgresCheckpoints.save_file, []

    async def save_file(self: Any, *args: Any) -> bool:
        saved.append(await save(self, *args))
        if len(saved) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return saved[-1]

    large_file.EVERY_BYTES = 1  # type: ignore[attr-defined]
    PostgresCheckpoints.save_file = save_file  # type: ignore[method-assign,assignment]


POINTS = {
    "in-a-large-file": _die_in_a_large_file,
    "still-at-completion": _stand_still_before_completing,
    "at-append": _die_between_note_and_append,
    "at-ack": _die_before_acknowledging,
    "before-ack": _never_acknowledge,
    "before-commit": _never_commit,
}

if __name__ == "__main__":
    POINTS[sys.argv.pop(1)]()
    main()
