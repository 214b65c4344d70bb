"""What integration tests build by hand instead of starting the whole service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.delivery.ingress import Receipt
from app.delivery.manifest import ListedFile
from app.delivery.model import Delivery
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.outgoing import Lane, Outgoing
from app.delivery.states import State, Work
from app.delivery.targets import Blocked, S3Target
from app.errors import ErrorType
from app.run.wiring.tenants import ConfigurationParts, open_configuration
from app.settings import Settings
from app.store import Outbox, PostgresArrivals, PostgresLeases, PostgresStore
from app.tenants.registry import ConfiguredTenants
from app.tenants.vault import Vault, make_key
from app.usecases.fail import fail
from app.usecases.order_progress import order_progressed
from app.usecases.submit import receive
from app.usecases.uploads import Uploads
from app.waiting.signals import Signal
from compose.embedded.stack import TENANT
from sinks.stores.s3.store import S3Sink, open_sink
from streams.regards.users import AnyUser
from tests.builders import make_listed, make_manifest, make_receipt, make_request, make_stored
from tests.integration.s3_proxy import Proxied, running_proxy
from tests.reference import lay_out


class Deliveries:
    """Short cuts to the states of a delivery, through the real use-cases."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self.pool = pool
        self.store = PostgresStore(pool, Signal())
        self.tenants = ConfiguredTenants(settings)
        self.vault = Vault([make_key()])

    def uploads(self, sink: S3Sink) -> Uploads:
        """Return what remembers where uploads are open."""
        return Uploads(sink=sink, seal=self.vault, store=self.store)

    async def grant(self, receipt: Receipt) -> None:
        """Grant the request of a receipt."""
        await receive(
            [(receipt, make_request())], store=self.store, tenants=self.tenants, users=AnyUser()
        )

    async def granted(self, correlation_id: str = "c", **changes: Any) -> Delivery:
        """Grant a request."""
        receipt = make_receipt(correlation_id, **changes)
        await self.grant(receipt)
        return await self.active(correlation_id, receipt.tenant)

    async def available(self, correlation_id: str = "c", **changes: Any) -> Delivery:
        """Grant a request, and let its order be done."""
        delivery = await self.granted(correlation_id, **changes)
        # An order of its own: what is said of an earlier delivery's order is not about this one.
        order_id = await self.pool.fetchval(
            "SELECT count(*) FROM delivery WHERE tenant = $1 AND correlation_id = $2",
            delivery.tenant,
            correlation_id,
        )
        await self.tell(OrderStatus.DONE, correlation_id, order_id=order_id, tenant=delivery.tenant)
        available = await self.active(correlation_id, delivery.tenant)
        assert available.state is State.AVAILABLE
        return available

    async def ready(self, correlation_id: str = "c", *, files: int = 3, **changes: Any) -> Delivery:
        """Grant a request, let its order be done, and plan some files."""
        delivery = await self.available(correlation_id, **changes)
        listing = [
            make_listed(f"f{number}", file_id=number, size=number) for number in range(files)
        ]
        await self.plan(delivery, listing)
        return await self.active(correlation_id, delivery.tenant)

    async def plan(self, delivery: Delivery, listing: Sequence[ListedFile]) -> None:
        """Make a delivery ready that is available."""
        archive, members = lay_out(delivery.correlation_id, listing)
        async with self.store.transaction() as tx:
            await tx.add_files(delivery, members)
            assert await tx.advance(delivery, State.READY, manifest=make_manifest(members, archive))

    async def done(self, correlation_id: str = "c") -> None:
        """Let a delivery go all the way."""
        await self.ready(correlation_id)
        delivery = await self.leases("w").claim(Work.TRANSFER)
        assert delivery is not None
        async with self.store.transaction() as tx:
            assert await tx.advance(delivery, State.DONE, result=make_stored())

    async def order(self) -> None:
        """Let what is owed to rs-order be sent."""

        async def publish(_message: Outgoing) -> None:
            """Confirm it."""

        while (await Outbox(self.pool, batch=99).relay(Lane.ORDERS, publish))[0]:
            pass

    async def fail(self, delivery: Delivery, cause: str) -> None:
        """End a delivery in ERROR."""
        async with self.store.transaction() as tx:
            assert await fail(tx, delivery, ErrorType.INTERNAL_ERROR, cause)

    async def tell(
        self, status: OrderStatus, correlation_id: str = "c", tenant: str = TENANT, **fields: Any
    ) -> None:
        """Apply an order event."""
        event = OrderEvent(tenant=tenant, correlation_id=correlation_id, status=status, **fields)
        await order_progressed(event, store=self.store)

    async def active(self, correlation_id: str, tenant: str = TENANT) -> Delivery:
        """Return the active delivery."""
        async with self.store.transaction() as tx:
            delivery = await tx.lock(tenant, correlation_id)
        assert delivery is not None
        return delivery

    async def states(self) -> list[str]:
        """Return the states of all deliveries."""
        rows = await self.pool.fetch("SELECT state FROM delivery ORDER BY requested_at")
        return [row["state"] for row in rows]

    async def owed(self) -> list[tuple[str, dict[str, Any]]]:
        """Return kind and body of all that is owed, in order."""
        rows = await self.pool.fetch("SELECT kind, body FROM outbox ORDER BY id")
        return [(row["kind"], row["body"]) for row in rows]

    async def history(self, delivery_id: UUID) -> list[str]:
        """Return the states that a delivery went through."""
        rows = await self.pool.fetch(
            "SELECT state FROM delivery_history WHERE delivery_id = $1 ORDER BY id", delivery_id
        )
        return [row["state"] for row in rows]

    def leases(
        self,
        owner: str,
        seconds: float = 30,
        *,
        transfers_per_tenant: int | None = None,
        blocked: Callable[[], Blocked] = Blocked,
    ) -> PostgresLeases:
        """Return the leases as a worker sees them."""
        return PostgresLeases(
            self.pool,
            owner=owner,
            ttl=timedelta(seconds=seconds),
            transfers_per_tenant=transfers_per_tenant,
            blocked=blocked,
        )


