"""Logs: what they must never hold."""

from __future__ import annotations

import inspect
import logging

import pytest
from aiohttp.http_exceptions import BadStatusLine
from aiokafka.cluster import ClusterMetadata
from structlog.testing import capture_logs

from app.telemetry.logs import NO_TOPIC, configure_logging, get_logger, of_interest
from tests.conftest import logging_as_it_was


@pytest.mark.parametrize("fmt", ["console", "json"])
def test_a_traceback_shows_no_local_variables(capfd: pytest.CaptureFixture[str], fmt: str) -> None:
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


def test_a_command_that_runs_in_a_test_leaves_logging_as_it_was() -> None:
    """A module's logger that the command used is heard by the tests after it."""
    root, library = logging.getLogger(), logging.getLogger("faust")
    before = (root.level, library.level)
    log = get_logger("of a module")
    with logging_as_it_was():
        configure_logging(level="CRITICAL", fmt="json")
        (handler,) = root.handlers
        assert (root.level, library.level) == (logging.CRITICAL, logging.CRITICAL)
        log.info("used")
    assert handler not in root.handlers
    assert (root.level, library.level) == before
    with capture_logs() as logs:
        log.info("heard")
    assert [line["event"] for line in logs] == ["heard"]


@pytest.mark.parametrize(
    ("error", "kept"), [(BadStatusLine("no HTTP"), False), (RuntimeError("a fault"), True)]
)
def test_bytes_that_are_no_http_leave_no_traceback(error: Exception, kept: bool) -> None:
    record = logging.LogRecord(
        "aiohttp.server",
        logging.ERROR,
        __file__,
        1,
        "Error handling request",
        None,
        (type(error), error, None),
    )
    assert of_interest(record) is kept


def test_a_topic_that_is_missing_is_told_by_this_service_alone() -> None:
    cluster = inspect.getsource(ClusterMetadata)
    assert f'"{NO_TOPIC}"' in cluster
    record = logging.LogRecord("aiokafka", logging.ERROR, __file__, 1, NO_TOPIC, ("t",), None)
    assert not of_interest(record)


@pytest.mark.parametrize("driver", ["aiormq.connection", "asyncpg.pool"])
def test_a_server_that_went_away_is_told_without_a_traceback(
    capfd: pytest.CaptureFixture[str], driver: str
) -> None:
    configure_logging(level="INFO", fmt="json")
    try:
        raise ConnectionResetError("broker went away")
    except ConnectionResetError as error:
        logging.getLogger(driver).warning("Reader exited %s", "badly", exc_info=error)
    told = capfd.readouterr().err
    assert "Reader exited badly (broker went away)" in told
    assert "Traceback" not in told


def test_a_repeated_line_of_aiokafka_is_told_once_in_a_while(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """While no broker can be used, its clients try, and tell, many times a second."""
    configure_logging(level="INFO", fmt="json")
    for _ in range(3):
        for node in (1, 2):
            logging.getLogger("aiokafka").error("Unable connect to node with id %s", node)
        logging.getLogger("other").error("of somebody else")
    told = capfd.readouterr().err
    assert [told.count(f"with id {node}") for node in (1, 2)] == [1, 1]
    assert told.count("of somebody else") == 3
    configure_logging(level="INFO", fmt="json", repeat_interval=0.0)
    for _ in range(2):
        logging.getLogger("aiokafka").error("Unable connect to node with id %s", 1)
    assert capfd.readouterr().err.count("with id 1") == 2
