"""Logs: what they must never hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from app.logs import configure_logging, get_logger


@pytest.fixture
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("fmt", ["console", "json"])
def test_a_traceback_shows_no_local_variables(
    restored: None, capfd: pytest.CaptureFixture[str], fmt: str
) -> None:
    configure_logging(level="INFO", fmt=fmt)

    def fail(secret: str) -> None:
        raise ValueError(f"of {len(secret)} characters")

    try:
        fail("hunter" + "2")
    except ValueError:
        get_logger("test").exception("failed")
    told = capfd.readouterr().err
    assert "ValueError" in told
    assert "Traceback" in told
    assert "hunter2" not in told