@pytest.fixture
def deliveries(pool: asyncpg.Pool, settings: Settings) -> Deliveries:
    """Deliveries in a database of the test's own."""
    return Deliveries(pool, settings)


@pytest.fixture
def arrivals(pool: asyncpg.Pool) -> PostgresArrivals:
    """What arrived, in a database of the test's own; it counts as lost at once."""
    return PostgresArrivals(pool, allowance=timedelta())


@pytest.fixture
async def sink() -> AsyncIterator[S3Sink]:
    """The real sink."""
    async with open_sink() as opened:
        yield opened


async def abort_all(sink: S3Sink, target: S3Target, key: str) -> None:
    """Abort whatever is open under a key."""
    for upload in await sink.open_uploads(target, key):
        await sink.abort(target, upload)


@pytest.fixture
def target(settings: Settings) -> S3Target:
    """The embedded stack's bucket."""
    return ConfiguredTenants(settings).settings(TENANT).target


@pytest.fixture
async def proxied(target: S3Target) -> AsyncIterator[Proxied]:
    """The store's proxy, and the target through it: a store of which nothing is known."""
    async with running_proxy(target) as both:
        yield both


@pytest.fixture
def name() -> str:
    """A correlation id of the test's own: the bucket is everybody's."""
    return f"c-{uuid4().hex[:12]}"


@pytest.fixture
def keys() -> list[str]:
    """The keys that every process has."""
    return [make_key()]


def with_keys(settings: Settings, keys: list[str]) -> Settings:
    """Return settings with keys, as the environment would give them."""
    return Settings(**{**settings.model_dump(), "secret_keys": ",".join(keys)})


@pytest.fixture
async def configuration(
    settings: Settings, pool: asyncpg.Pool, keys: list[str]
) -> ConfigurationParts:
    """What settings are kept with; a tenant may set its bucket, as the contract has it."""
    chosen = settings.model_copy(update={"tenants_choose_buckets": True})
    return await open_configuration(with_keys(chosen, keys), pool)
