"""`python -m compose.rs_order --products FOLDER --port PORT`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

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
@click.option("--token-secret", envvar="DELIVERY_RS_ORDER_TOKEN_SECRET", required=True)
def main(
    products: Path, host: str, port: int, suborder_files: int, amqp_url: str, token_secret: str
) -> None:
    """Stand in for rs-order over a folder of products."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(_run(products, host, port, suborder_files, amqp_url, token_secret))


async def _run(
    products: Path, host: str, port: int, suborder_files: int, amqp_url: str, secret: str
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
        await web.TCPSite(runner, host, port).start()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    main()
