"""PostgreSQL: rows as they are written, and as they are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import asyncpg

from app.audit import Actor, AuditRecord
from app.delivery.ingress import Arrival, ArrivalKind, Asked, Opening
from app.delivery.manifest import Manifest, ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.states import State, Work
from app.delivery.targets import Blocked
from app.run.wiring.kinds import KINDS
from app.store import PostgresArrivals, PostgresLeases, PostgresOutbox, PostgresStore
from app.store.configuration import PostgresConfiguration
from app.tenants.vault import Vault
from app.usecases.uploads import Uploads
from app.waiting.wakeup import Wakeup
from tests.recorded.today.examples import (
    ASKED_FOR,
    AT,
    CORRELATION,
    DELIVERY,
    DIGEST,
    EVENT,
    ID,
    MESSAGE,
    OWED,
    RESULT,
    TARGET,
    TENANT,
    UPLOAD,
    USER,
)

_TABLES = (
    "arrival",
    "asked",
    "audit",
    "delivery",
    "delivery_file",
    "delivery_history",
    "inbox",
    "outbox",
    "turn",
)
_OTHER = UUID("00000000-0000-4000-8000-000000000003")
_ARRIVED = Arrival(
    ingress_id=EVENT, kind=ArrivalKind.CANCEL, key=b"default/d-001", value=b'{"eventId":"an event"}'
)
_FILE = ManifestFile(position=0, file_id=12, member="a.tif", size=7, md5="0" * 32)
_KEY = "cmVjb3JkZWQtdGVzdC1rZXktcmVjb3JkZWQtdGVzdC0="


async def rows(pool: asyncpg.Pool) -> Any:
    """Two deliveries, one in a transfer and one done, and all that is kept beside them."""
    store, leases = PostgresStore(pool, Wakeup()), _leases(pool)
    await PostgresArrivals(pool, allowance=timedelta(minutes=1)).save(_ARRIVED)
    await _completing(store, leases, ID, CORRELATION)
    claimed, result = await _completing(store, leases, _OTHER, "d-002")
    async with store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=result)
        await tx.enqueue(*OWED.values())
        await tx.record_request(Asked(request=DIGEST, key=DIGEST[::-1]), ID)
        actor = Actor(name=USER, role="EXPLOIT", tenant=TENANT)
        await tx.audit(
            AuditRecord(
                actor=actor, action="cancel", subject="delivery d-001", before="READY", after="x"
            )
        )
    return {table: await _rows(pool, table) for table in _TABLES}


def _leases(pool: asyncpg.Pool) -> PostgresLeases:
    return PostgresLeases(
        pool,
        owner="worker-1",
        ttl=timedelta(minutes=1),
        transfers_per_tenant=None,
        blocked=Blocked,
    )


async def _completing(
    store: PostgresStore, leases: PostgresLeases, delivery_id: UUID, correlation_id: str
) -> tuple[Delivery, StoredObject]:
    """Bring a delivery to where its archive is about to appear."""
    await _opened(store, delivery_id, correlation_id)
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    assert claimed.id == delivery_id
    located = replace(UPLOAD, key=f"archives/{correlation_id}/P_v1.zip", target="sealed")
    assert await leases.record_upload(claimed, located)
    result = replace(RESULT, url=TARGET.url_of(located.key))
    assert await leases.record_completion(
        claimed, result, namespace="s3.example.org:9000", until=timedelta(minutes=16)
    )
    return claimed, result


async def _opened(store: PostgresStore, delivery_id: UUID, correlation_id: str) -> None:
    """Bring a delivery to where it can be transferred."""
    ingress = replace(MESSAGE.ingress, id=delivery_id, digest=delivery_id.bytes * 2)
    opening = Opening(
        request=replace(ASKED_FOR, id=delivery_id, correlation_id=correlation_id),
        state=State.GRANTED,
        requested_at=AT,
        ttl=timedelta(days=36500),
    )
    async with store.transaction() as tx:
        await tx.record_receipts([ingress])
        (delivery,) = await tx.open_deliveries([opening])
        assert await tx.advance(delivery, State.AVAILABLE, order_id=42, total_suborders=2)
        available = await tx.lock(TENANT, correlation_id)
        assert available is not None
        await tx.add_files(available, [_FILE])
        manifest = Manifest(archive_name="P_v1.zip", file_count=1, total_bytes=7)
        assert await tx.advance(available, State.READY, manifest=manifest)


async def _rows(pool: asyncpg.Pool, table: str) -> list[Any]:
    """Return the rows of a table as JSON; a time of now is "a time"."""
    times = await pool.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass "
        "AND atttypid = 'timestamptz'::regtype",
        table,
    )
    names = {row["attname"] for row in times}
    found = await pool.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t")  # noqa: S608
    read = [json.loads(row["row"]) for row in found]
    shown = [
        {k: "a time" if k in names and v is not None else v for k, v in row.items()} for row in read
    ]
    return sorted(shown, key=lambda row: json.dumps(row, sort_keys=True))


async def put(pool: asyncpg.Pool, recorded: dict[str, Sequence[Any]], **changes: str) -> None:
    """Put recorded rows into an empty database, `changes` where a row has something else there."""
    for table, found in recorded.items():
        columns = await pool.fetchval(_WRITTEN, table)
        for row in found:
            known = {k: "now" if v == "a time" else v for k, v in row.items()}
            known |= {k: v for k, v in changes.items() if row.get(k) is not None}
            await pool.execute(
                f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE "  # noqa: S608
                f"SELECT {columns} FROM jsonb_populate_record(NULL::{table}, $1::text::jsonb)",
                json.dumps(known),
            )


_WRITTEN = """
SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


