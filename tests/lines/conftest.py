"""A stack that is spoken to over TLS only, by who shows a certificate where one is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from yarl import URL

from compose.embedded import s3 as s3_server
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
from compose.embedded.server_tls import ServerTls
from compose.embedded.stack import ROOT, Stack
from tests.certificates import Authority
from tests.client import Client
from tests.command import delivery


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The servers, and what a service needs to reach them."""

    stack: Stack  # its addresses name the client's files: for tools
    settings: Mapping[str, str]  # what an operator would set
    site: Authority  # whose certificates the servers have
    other: Authority
    tls: ServerTls
    children: Mapping[str, Child]  # by the setting that has their address

    async def run(self, *arguments: str, **changes: str) -> Any:
        """Run the command beside this loop."""
        environment = {**self.stack.environment, **self.settings, **changes}
        return await asyncio.to_thread(delivery, *arguments, **environment)

    async def show(self, certificate: Path, key: Path) -> None:
        """Give all servers another certificate, and restart them."""
        shutil.copyfile(certificate, self.tls.certificate)
        shutil.copyfile(key, self.tls.key)
        # PostgreSQL has a copy of its own, which no other user may read.
        shutil.copyfile(key, self.stack.folder / "postgres" / "server-key.pem")
        for name, child in self.children.items():  # rs-order comes last, as it needs RabbitMQ
            port = URL(self.settings[name]).port or 0
            await child.restart()
            await wait_until(partial(listens, port), child)


def bare(address: str) -> str:
    """Return an address without the files that tools need, and without a password."""
    return str(URL(address).with_query(None).with_password(None))


@pytest.fixture(scope="package")
async def lines(stack: Stack, products: Path) -> AsyncIterator[Lines]:
    folder = stack.folder / "lines"  # the user that PostgreSQL runs as can look into it
    folder.mkdir(mode=0o755)
    site, other = Authority(folder / "site", "site"), Authority(folder / "other", "other")
    certificate, key = site.issue("server", "localhost")
    # Its name is that of RabbitMQ's user.
    shown, shown_key = site.issue("client", common_name="regards")
    tls = ServerTls(
        ca=site.file,
        certificate=certificate,
        key=key,
        client_certificate=shown,
        client_key=shown_key,
    )
    async with contextlib.AsyncExitStack() as open_servers:
        amqp = await open_servers.enter_async_context(rabbitmq(folder, tls=tls))
        database = await open_servers.enter_async_context(postgres(folder, tls=tls))
        store = await open_servers.enter_async_context(s3_server.s3(folder, tls=tls))
        orders = await open_servers.enter_async_context(
            _rs_order(folder, products, amqp.url, stack.environment, tls)
        )
        for name, server in {"amqp": amqp, "database": database}.items():
            (folder / f"{name}-password").write_text(f"{URL(server.url).password}\n")
        name = uuid4().hex[:8]
        environment = dict(stack.environment) | {
            "DELIVERY_AMQP_URL": amqp.url,
            "DELIVERY_DATABASE_URL": database.url,
            "DELIVERY_KAFKA_TOPIC_PREFIX": f"{name}.",
            "DELIVERY_KAFKA_GROUP": name,
            "DELIVERY_RS_ORDER_URL": orders.url,
            "DELIVERY_RS_ADMIN_URL": orders.url,
            "DELIVERY_S3_ENDPOINT": store.url,
        }
        settings = {
            "DELIVERY_AMQP_URL": bare(amqp.url),
            "DELIVERY_AMQP_PASSWORD_FILE": str(folder / "amqp-password"),
            "DELIVERY_AMQP_CA": str(site.file),
            "DELIVERY_AMQP_CERTIFICATE": str(shown),
            "DELIVERY_AMQP_KEY": str(shown_key),
            "DELIVERY_DATABASE_URL": bare(database.url),
            "DELIVERY_DATABASE_PASSWORD_FILE": str(folder / "database-password"),
            "DELIVERY_DATABASE_CA": str(site.file),
            "DELIVERY_DATABASE_CERTIFICATE": str(shown),
            "DELIVERY_DATABASE_KEY": str(shown_key),
            "DELIVERY_RS_ORDER_URL": orders.url,
            "DELIVERY_RS_ADMIN_URL": orders.url,
            "DELIVERY_HTTP_CA": str(site.file),
            "DELIVERY_S3_ENDPOINT": store.url,
            "DELIVERY_S3_CA": str(site.file),
        }
        yield Lines(
            stack=replace(stack, folder=folder, environment=environment),
            settings=settings,
            site=site,
            other=other,
            tls=tls,
            children={
                "DELIVERY_AMQP_URL": amqp.child,
                "DELIVERY_DATABASE_URL": database.child,
                "DELIVERY_S3_ENDPOINT": store.child,
                "DELIVERY_RS_ORDER_URL": orders.child,
            },
        )


@contextlib.asynccontextmanager
async def _rs_order(
    folder: Path, products: Path, amqp_url: str, environment: Mapping[str, str], tls: ServerTls
) -> AsyncIterator[Server]:
    port = free_port()
    child = start(
        "rs-order (stand-in)",
        [
            *(sys.executable, "-m", "compose.rs_order", "--products", products),
            *("--port", str(port), "--tls", tls.certificate, tls.key, "--user-places", "0"),
        ],
        log=folder / "rs-order.log",
        # It is no part of what is looked at, and must come up beside whatever certificate.
        environment={**environment, "DELIVERY_AMQP_URL": f"{amqp_url}&no_verify_ssl=1"},
        cwd=ROOT,
    )
    async with running(child):
        await wait_until(lambda: listens(port), child)
        url = f"https://localhost:{port}"
        yield Server(url=url, child=child, answers=lambda: listens(port))


@pytest.fixture
async def client(lines: Lines) -> AsyncIterator[Client]:
    """A client on the RabbitMQ of these tests."""
    async with Client.connected(lines.stack) as connected:
        yield connected
