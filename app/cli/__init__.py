"""The `delivery` command.

Exit codes: 0 all went well, 1 what was asked for failed, 2 a mistake in the call or in a setting,
3 it is not there or could not be checked, 4 sign in first, 5 not in a state for that, 8 it has not
ended yet (the client's own commands: rs_delivery_client/cli),
69 something that it needs does not answer (start it again), 70 a fault of this program (start it
again; the log has the cause).

What a command needs is imported when it is called: the whole service takes seconds.
"""

from __future__ import annotations

import signal
import sys

import click

from app import __version__
from app.cli.commands import STAY, Commands
from app.errors import ConfigurationError, DeliveryError, NotReachableError

EXIT_FAILED = 1
EXIT_MISTAKE = 2
EXIT_UNAVAILABLE = 69
EXIT_FAULT = 70


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="delivery")
def cli() -> None:
    """Deliver ordered products as one verified ZIP on S3. Settings: DELIVERY_* variables."""
    _configure_logging()


def _configure_logging() -> None:
    """Log on standard error, and only what matters; processes that stay configure it again."""
    from app.telemetry.logs import configure_logging

    configure_logging(level="WARNING", fmt="auto")


def main() -> None:
    """Run the command; every error that is not a fault of the program is one sentence."""
    if sys.argv[1:] in STAY:
        # At SIGHUP they read their files again; one that comes while they start waits, and ends
        # none of them.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
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
    except Exception:  # noqa: BLE001 - logged whole, and shown by the exit code
        from app.telemetry.logs import get_logger

        get_logger(__name__).exception("fault")
        sys.exit(EXIT_FAULT)
