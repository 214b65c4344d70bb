"""The command `rs-delivery`; the service's `delivery` has its commands, too.

Exit codes: 0 all went well, 1 what was checked has flaws, or what was asked for failed, 2 a mistake
in the call or in a profile, 3 it is not there, or could not be checked (no such delivery, no
manifest, a link that has run out), 4 sign in first, or your role may not, 5 not in the state that
it is in, 8 it has not ended yet, 69 something that it needs does not answer (start it again: it
goes on where it was), 70 a fault of this program, 130 interrupted.

What a command needs is imported when it is called.
"""

from __future__ import annotations

import os
import sys
import traceback

import click

from rs_delivery_client import __version__
from rs_delivery_client.cli.commands import Commands

EXIT_FAILED = 1
EXIT_FAULT = 70
EXIT_INTERRUPTED = 130


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rs-delivery")
def cli() -> None:
    """Ask for a delivery, wait for it, fetch it, verify it.

    \b
    rs-delivery login --url https://delivery.example.org
    rs-delivery submit request.json
    """  # noqa: D301 - click's mark that lines stay as they are


def main() -> None:
    """Run the command; a mistake, and what the service refuses, is one sentence."""
    try:
        cli.main(prog_name="rs-delivery", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Its reader has enough, such as `head`; nothing is written to it at exit, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except Exception:  # noqa: BLE001 - shown whole, and by the exit code
        traceback.print_exc()
        sys.exit(EXIT_FAULT)
