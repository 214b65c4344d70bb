"""How a process ends: by its exit code a supervisor knows whether to start it again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from mode import Service

from app import cli
from app.errors import ConfigurationError, StoreUnavailableError
from app.run import worker


def test_a_process_told_to_stop_in_its_start_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for what may not answer for a minute; what was opened is closed."""
    closed = []

    @contextlib.asynccontextmanager
    async def running(*_: object, **__: object) -> AsyncIterator[Service]:
        signal.raise_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
            yield Service()
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    monkeypatch.setattr(worker, "running_worker", running)
    monkeypatch.setattr(sys, "argv", ["delivery", "worker"])
    cli.main()
    assert closed == [True]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailableError("PostgreSQL does not answer"), 69),
        (ConfigurationError("a setting is wrong"), 2),
        (RuntimeError("a fault"), 70),
    ],
)
def test_the_error_that_ends_a_start_decides_the_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that PostgreSQL left in its start ended with 1, and was not started again."""

    @contextlib.asynccontextmanager
    async def running(*_: object, **__: object) -> AsyncIterator[Service]:
        raise error
        yield

    monkeypatch.setattr(worker, "running_worker", running)
    monkeypatch.setattr(sys, "argv", ["delivery", "worker"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    told = capsys.readouterr().err
    assert str(error) in told
    assert ("Traceback" in told) == (code == 70)
