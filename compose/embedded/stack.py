"""The whole stack: what is not in the environment yet is started here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.tenants.vault import make_key
from compose.embedded import s3 as s3_server
from compose.embedded.kafka import kafka
from compose.embedded.postgres import postgres
from compose.embedded.processes import (
    Child,
    Server,
    free_port,
    listens,
    running,
    start,
    wait_until,
)
from compose.embedded.rabbitmq import rabbitmq
from compose.rs_order.switches import SHOWN, Switches

ROOT = Path(__file__).resolve().parents[2]
TENANT = "sentinel"
USER = "scientist@example.org"

# Short, so that a worker takes over within seconds: the stack is for demos and tests.
_QUICK = {
    "DELIVERY_KAFKA_SESSION_TIMEOUT": "6",
    "DELIVERY_KAFKA_REBALANCE_TIMEOUT": "4",
    "DELIVERY_KAFKA_HEARTBEAT_INTERVAL": "1",
    "DELIVERY_CLAIM_POLL_INTERVAL": "1",
    "DELIVERY_RETRY_BACKOFF": "0.5",
    # The embedded broker holds a fetch back for all of it, also when an event comes.
    "DELIVERY_KAFKA_FETCH_MAX_WAIT_MS": "25",
}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A running stack."""

    folder: Path  # logs and data; gone at the end
    environment: Mapping[str, str]  # what a service needs to run on it
    servers: Mapping[str, Server]  # those started here, by the variable of their address

    @property
    def rs_order_url(self) -> str:
        """Address of rs-order."""
        return self.environment["DELIVERY_RS_ORDER_URL"]


@contextlib.asynccontextmanager
async def running_stack(
    products: Path | None, *, durable: bool = True, switches: Switches = SHOWN
) -> AsyncIterator[Stack]:
    """Run RabbitMQ, Kafka, PostgreSQL, S3 and, given a folder of products, the stand-in rs-order.

    `switches` say how the stand-in is set up: by default products of different names are
    in different suborders. Raises StackError naming what is missing.
    """
    async with contextlib.AsyncExitStack() as stack:
        # The user that PostgreSQL runs as finds its own folder there; others of the machine find
        # nothing to read (see the modes of what holds a password).
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="rs-delivery-stack-", ignore_cleanup_errors=True)
            )
        )
        folder.chmod(0o711)
        environment: dict[str, str] = dict(_QUICK)

        servers: dict[str, Server] = {}

        async def part(
            name: str, make: Callable[[Path], AbstractAsyncContextManager[Server]]
        ) -> None:
            given = os.environ.get(name)
            if given is None:
                servers[name] = await stack.enter_async_context(make(folder))
                given = servers[name].url
            environment[name] = given

        try:
            async with asyncio.TaskGroup() as starting:
                # Side by side; one after the other would take the sum of their start times.
                starting.create_task(part("DELIVERY_AMQP_URL", rabbitmq))
                starting.create_task(part("DELIVERY_KAFKA_BOOTSTRAP_SERVERS", kafka))
                database = partial(postgres, durable=durable)
                starting.create_task(part("DELIVERY_DATABASE_URL", database))
                starting.create_task(part("DELIVERY_S3_ENDPOINT", s3_server.s3))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        environment |= {
            "DELIVERY_TENANTS": os.environ.get("DELIVERY_TENANTS", TENANT),
            "DELIVERY_S3_KEY": os.environ.get("DELIVERY_S3_KEY", s3_server.KEY),
            "DELIVERY_S3_SECRET": os.environ.get("DELIVERY_S3_SECRET", s3_server.SECRET),
            "DELIVERY_S3_REGION": os.environ.get("DELIVERY_S3_REGION", s3_server.REGION),
            "DELIVERY_DELIVERY_BUCKET": os.environ.get(
                "DELIVERY_DELIVERY_BUCKET", s3_server.BUCKET
            ),
            # Everything is on this machine here; elsewhere, tenants may not deliver to loopback.
            "DELIVERY_S3_ALLOWED_HOSTS": os.environ.get(
                "DELIVERY_S3_ALLOWED_HOSTS", "*,127.0.0.0/8,::1"
            ),
            "DELIVERY_RS_ORDER_TOKEN_SECRET": os.environ.get("DELIVERY_RS_ORDER_TOKEN_SECRET")
            or secrets.token_urlsafe(64),
            "DELIVERY_DEVELOPMENT": os.environ.get("DELIVERY_DEVELOPMENT", "true"),
            "DELIVERY_SECRET_KEYS": os.environ.get("DELIVERY_SECRET_KEYS") or make_key(),
            "DELIVERY_ORDER_SIZE_LIMIT_BYTES": str(1024**4),
            "DELIVERY_WEB_HOST": "127.0.0.1",
        }
        for name, value in _QUICK.items():
            environment[name] = os.environ.get(name, value)
        if "DELIVERY_RS_ORDER_URL" in os.environ or products is None:
            environment["DELIVERY_RS_ORDER_URL"] = os.environ.get(
                "DELIVERY_RS_ORDER_URL", "http://127.0.0.1:9"
            )
        else:
            port = free_port()
            environment["DELIVERY_RS_ORDER_URL"] = f"http://127.0.0.1:{port}"
            standin = start(
                "rs-order (stand-in)",
                [
                    sys.executable,
                    "-m",
                    "compose.rs_order",
                    "--products",
                    products.resolve(),
                    "--port",
                    str(port),
                    *switches.options(),
                ],
                log=folder / "rs-order.log",
                environment=environment,
                cwd=ROOT,
            )
            await stack.enter_async_context(running(standin))
            await wait_until(lambda: listens(port), standin)
        environment["DELIVERY_RS_ADMIN_URL"] = os.environ.get(
            "DELIVERY_RS_ADMIN_URL", environment["DELIVERY_RS_ORDER_URL"]
        )
        yield Stack(folder=folder, environment=environment, servers=servers)


@contextlib.asynccontextmanager
async def running_service(
    stack: Stack,
    *,
    command: str = "serve",
    extra: Mapping[str, str] | None = None,
    program: Sequence[str] = ("app.cli",),
    start: Callable[..., Child] = start,
) -> AsyncIterator[tuple[Child, str]]:
    """Run the service on a stack; give the child and its HTTP address once it is ready.

    `program` is the module (and what it takes before the command) to run, `start` what runs it.
    """
    port = (
        int((extra or {}).get("DELIVERY_WEB_PORT", 0))
        or int(os.environ.get("DELIVERY_WEB_PORT", "0"))
        or free_port()
    )
    listening = "DELIVERY_WORKER_PORT" if command == "worker" else "DELIVERY_WEB_PORT"
    environment = {**stack.environment, **(extra or {}), listening: str(port)}
    child = start(
        "the service",
        [sys.executable, "-m", *program, command],
        log=stack.folder / f"service-{port}.log",
        environment=environment,
        cwd=ROOT,
    )
    async with running(child):

        async def ready() -> None:
            await listens(port)
            if '"consumer_ready"' not in child.log.read_text() and command != "web":
                raise OSError("the worker has not joined its consumer group yet")

        await wait_until(ready, child)
        yield child, f"http://127.0.0.1:{port}"
