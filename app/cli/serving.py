"""Processes that stay: signals, logs, traces, a supervisor; until they are asked to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from mode import Service

from app.errors import NotReachableError, RetryableError
from app.run.reloads import Reloads
from app.run.supervisor import Supervisor
from app.settings import Settings, load_settings
from app.telemetry.logs import configure_logging, get_logger
from app.telemetry.tracing import start_tracing, stop_tracing

log = get_logger(__name__)

_MAX_OPEN_FILES = 65_536  # open at once, at most, where the system allows it


def serve_until_stopped(
    running: Callable[[Settings, Reloads], AbstractAsyncContextManager[Service]],
) -> None:
    """Run a service until SIGINT or SIGTERM; a second one ends the process at once.

    At SIGHUP it reads its files again, once it runs.

    Raises what ended the service, and ConfigurationError.
    """
    gc.disable()  # a start makes hardly any garbage
    settings = load_settings()
    configure_logging(level=settings.log_level, fmt=settings.log_format)

    _allow_many_connections()
    if settings.otlp_endpoint:
        start_tracing(settings.otlp_endpoint, worker=settings.worker_id)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        starting = asyncio.current_task()

        def stopping(name: str) -> None:
            if stop.is_set():
                log.warning("stopped_at_once", signal=name)
                # The operator asked twice: leases run out, nothing is lost.
                sys.stderr.flush()
                signal.raise_signal(signal.SIGKILL)
            log.info("stopping", signal=name)
            stop.set()
            if starting is not None:
                starting.cancel()  # what it waits for may not come for a minute

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping, number.name)
        supervisor = Supervisor(os.environ)
        reloads = Reloads(settings, telling=supervisor.reloading)
        loop.add_signal_handler(signal.SIGHUP, reloads.ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])  # see app.cli.main
        try:
            async with running(settings, reloads) as service:
                starting = None
                # What is there now stays. Looking at all of it again and again for garbage would
                # hold the loop for 50 ms at a time.
                gc.freeze()
                gc.enable()
                async with supervisor.working(), _beside(reloads.run()):
                    await run_until(stop, service)
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
        log.info("stopped")

    try:
        asyncio.run(run())
    except RetryableError as error:
        # It went away while this process started; later, nothing of the kind comes up to here.
        raise NotReachableError(f"{error}; start it again") from error
    finally:
        gc.enable()
        stop_tracing()


@contextlib.asynccontextmanager
async def _beside(job: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do a job for as long as the block lasts."""
    task = asyncio.create_task(job, name="reloads")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def run_until(stop: asyncio.Event, service: Service) -> None:
    """Wait until asked to stop. Raises what crashed the service."""
    await service.wait_for_stopped(stop.wait())
    if service.crashed and service.crash_reason is not None:
        raise service.crash_reason


def _allow_many_connections() -> None:
    """Raise the soft limit of open files: a thousand readers of events are a thousand of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
