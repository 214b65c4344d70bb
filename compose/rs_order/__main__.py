"""`python -m compose.rs_order --products FOLDER --port PORT`."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import sys
from pathlib import Path
from typing import TextIO

import aio_pika
import click
from aiohttp import web

from compose.rs_order.catalog import Catalog
from compose.rs_order.faults import Faults
from compose.rs_order.orders import Orders
from compose.rs_order.rest import Rest


@click.command()
@click.option(
    "--products",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    envvar="PRODUCTS",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=9050, show_default=True)
@click.option(
    "--suborder-files",
    type=int,
    default=1_000_000,
    show_default=True,
    help="Files of a suborder at most.",
)
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
def main(
    products: Path,
    host: str,
    port: int,
    suborder_files: int,
    amqp_url: str,
    token_secret: str | None,
    token_secret_file: TextIO | None,
    tls: tuple[Path, Path] | None,
) -> None:
    """Stand in for rs-order over a folder of products."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    secret = token_secret or (token_secret_file.read().strip() if token_secret_file else "")
    if not secret:
        raise click.UsageError("--token-secret, or --token-secret-file, is missing")
    asyncio.run(_run(products, host, port, suborder_files, amqp_url, secret, tls))


async def _run(
    products: Path,
    host: str,
    port: int,
    suborder_files: int,
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
        orders = Orders(channel, catalog, Faults(), suborder_files=suborder_files)
        await orders.start()
        runner = web.AppRunner(Rest(orders, catalog, secret=secret).application(), access_log=None)
        await runner.setup()
        context = None
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*tls)
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    main()
