"""`make up`: the whole stack and the service in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click

from compose.demo import PRODUCTS, say
from compose.embedded.processes import StackError
from compose.embedded.stack import running_service, running_stack
from compose.rs_order.options import switches_option
from compose.rs_order.switches import Switches


@click.command()
@click.option(
    "--products",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=PRODUCTS,
    help="Folder of products that rs-order offers.",
)
@switches_option
def main(products: Path, switches: Switches) -> None:
    """Run everything, print how to reach it, and wait."""
    try:
        asyncio.run(_up(products, switches))
    except StackError as error:
        say(f"up: {error}")
        sys.exit(1)


async def _up(products: Path, switches: Switches) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    say("Starting …")
    async with (
        running_stack(products, switches=switches) as stack,
        running_service(stack) as (service, address),
    ):
        say(f"The console is at {address}/console (the token: `.venv/bin/delivery token`, below),")
        say(f"the API is described at {address}/docs, {address}/health/ready tells how it is.")
        say(f"Its log is {service.log}; the others' are beside it.\n")
        say("To use the stack from another terminal, in this folder:\n")
        for name, value in stack.environment.items():
            say(f"export {name}='{value}'")
        say(f"export DELIVERY_URL='{address}'  # for clients: `download` and `verify --id`")
        say('export DELIVERY_TOKEN="$(.venv/bin/delivery token)"')
        say("\n.venv/bin/delivery submit docs/example-request.json --wait")
        say(".venv/bin/delivery list; .venv/bin/delivery doctor; .venv/bin/delivery settings get")
        say(".venv/bin/delivery settings set manifest true")
        say(".venv/bin/delivery settings set link_ttl 24")
        say(".venv/bin/delivery submit docs/example-request.json --dry-run")
        say(".venv/bin/delivery link example-001")
        say(".venv/bin/delivery download example-001 --to products")
        say(f'curl -H "Authorization: Bearer $DELIVERY_TOKEN" {address}/settings\n')
        say("Ctrl-C stops everything.")
        stopped = asyncio.create_task(stop.wait())
        while not stopped.done():
            await asyncio.wait({stopped}, timeout=1)
            if not service.running:
                raise StackError(f"the service ended:\n{service.tail()}")
        say("\nStopping …")


if __name__ == "__main__":
    main()
