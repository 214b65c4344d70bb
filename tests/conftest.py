"""The stack that the tests run on: started once, shared by all, clean names for each test."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import hypothesis
import pytest
import structlog

from app.settings import Settings
from app.store import migrate, open_pool
from app.telemetry.logs import QUIET
from compose.embedded.stack import Stack, running_stack
from compose.rs_order.switches import UNLIMITED
from tests.client import Client
from tests.standin import StandIn

pytest_plugins = ["tests.order"]

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# As the service's own: without the values of local variables, which may be secrets.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


@contextlib.contextmanager
def logging_as_it_was() -> Iterator[None]:
    """Undo what a command in this process sets up, as `app.telemetry.logs.configure_logging` does.

    Loggers are not cached meanwhile: those of modules would keep what the command has set up.
    """
    before, root, configure = structlog.get_config(), logging.getLogger(), structlog.configure
    handlers = root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in (None, *QUIET)}

    def uncached(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(structlog, "configure", uncached)
        yield
    structlog.configure(**before)
    # (pytest has handlers of its own there, others in each phase of a test.)
    for handler in [handler for handler in root.handlers if type(handler) is logging.StreamHandler]:
        if handler not in handlers:
            root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """No test hears less, or more, since a command ran in its process."""
    with logging_as_it_was():
        yield


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the stand-in serves; tests add products of their own."""
    return tmp_path_factory.mktemp("products")


@pytest.fixture(scope="session")
async def stack(products: Path) -> AsyncIterator[Stack]:
    """RabbitMQ, Kafka, PostgreSQL, S3 and rs-order, each a process."""
    (products / "README.txt").write_text("products of the tests\n")
    # The tests are one user, and leave orders behind that are never downloaded.
    async with running_stack(products, durable=False, switches=UNLIMITED) as running:
        yield running


@pytest.fixture(scope="session")
def environment(stack: Stack) -> Iterator[None]:
    """The stack's addresses, as an operator would export them."""
    before = dict(os.environ)
    os.environ.update(stack.environment)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
async def migrated(stack: Stack) -> str:
    """The name of a database with the schema and nothing else; it is only copied."""
    url = stack.environment["DELIVERY_DATABASE_URL"]
    name = f"t{uuid4().hex}"
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    async with open_pool(url.rsplit("/", 1)[0] + "/" + name, size=10, start_timeout=30) as opened:
        await migrate(opened)
    return name


@pytest.fixture
async def database(
    request: pytest.FixtureRequest, stack: Stack, migrated: str
) -> AsyncIterator[str]:
    """A database of the test's own: empty, but where its `pool` is asked for, too."""
    url = stack.environment["DELIVERY_DATABASE_URL"]
    name = f"t{uuid4().hex}"
    asked = request.node.fixturenames  # by name; a `pool` that is asked for later is not among it
    like = "" if "database" in asked and "pool" not in asked else f" TEMPLATE {migrated}"
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE DATABASE {name}{like}")
    yield url.rsplit("/", 1)[0] + "/" + name
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
def apart(database: str) -> dict[str, str]:
    """Settings of processes that share nothing with those of other tests but the stack."""
    name = uuid4().hex[:8]
    return {
        "DELIVERY_DATABASE_URL": database,
        "DELIVERY_KAFKA_TOPIC_PREFIX": f"{name}.",
        "DELIVERY_KAFKA_GROUP": name,
    }


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    """A migrated database of the test's own."""
    async with open_pool(database, size=10, start_timeout=30) as opened:
        yield opened


@pytest.fixture
def settings(environment: None) -> Settings:
    """Settings on the stack, with topics and a consumer group of the test's own."""
    name = uuid4().hex[:8]
    return Settings(kafka_topic_prefix=f"{name}.", kafka_group=name, kafka_partitions=2)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    """A client that publishes requests and hears every response."""
    async with Client.connected(stack) as connected:
        yield connected


@pytest.fixture
async def standin(stack: Stack) -> AsyncIterator[StandIn]:
    """The switches of rs-order; it behaves again after the test."""
    async with StandIn.connected(stack.rs_order_url) as switches:
        yield switches
        await switches.reset()


@pytest.fixture
def make_product(products: Path) -> Iterator[Callable[..., str]]:
    """Make a product of files; its id is new each time."""
    made: list[Path] = []

    def make(files: dict[str, bytes]) -> str:
        product = f"P-{uuid4().hex[:10]}"
        folder = products / product
        folder.mkdir()
        made.append(folder)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return product

    yield make
    for folder in made:
        for path in folder.iterdir():
            path.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()


def noise(size: int, seed: str = "noise") -> bytes:
    """Return bytes that don't compress, the same for the same seed."""
    blocks = -(-size // 64)
    return b"".join(
        hashlib.sha512(f"{seed}-{number}".encode()).digest() for number in range(blocks)
    )[:size]
