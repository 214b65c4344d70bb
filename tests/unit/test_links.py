"""Links: how each kind of store signs them, what is told in DONE, and what no log has."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
import structlog.testing
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.delivery import outgoing
from app.delivery.disposition import attachment
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.outgoing import OutgoingMessage
from app.delivery.states import State
from app.delivery.targets import Target, key_at
from app.delivery.told import Told
from app.errors import NoLinkError, TargetUnavailableError
from app.settings import Settings
from app.usecases.delivered import Delivered
from app.usecases.links import Links
from app.views.deliveries import Tracked
from compose.embedded.stack import TENANT
from sinks.pipeline.parts import Part
from sinks.stores.azure.target import AzureTarget
from sinks.stores.file.target import FileTarget
from sinks.stores.gcs.account import read_account
from sinks.stores.gcs.links import link as gcs_link
from sinks.stores.gcs.links import signed as gcs_signed
from sinks.stores.gcs.target import PUBLIC, GcsTarget
from sinks.stores.kinds import Stores
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from sinks.stores.s3.links import Door
from sinks.stores.sftp.target import SftpTarget
from tests.builders import (
    GivenTenants,
    at_any_time,
    make_outgoing,
    make_stored,
    make_target,
    make_transfer,
)
from tests.contract.object_store import make_asked
from tests.gcs_account import credentials, public_key

VECTORS = json.loads(Path(__file__).with_name("gcs_v4_signatures.json").read_text("utf-8"))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SFTP = SftpTarget(host="sftp.example.org", user="u", host_key="k", path="/data")


# Where an object is, by its URL.


@pytest.mark.parametrize("key", ["p/c/a.zip", "c/a b.zip", "ä/100%25;x?y#z+.zip", "c/a%20b.zip"])
@pytest.mark.parametrize(
    "target",
    [
        make_target(),
        AzureTarget(endpoint="https://a.blob.core.windows.net", account="a", container="c"),
        GcsTarget(container="b", credentials="identity"),
        FileTarget(path="/archives"),
        SFTP,
        replace(SFTP, path="/"),
        MemoryTarget(container="archives"),
    ],
    ids=lambda target: f"{target.kind} {target.container}",
)
def test_a_key_is_found_by_the_url_that_was_told(target: Target, key: str) -> None:
    assert key_at(target, target.url_of(key)) == key
    assert key_at(target, "s3://another/c/a.zip") is None
    assert key_at(target, target.url_of("")) is None


# What a file is called where it is saved.


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.zip", 'attachment; filename="a.zip"'),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ('a"\r\nX: y', "attachment; filename=\"a___X_ y\"; filename*=UTF-8''a%22%0D%0AX%3A%20y"),
        ("ä%.zip", "attachment; filename=\"__.zip\"; filename*=UTF-8''%C3%A4%25.zip"),
        ("", 'attachment; filename="download"'),
    ],
)
def test_a_name_is_told_so_that_no_client_takes_it_for_more(name: str, told: str) -> None:
    assert attachment(name) == told


# How they are signed.


@pytest.mark.parametrize("vector", VECTORS["tests"], ids=lambda vector: vector["description"])
def test_google_links_are_signed_as_google_says(vector: dict[str, Any]) -> None:
    asked = make_asked(
        at=datetime.fromisoformat(vector["timestamp"]),
        seconds=vector["expiration"],
    )
    target = GcsTarget(container=vector["bucket"], credentials=json.dumps(VECTORS["account"]))
    account = read_account(target.credentials)
    assert gcs_signed(target, vector["object"], asked, account, {}) == vector["expectedUrl"]


def test_a_google_link_tells_the_name_of_the_file_and_that_is_signed() -> None:
    target = GcsTarget(container="b", credentials=credentials())
    url = gcs_link(target, "c/ä b.zip", make_asked(at=NOON, seconds=60, name="ä b.zip"))
    address = urlsplit(url)
    assert url.startswith(f"{PUBLIC}/b/c/%C3%A4%20b.zip?")
    query = dict(parse_qsl(address.query, strict_parsing=True))
    assert query["response-content-disposition"] == attachment("ä b.zip")
    assert query["response-content-type"] == "application/zip"
    signature = bytes.fromhex(query.pop("X-Goog-Signature"))
    canonical = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(query.items())
    )
    asked = f"GET\n{address.path}\n{canonical}\nhost:{address.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Goog-Credential"].partition("/")[2]
    digest = hashlib.sha256(asked.encode()).hexdigest()
    told = f"GOOG4-RSA-SHA256\n20260301T120000Z\n{scope}\n{digest}"
    key = load_pem_public_key(public_key().encode())
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(signature, told.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_the_identity_of_a_machine_signs_no_google_link() -> None:
    with pytest.raises(NoLinkError, match="key of a service account"):
        gcs_link(GcsTarget(container="b", credentials="identity"), "k", make_asked())


@pytest.mark.parametrize(
    ("changes", "door", "begins"),
    [
        ({}, Door(), "http://s3.example.org:9000/b/c/a.zip?"),
        ({"addressing_style": "virtual"}, Door(), "http://b.s3.example.org:9000/c/a.zip?"),
        (
            {"public_endpoint": "https://files.example.org"},
            Door(),
            "https://files.example.org/b/c/a.zip?",
        ),
        (
            {},
            Door.between("http://S3.example.org:9000", "https://files.example.org/"),
            "https://files.example.org/b/c/a.zip?",
        ),
        (
            {},
            Door.between("http://other.example.org:9000", "https://files.example.org"),
            "http://s3.example.org:9000/b/c/a.zip?",
        ),
        (
            {"endpoint": "https://s3.example.org:443"},
            Door.between("https://s3.example.org", "https://files.example.org"),
            "https://files.example.org/b/c/a.zip?",
        ),
    ],
)
def test_an_s3_link_leads_to_where_clients_reach_the_server(
    changes: dict[str, Any], door: Door, begins: str
) -> None:
    target = replace(make_target(bucket="b", endpoint="http://s3.example.org:9000"), **changes)
    url = door.link(target, "c/a.zip", make_asked(at=NOON, seconds=60))
    assert url.startswith(begins)
    query = dict(parse_qsl(urlsplit(url).query))
    assert (query["X-Amz-Date"], query["X-Amz-Expires"]) == ("20260301T120000Z", "60")
    assert re.fullmatch("[0-9a-f]{64}", query["X-Amz-Signature"])
    assert "X-Amz-Security-Token" not in query


def test_an_s3_link_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    url = Door().link(make_target(), "c/a.zip", make_asked())
    assert url.partition("X-Amz-Signature=")[2]
    assert caplog.text == ""


# What is told in DONE.


@dataclass
class Trackings:
    """Has one delivery, if any."""

    tracked: Tracked | None

    async def one(self, _tenant: str, _delivery: object) -> Tracked | None:
        return self.tracked


class Store(MemoryObjectStore):
    """Is away, or slow, when it is asked for a link."""

    before: Callable[[], Awaitable[object]] | None = None

    async def find(self, target: MemoryTarget, key: str) -> Any:
        if self.before is not None:
            await self.before()
        return await super().find(target, key)


TARGET = MemoryTarget(container="archives")


@dataclass
class World:
    """A delivery that is done, and what publishes that."""

    delivery: Delivery
    done: OutgoingMessage
    tenants: GivenTenants
    publish: Callable[[OutgoingMessage], Awaitable[None]]
    published: list[OutgoingMessage] = field(default_factory=list)


async def make_world(
    before: Callable[[], Awaitable[object]] | None = None, *, content: bytes | None = b"content"
) -> World:
    delivery = make_transfer(state=State.DONE, archive_name="a.zip")
    store = Store()
    if content is not None:
        await store.put_object(
            TARGET,
            "c/a.zip",
            Part.of(content),
            marks_of(delivery),
            media_type="application/zip",
            may=at_any_time,
        )
    store.before = before
    result = make_stored(url=TARGET.url_of("c/a.zip"), size=7)
    tracked = Tracked(
        delivery=delivery,
        updated_at=NOON,
        state_since=NOON,
        not_before=NOON,
        finished_at=NOON,
        worker=None,
        result=result,
        error=None,
    )
    tenants = GivenTenants(Settings(tenants=(TENANT,)))
    tenants.give(TENANT, target=TARGET, link_ttl=timedelta(hours=3))
    tracking: Any = Trackings(tracked)
    delivered = Delivered(tracking=tracking, tenants=tenants, objects=Stores({"memory": store}))
    links = Links(delivered=delivered, instead="take it", clock=lambda: NOON)
    published: list[OutgoingMessage] = []

    async def publish(owed: OutgoingMessage) -> None:
        published.append(owed)

    done = outgoing.done(delivery, result, Told.of(result))
    return World(delivery, done, tenants, links.told_by(publish), published)


async def _fail() -> None:
    raise TargetUnavailableError("the store is away")


async def _break() -> None:
    raise ZeroDivisionError


async def test_done_tells_a_link_that_is_in_no_row_and_no_log() -> None:
    world = await make_world()
    with structlog.testing.capture_logs() as logged:
        await world.publish(world.done)
    (told,) = world.published
    assert told.body["httpUrlExpires"] == "2026-03-01T15:00:00+00:00"
    url = unquote(told.body["httpUrl"])
    assert url.startswith(f"{TARGET.url_of('c/a.zip')}?until=2026-03-01T15:00")
    assert {**told.body, "httpUrl": None, "httpUrlExpires": None} == {
        **world.done.body,
        "httpUrl": None,
        "httpUrlExpires": None,
    }
    assert told.message_id == world.done.message_id
    assert "httpUrl" not in world.done.body  # of the row: the same message, told again, has another
    assert logged == []


async def test_a_tenant_without_links_is_told_none() -> None:
    world = await make_world()
    world.tenants.give(TENANT, link_ttl=timedelta())
    await world.publish(world.done)
    assert world.published == [world.done]


async def test_what_is_not_done_tells_no_link() -> None:
    world = await make_world(_break)
    others = [make_outgoing(), outgoing.granted(world.delivery), replace(world.done, tenant="gone")]
    for other in others:
        await world.publish(other)
    assert world.published == others


async def _hang() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("before", [_fail, _break, _hang])
async def test_done_is_told_without_a_link_rather_than_later(
    before: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.usecases.links._TIMEOUT", 0.01)
    world = await make_world(before)
    with structlog.testing.capture_logs() as logged:
        await world.publish(world.done)
    assert world.published == [world.done]
    assert [line["event"] for line in logged] == ["link_not_made"]


async def test_done_tells_no_link_to_what_is_gone_by_then() -> None:
    world = await make_world(content=None)
    await world.publish(world.done)
    assert world.published == [world.done]
