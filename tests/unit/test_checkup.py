"""The doctor's looks at a RabbitMQ that refuses it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr

from app.settings import Settings
from app.views.findings import Finding
from compose.embedded.processes import free_port
from streams.operators.checkup import check_progress, check_rabbitmq
from tests.garbage import collected

Look = Callable[[Settings], AsyncIterator[Finding]]


@pytest.mark.parametrize(
    "look", [check_rabbitmq, partial(check_progress, tenants=["sentinel"])], ids=["all", "progress"]
)
async def test_a_connection_that_was_refused_leaves_nothing_to_be_closed_later(
    look: Look, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = list[Any]()
    caplog.set_level("CRITICAL", "aiormq.connection")  # a record keeps its error and connection
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    settings = Settings(amqp_url=SecretStr(f"amqp://localhost:{free_port()}/"))
    for _ in range(3):
        assert not [finding async for finding in look(settings) if finding.ok]
    await collected()
    assert told == []
