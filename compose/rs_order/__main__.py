"""`python -m compose.rs_order --products FOLDER --port PORT`."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import Any, TextIO

import aio_pika
import click
from aiohttp import web

from compose.rs_order.amqp import Listener, Speaker
from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import Catalog
from compose.rs_order.options import option_for_each
from compose.rs_order.service import Service
from compose.rs_order.switches import SwitchError, Switches


@click.command(context_settings={"auto_envvar_prefix": "RS_ORDER"})
@click.option(
    "--products",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    envvar="PRODUCTS",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=9050, show_default=True)
@click.option("--amqp-url", envvar="DELIVERY_AMQP_URL", required=True)
@click.option("--token-secret", envvar="DELIVERY_RS_ORDER_TOKEN_SECRET")
@click.option(
    "--token-secret-file",
    type=click.File(),
    envvar="DELIVERY_RS_ORDER_TOKEN_SECRET_FILE",
    help="Where the secret lies, instead.",
)
@click.option(
    "--tls",
    nargs=2,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="CERTIFICATE KEY",
    help="Answer HTTPS, with these files.",
)
@option_for_each
def main(
    products: Path,
    host: str,
    port: int,
    amqp_url: str,
    token_secret: str | None,
    token_secret_file: TextIO | None,
    tls: tuple[Path, Path] | None,
    **switches: Any,
) -> None:
    """Stand in for rs-order over a folder of products.

    Each switch is also an environment variable: RS_ORDER_SUBORDER_BYTES.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    secret = token_secret or (token_secret_file.read().strip() if token_secret_file else "")
    if not secret:
        raise click.UsageError("--token-secret, or --token-secret-file, is missing")
    given = {name: value for name, value in switches.items() if value is not None}
    try:
        behaviour = Behaviour(switches=Switches().changed(given))
    except SwitchError as error:
        raise click.UsageError(str(error)) from None
    asyncio.run(_run(products, host, port, behaviour, amqp_url, secret, tls))


async def _run(
    products: Path,
    host: str,
    port: int,
    behaviour: Behaviour,
    amqp_url: str,
    secret: str,
    tls: tuple[Path, Path] | None,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    catalog = Catalog(products.resolve())
    connection = await aio_pika.connect_robust(amqp_url)
    async with connection:
        channel = await connection.channel()
        speaker = Speaker(channel, behaviour)
        service = Service(catalog, behaviour, speaker.tell, secret=secret)
        ticking = asyncio.create_task(service.clock.run())
        await Listener(channel, service.orders, speaker, catalog, behaviour).start()
        # A download whose reader has gone ends at once, not when it next has something to write.
        runner = web.AppRunner(service.application(), access_log=None, handler_cancellation=True)
        await runner.setup()
        context = None
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*tls)
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        await stop.wait()
        await runner.cleanup()
        ticking.cancel()


if __name__ == "__main__":
    main()
