"""`make demo`: one delivery, with real parts, from the AMQP request to the checked archive."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aio_pika
import click
from aio_pika.abc import AbstractIncomingMessage
from rich.console import Console

from app.cli.submit import show_progress
from app.errors import DeliveryError
from app.settings import load_settings
from compose import check
from compose.embedded.processes import StackError
from compose.embedded.stack import USER, Stack, running_service, running_stack
from compose.rs_order.options import switches_option
from compose.rs_order.switches import Switches
from streams.amqp import names
from streams.channels import ORDER_CANCELS, ORDER_RESPONSES, ORDERS, REQUESTS, RESPONSES

PRODUCTS = Path(__file__).with_name("products")
_SHORT = {
    REQUESTS.exchange.name: "client    → rs-delivery   DeliveryRequest",
    RESPONSES.exchange.name: "client    ← rs-delivery   DeliveryResponse",
    ORDERS.exchange.name: "rs-order  ← rs-delivery   OrderRequest",
    ORDER_RESPONSES.exchange.name: "rs-order  → rs-delivery   OrderResponse",
    ORDER_CANCELS.exchange.name: "rs-order  ← rs-delivery   OrderCancelRequest",
}


def say(text: str = "") -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


@click.command()
@click.option(
    "--products",
    type=click.Path(path_type=Path),
    default=PRODUCTS,
    help="A folder: each sub-folder is a product, files at its root are one more.",
)
@switches_option
def main(products: Path, switches: Switches) -> None:
    """Deliver a folder of products over the whole embedded stack, and check what arrives."""
    # Ended from outside, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        files = [path for path in products.rglob("*") if path.is_file()]
        if not products.is_dir():
            raise StackError(f"PRODUCTS={products} is no folder: give a folder with products in it")
        if not files:
            raise StackError(f"PRODUCTS={products} holds no file: put at least one in it")
        asyncio.run(_demo(products, switches))
    except (StackError, DeliveryError, check.CheckError) as error:
        say(f"demo: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


async def _demo(products: Path, switches: Switches) -> None:
    began = time.monotonic()
    say("Starting RabbitMQ, Kafka, PostgreSQL, S3 and rs-order as child processes …")
    async with running_stack(products, switches=switches) as stack:
        os.environ.update(stack.environment)
        for name in ("DELIVERY_MANIFEST", "DELIVERY_SHA256"):
            os.environ.setdefault(name, "true")
        say(f"  up after {time.monotonic() - began:.1f} s; starting the service …")
        async with running_service(stack) as (_service, address):
            say(f"  ready after {time.monotonic() - began:.1f} s ({address}/health/ready)\n")
            answer = await _deliver(stack)
            if answer["status"] != "DONE":
                raise StackError(
                    f"the delivery ended in {answer['status']}: {answer['errorType']}: "
                    f"{answer.get('message', '')}"
                )
            await _check(stack, answer, products)
        say("Stopping everything …")
    say(f"All child processes are gone. {time.monotonic() - began:.1f} s in all.")


async def _deliver(stack: Stack) -> dict[str, Any]:
    """Publish a request, show all messages on AMQP, and return the last answer."""
    settings = load_settings()
    tenant = settings.tenants[0]
    body: dict[str, Any] = {
        "correlationId": "demo-001",
        "order": {"user": USER, "queries": ["*:*"]},
    }
    connection = await aio_pika.connect(stack.environment["DELIVERY_AMQP_URL"])
    answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    began = time.monotonic()
    async with (
        connection,
        connection.channel() as channel,
        show_progress(settings, tenant, body["correlationId"], console=Console()) as bar,
    ):

        async def hear(message: AbstractIncomingMessage) -> None:
            received = json.loads(message.body)
            arrow = _SHORT[message.exchange or ""]
            bar.console.print(
                f"  {time.monotonic() - began:6.3f} s  {arrow} {received.get('status', '')}",
                highlight=False,
                soft_wrap=True,
            )
            if message.exchange == RESPONSES.exchange.name and received["status"] != "GRANTED":
                answer.set_result(received)

        tap = await channel.declare_queue(exclusive=True)
        for exchange in _SHORT:
            await tap.bind(exchange)
        await tap.consume(hear, no_ack=True)
        requests = await channel.get_exchange(REQUESTS.exchange.name)
        await requests.publish(
            aio_pika.Message(json.dumps(body).encode(), headers={names.HEADER_TENANT: tenant}), ""
        )
        return await answer


async def _check(stack: Stack, answer: dict[str, Any], products: Path) -> None:
    say(f"\nDONE  url {answer['url']}\n      md5 {answer['md5']}\n")
    archive = stack.folder / "archive.zip"
    md5 = await check.download(answer["url"], stack.environment, archive)
    if md5 != answer["md5"]:
        raise check.CheckError(f"the object's MD5 is {md5}, the answer said {answer['md5']}")
    say(f"The object ({archive.stat().st_size:,} bytes) has that MD5.")
    members = await asyncio.to_thread(check.compare, archive, products)
    say(f"Its {members} members are, byte for byte, the files of {products}.")
    if "manifestUrl" in answer:
        manifest = stack.folder / "manifest.json"
        await check.download(answer["manifestUrl"], stack.environment, manifest)
        listed = await asyncio.to_thread(check.compare_manifest, manifest, archive)
        say(f"{answer['manifestUrl']} tells of it and of these {listed}.")
    if left := await check.open_uploads(stack.environment):
        raise check.CheckError(f"{left} multipart uploads are still open")
    say("No multipart upload is left open.\n")


if __name__ == "__main__":
    main()
