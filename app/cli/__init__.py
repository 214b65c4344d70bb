"""The `delivery` command.

Exit codes: 0 all went well, 1 what was asked for failed, 2 a mistake in the call or in a setting,
69 something that it needs does not answer (start it again), 70 a fault of this program (start it
again; the log has the cause).
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import click
from mode import Service

from app import __version__, bootstrap, website
from app import worker as worker_process
from app.cli import deliveries
from app.cli.asyncapi import asyncapi
from app.cli.dlq import dlq
from app.cli.dlt import dlt
from app.cli.doctor import doctor
from app.cli.keys import make_key, rotate_keys, token
from app.cli.settings import settings as tenant_settings
from app.cli.submit import submit
from app.cli.topics import topics
from app.cli.watch import watch
from app.errors import ConfigurationError, DeliveryError, NotReachableError, RetryableError
from app.logs import configure_logging, get_logger
from app.settings import Settings, load_settings
from app.tracing import start_tracing, stop_tracing

log = get_logger(__name__)

_FILES = 65_536  # open at once, at most, where the system allows it
EXIT_FAILED = 1
EXIT_MISTAKE = 2
EXIT_UNAVAILABLE = 69
EXIT_FAULT = 70


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="delivery")
def cli() -> None:
    """Deliver ordered products as one verified ZIP on S3. Settings: DELIVERY_* variables."""
    # On standard error, and only what matters; processes that stay configure it anew.
    configure_logging(level="WARNING", fmt="auto")


@cli.command()
def worker() -> None:
    """Take in requests and transfer; without HTTP."""
    _serve(lambda settings: worker_process.running_worker(settings, site=False))


@cli.command()
def web() -> None:
    """Answer HTTP; without work."""
    _serve(website.running_site)


@cli.command()
def serve() -> None:
    """Work and answer HTTP in one process."""
    _serve(lambda settings: worker_process.running_worker(settings, site=True))


@cli.command()
def migrate() -> None:
    """Bring the database schema up to date."""
    applied = asyncio.run(bootstrap.run_migrations(load_settings()))
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")


for _command in (
    submit,
    deliveries.list_,
    deliveries.show,
    watch,
    deliveries.cancel,
    deliveries.retry,
    deliveries.stats,
    doctor,
    dlq,
    dlt,
    topics,
    tenant_settings,
    make_key,
    rotate_keys,
    token,
    asyncapi,
):
    cli.add_command(_command)


def _serve(running: Callable[[Settings], AbstractAsyncContextManager[Service]]) -> None:
    settings = load_settings()
    configure_logging(level=settings.log_level, fmt=settings.log_format)

    _allow_many_connections()
    if settings.otlp_endpoint:
        start_tracing(settings.otlp_endpoint, worker=settings.worker_id)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stopping(name: str) -> None:
            if stop.is_set():
                log.warning("stopped_at_once", signal=name)
                # The operator asked twice: leases run out, nothing is lost.
                sys.stderr.flush()
                signal.raise_signal(signal.SIGKILL)
            log.info("stopping", signal=name)
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping, number.name)
        async with running(settings) as service:
            await worker_process.run_until(stop, service)
        log.info("stopped")

    try:
        asyncio.run(run())
    except RetryableError as error:
        # It went away while this process started; later, nothing of the kind comes up to here.
        raise NotReachableError(f"{error}; start it again") from error
    finally:
        stop_tracing()


def _allow_many_connections() -> None:
    """Raise the soft limit of open files: a thousand readers of events are a thousand of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    """Run the command; every error that is not a fault of the program is one sentence."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except NotReachableError as error:
        click.echo(f"delivery: {error}", err=True)
        sys.exit(EXIT_UNAVAILABLE)
    except ConfigurationError as error:
        click.echo(f"delivery: {error}", err=True)
        sys.exit(EXIT_MISTAKE)
    except DeliveryError as error:
        click.echo(f"delivery: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except Exception:  # noqa: BLE001 - logged whole, and told by the exit code
        get_logger(__name__).exception("fault")
        sys.exit(EXIT_FAULT)