async def owed(pool: asyncpg.Pool) -> tuple[list[OutgoingMessage], list[OutgoingMessage]]:
    """Return what the outbox has to be sent, and what it should be; both in some order."""
    sent: list[OutgoingMessage] = []

    async def publish(message: OutgoingMessage) -> None:
        sent.append(message)

    outbox = PostgresOutbox(pool, batch=10)
    for lane in Lane:
        while (await outbox.relay(lane, publish))[0]:
            pass
    return sent, list(OWED.values())


async def arrived(pool: asyncpg.Pool) -> tuple[list[Arrival], list[Arrival]]:
    """Return what arrived and counts as lost, and what it should be."""
    return await PostgresArrivals(pool, allowance=timedelta()).overdue(10), [_ARRIVED]


async def under_way(pool: asyncpg.Pool) -> tuple[Delivery, Delivery]:
    """Return the delivery that is in a transfer, and what it should be; without its times."""
    async with PostgresStore(pool, Wakeup()).transaction() as tx:
        found = await tx.lock(TENANT, CORRELATION)
    assert found is not None
    expected = replace(
        DELIVERY,
        state=State.TRANSFERRING,
        trace=MESSAGE.trace,
        order_id=42,
        total_suborders=2,
        archive_name="P_v1.zip",
        file_count=1,
        total_bytes=7,
        attempt=1,
        upload=replace(UPLOAD, target=found.upload.target if found.upload else None),
        completing=RESULT,
    )
    return replace(found, requested_at=AT, expires_at=AT), expected


def _uploads(key: str) -> Uploads:
    return Uploads(objects=MagicMock(), seal=Vault([key]), store=MagicMock(), kinds=KINDS)


def _located() -> str:
    target = _uploads(_KEY).located(UPLOAD, TARGET).target
    assert target is not None
    return target


async def sealed(pool: asyncpg.Pool) -> Any:
    """Seal an upload's place and a setting; return key, sealed forms and what is in them."""
    vault = Vault([_KEY])
    target = _located()
    async with PostgresConfiguration(pool, vault).change(TENANT) as change:
        await change.set("s3_server", _SERVER)
    (setting,) = await _rows(pool, "tenant_setting")
    return {
        "key": _KEY,
        "upload_target": {"sealed": target, "opened": json.loads(vault.open(target))},
        "tenant_setting": {"sealed": setting, "opened": _SERVER},
    }


_SERVER = {
    "scheme": "https",
    "host": "s3.example.org",
    "port": 9000,
    "region": "fr-regards-1",
    "key": "access",
    "secret": "secret",
}


def sealed_now() -> dict[str, Any]:
    """Return what would be sealed today."""
    place = json.loads(Vault([_KEY]).open(_located()))
    return {"upload_target": place, "tenant_setting": _SERVER}


def place(recorded: Any, delivery: Delivery) -> Any:
    """Return where a delivery's upload is open, by the recorded key."""
    found = _uploads(recorded["key"]).place(delivery)
    return found and found.noted()


async def setting(recorded: Any, pool: asyncpg.Pool) -> Any:
    """Return the tenant's setting as it is read by the recorded key."""
    await put(pool, {"tenant_setting": [recorded["tenant_setting"]["sealed"]]})
    found = await PostgresConfiguration(pool, Vault([recorded["key"]])).read()
    return found.settings[TENANT]["s3_server"].value
