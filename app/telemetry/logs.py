"""Logging: structlog in front, every library's records through the same renderer."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import Processor

# Libraries that tell at INFO what interests their own developers only.
QUIET = (
    *("aiokafka", "faust", "mode", "aio_pika", "aiormq", "asyncio"),
    *("aiobotocore", "botocore", "asyncssh", "azure"),
)


# Drivers that tell with a traceback that a server went away.
_DRIVERS = ("aiormq", "asyncpg")

_MAX_REMEMBERED = 1000  # different things that it says

# Told ten times a second while a topic is missing; `topics_missing` tells it once.
NO_TOPIC = "Topic %s not found in cluster metadata"


class _Repeats(logging.Filter):
    """Leaves out what aiokafka says again and again while a broker is away: 90 lines a second."""

    def __init__(self, *, interval: float) -> None:
        super().__init__()
        self._interval = interval
        self._logged: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it was not logged within the last seconds."""
        if record.name.partition(".")[0] != "aiokafka" or record.exc_info:
            return True
        message = record.name, record.getMessage()
        fresh = record.created - self._logged.get(message, 0.0) >= self._interval
        if fresh:
            if len(self._logged) >= _MAX_REMEMBERED:
                self._logged.clear()
            self._logged[message] = record.created
        return fresh


def of_interest(record: logging.LogRecord) -> bool:
    """Leave out what no operator can use.

    That is what Faust's base class tells of each service that starts and stops, and the traceback
    that aiohttp makes of bytes that are no HTTP: the caller was told.
    """
    if record.msg == NO_TOPIC:
        return False
    if record.name.startswith(_DRIVERS) and record.exc_info and record.exc_info[1] is not None:
        # A server that went away is no fault of this program, which would need a traceback.
        record.msg, record.args = f"{record.getMessage()} ({record.exc_info[1]})", ()
        record.exc_info = None
    if record.name == "aiohttp.server" and record.exc_info and record.exc_info[0] is not None:
        return not _is_no_http(record.exc_info[0])
    return record.levelno > logging.INFO or not str(record.msg).startswith("[^")


def _is_no_http(error: type[BaseException]) -> bool:
    """Whether it is aiohttp's HttpProcessingError, which most commands need not import."""
    return any(
        (base.__module__, base.__name__) == ("aiohttp.http_exceptions", "HttpProcessingError")
        for base in error.__mro__
    )


def configure_logging(*, level: str, fmt: str, repeat_interval: float = 10.0) -> None:
    """Set up logging for this process. `fmt` is `auto`, `json` or `console`; output is stderr.

    `repeat_interval` is in seconds, until aiokafka may say the same again.
    """
    console = fmt == "console" or (fmt == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: list[Processor] = (
        [
            # The default would print the values of local variables, and secrets among them.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(of_interest)
    handler.addFilter(_Repeats(interval=repeat_interval))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def get_logger(name: str) -> Any:
    """Return a logger; bind `tenant` and `correlation_id` to it where a delivery is concerned."""
    return structlog.stdlib.get_logger(name)
