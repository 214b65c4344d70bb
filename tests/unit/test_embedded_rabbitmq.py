"""Whether the stack's RabbitMQ answers: asked again and again while it starts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from compose.embedded import rabbitmq
from compose.embedded.processes import free_port
from tests.garbage import collected


async def test_a_connection_that_was_refused_leaves_nothing_to_be_closed_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be told in whichever test the garbage is collected in."""
    told = list[Any]()
    caplog.set_level("CRITICAL", "aiormq.connection")  # a record keeps its error and connection
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    for _ in range(3):
        with pytest.raises(OSError):  # noqa: PT011 - whatever it is
            await rabbitmq.answers(f"amqp://localhost:{free_port()}/")
    await collected()
    assert told == []
