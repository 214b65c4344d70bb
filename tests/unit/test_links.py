"""Links: how each kind of store signs them, what is told in DONE, and what no log has."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from uuid import uuid4

import pytest
import structlog.testing
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.audit import Actor
from app.cli.link import chosen, link
from app.delivery import outgoing
from app.delivery.disposition import attachment
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import CLOCK_SKEW
from app.delivery.outgoing import OutgoingMessage
from app.delivery.reports import report_marks
from app.delivery.states import State
from app.delivery.targets import DEFAULT_TARGET, Target, key_at
from app.delivery.told import Told
from app.errors import NoLinkError, TargetUnavailableError, UnknownDeliveryError
from app.settings import Settings
from app.store.memory import MemoryAudit, MemoryDatabase
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
from tests.loop_clock import LoopClock

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
    """Has some deliveries."""

    tracked: dict[object, Tracked] = field(default_factory=dict)

    async def one(self, _tenant: str, delivery: object) -> Tracked | None:
        return self.tracked.get(delivery)

    async def of(self, _tenant: str, correlation_id: str) -> list[Tracked]:
        every = reversed(self.tracked.values())
        return [link for link in every if link.delivery.correlation_id == correlation_id]


class Store(MemoryObjectStore):
    """Is away, or slow, when it is asked for a link."""

    before: Callable[[], Awaitable[object]] | None = None
    silent: str | None = None  # a container of which nothing is answered
    asked: Counter[str]
    putting = False

    async def find(self, target: MemoryTarget, key: str) -> Any:
        if self.putting:
            return None
        self.asked[target.container] += 1
        if target.container == self.silent:
            await asyncio.Event().wait()
        if self.before is not None:
            await self.before()
        return await super().find(target, key)


TARGET = MemoryTarget(container="archives")


@dataclass
class World:
    """Deliveries that are done, and what publishes that; one of them to begin with."""

    store: Store
    tenants: GivenTenants
    trackings: Trackings
    published: list[OutgoingMessage] = field(default_factory=list)
    now: datetime = NOON

    def __post_init__(self) -> None:
        tracking: Any = self.trackings
        stores = Stores({"memory": self.store})
        delivered = Delivered(tracking=tracking, tenants=self.tenants, objects=stores)
        links = Links(delivered=delivered, instead="take it", clock=lambda: self.now)
        self.links = links

        async def publish(owed: OutgoingMessage) -> None:
            self.published.append(owed)

        self.publish = links.told_by(publish)

    async def deliver(
        self,
        *,
        content: bytes | None = b"content",
        expires: str | None = None,
        target: MemoryTarget = TARGET,
        name: str = DEFAULT_TARGET,
        etag: str | None = None,
    ) -> OutgoingMessage:
        """Deliver an archive of 7 bytes, of which `content` is there now; return what tells it."""
        delivery = make_transfer(state=State.DONE, archive_name="a.zip", target=name)
        if content is not None:
            await self.put(delivery, content, target=target)
        url = target.url_of("c/a.zip")
        result = make_stored(url=url, size=7, etag=etag)
        told = replace(Told.of(result), expires=expires)
        self.trackings.tracked[delivery.id] = Tracked(
            delivery=delivery,
            updated_at=NOON,
            state_since=NOON,
            not_before=NOON,
            finished_at=NOON,
            worker=None,
            result=result,
            error=None,
            told=told,
        )
        return outgoing.done(delivery, result, told)

    async def put(
        self, delivery: Delivery, content: bytes, *, target: MemoryTarget = TARGET
    ) -> str:
        self.store.putting = True
        etag = await self.store.put_object(
            target,
            "c/a.zip",
            Part.of(content),
            marks_of(delivery),
            media_type="application/zip",
            may=at_any_time,
        )
        self.store.putting = False
        return etag


def make_world(before: Callable[[], Awaitable[object]] | None = None) -> World:
    store = Store()
    store.asked = Counter()
    store.before = before
    tenants = GivenTenants(Settings(tenants=(TENANT,)))
    tenants.give(TENANT, target=TARGET, link_ttl=timedelta(hours=3))
    return World(store, tenants, Trackings())


async def _fail() -> None:
    raise TargetUnavailableError("the store is away")


async def _break() -> None:
    raise ZeroDivisionError


async def test_done_tells_a_link_that_is_in_no_row_and_no_log() -> None:
    world = make_world()
    done = await world.deliver()
    with structlog.testing.capture_logs() as logged:
        await world.publish(done)
    (told,) = world.published
    assert told.body["httpUrlExpires"] == "2026-03-01T15:00:00+00:00"
    url = unquote(told.body["httpUrl"])
    assert url.startswith(f"{TARGET.url_of('c/a.zip')}?until=2026-03-01T15:00")
    assert {**told.body, "httpUrl": None, "httpUrlExpires": None} == {
        **done.body,
        "httpUrl": None,
        "httpUrlExpires": None,
    }
    assert told.message_id == done.message_id
    assert "httpUrl" not in done.body  # of the row: the same message, told again, has another
    assert logged == []


@pytest.mark.parametrize(
    ("expires", "until"),
    [
        ("2026-03-01T13:30:00Z", "2026-03-01T13:30:00+00:00"),
        ("2026-03-02T12:00:00Z", "2026-03-01T15:00:00+00:00"),  # the tenant's link_ttl is sooner
        ("2026-03-01T11:59:59Z", "2026-03-01T12:00:01+00:00"),  # over already: the least there is
    ],
)
async def test_a_link_ends_with_what_it_leads_to(expires: str, until: str) -> None:
    world = make_world()
    await world.publish(await world.deliver(expires=expires))
    (told,) = world.published
    assert told.body["httpUrlExpires"] == until
    assert f"?until={until}" in unquote(told.body["httpUrl"])


@pytest.mark.parametrize(
    ("stays", "until"),
    [
        (timedelta(hours=2), timedelta(hours=1)),
        (timedelta(days=2), timedelta(hours=3)),  # the tenant's link_ttl is sooner
        (timedelta(minutes=30), timedelta(seconds=1)),  # over already: the least there is
        (timedelta(), timedelta(hours=3)),  # it stays for ever
    ],
)
async def test_a_link_to_a_report_ends_with_it(stays: timedelta, until: timedelta) -> None:
    """No client is told when its report is removed: that is counted from the end."""
    world = make_world()
    world.tenants.give(TENANT, delivered_ttl=stays)
    world.now = NOON + timedelta(hours=1)
    delivery = make_transfer(state=State.ERROR)
    world.store.putting = True
    key = "c/report.json"
    marks = report_marks(delivery)
    part = Part.of(b"{}")
    put = world.store.put_object
    await put(TARGET, key, part, marks, media_type="application/json", may=at_any_time)
    world.store.putting = False
    tracked = Tracked(
        delivery=delivery,
        updated_at=NOON,
        state_since=NOON,
        not_before=NOON,
        finished_at=NOON,
        worker=None,
        result=None,
        error=("INTERNAL_ERROR", "why"),
        told=Told(report_url=TARGET.url_of(key)),
    )
    actor = Actor(name="ada", role="EXPLOIT", tenant=TENANT)
    made = await world.links.make(actor, tracked, trail=MemoryAudit(MemoryDatabase()))
    assert made.expires == world.now + until


async def test_a_link_of_the_longest_life_is_one_that_every_store_takes() -> None:
    """Azure counts from when its key begins, which is before now, and by its own clock."""
    world = make_world()
    world.tenants.give(TENANT, link_ttl=timedelta(days=7))
    await world.publish(await world.deliver())
    (told,) = world.published
    until = datetime.fromisoformat(told.body["httpUrlExpires"])
    assert until == NOON + timedelta(days=7) - 2 * CLOCK_SKEW
    assert until - (NOON - CLOCK_SKEW) < timedelta(days=7)


async def test_a_tenant_without_links_is_told_none() -> None:
    world = make_world()
    done = await world.deliver()
    world.tenants.give(TENANT, link_ttl=timedelta())
    await world.publish(done)
    assert world.published == [done]


async def test_what_is_not_done_tells_no_link() -> None:
    world = make_world(_break)
    done = await world.deliver()
    granted = outgoing.granted(make_transfer())
    others = [make_outgoing(), granted, replace(done, tenant="gone")]
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
    world = make_world(before)
    done = await world.deliver()
    with structlog.testing.capture_logs() as logged:
        await world.publish(done)
    assert world.published == [done]
    assert [line["event"] for line in logged] == ["link_not_made"]


@pytest.mark.parametrize("content", [None, b"another length", b"changed"])
async def test_done_tells_no_link_to_what_is_gone_or_replaced_by_then(
    content: bytes | None,
) -> None:
    """Also by other hands, which keep the marks: what is there is not what was told."""
    world = make_world()
    etag = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    done = await world.deliver(content=content, etag=etag)
    with structlog.testing.capture_logs() as logged:
        await world.publish(done)
    assert world.published == [done]
    says = "there is nothing any more" if content is None else "there is another object now"
    assert says in logged[0]["cause"]


async def test_a_silent_store_takes_the_links_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of it is told at once. It is not asked again for a while: DONE waits for it."""
    monkeypatch.setattr("app.usecases.links._TIMEOUT", 5.0)
    world, clock = make_world(), LoopClock(monkeypatch)
    silent = MemoryTarget(container="silent")
    world.tenants.give(TENANT, targets={"silent": silent})
    world.store.silent = "silent"
    slow = [await world.deliver(target=silent, name="silent") for _ in range(25)]
    quick = await world.deliver()
    with structlog.testing.capture_logs() as logged:
        telling = asyncio.gather(*map(world.publish, [*slow, quick]))
        while not world.published:
            await asyncio.sleep(0)
        clock.passed = 5.0
        await telling
    linked = [told for told in world.published if "httpUrl" in told.body]
    assert [told.delivery_id for told in linked] == [quick.delivery_id]
    assert len(world.published) == 26
    assert [line["event"] for line in logged] == ["link_not_made"] * 25
    asked = world.store.asked["silent"]
    with structlog.testing.capture_logs() as logged:
        await world.publish(slow[0])
    assert world.published[-1] == slow[0]
    assert world.store.asked["silent"] == asked < 25
    assert "was silent" in logged[0]["cause"]
    world.store.silent = None
    world.now += timedelta(minutes=5)
    await world.publish(slow[-1])  # its object is the one that stays
    assert "httpUrl" in world.published[-1].body


async def test_a_target_with_more_to_link_than_it_has_turns_is_not_taken_for_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait for a turn is no time of the target's: what had none says nothing of it."""
    monkeypatch.setattr("app.usecases.links._LINK_TIMEOUT", 0.05)
    world = make_world(_hang)
    with structlog.testing.capture_logs() as logged:
        await asyncio.gather(*[world.publish(await world.deliver()) for _ in range(15)])
    assert all("httpUrl" not in told.body for told in world.published)
    assert {line["cause"] for line in logged} == {"it was not made within 0.05 s"}
    monkeypatch.setattr("app.usecases.links._LINK_TIMEOUT", 15.0)
    world.store.before = None
    await world.publish(await world.deliver())
    assert "httpUrl" in world.published[-1].body


# Which delivery is meant, where its correlation id was used again.


async def test_a_delivery_is_chosen_by_its_id_among_those_of_a_correlation_id() -> None:
    world = make_world()
    for _ in range(3):
        await world.deliver()
    first, _, newest = world.trackings.tracked.values()
    tracking: Any = world.trackings
    assert await chosen(tracking, TENANT, "c", None) is newest
    assert await chosen(tracking, TENANT, None, first.delivery.id) is first
    assert await chosen(tracking, TENANT, "c", first.delivery.id) is first
    for name, delivery in (("d", None), ("d", first.delivery.id), ("c", uuid4()), (None, uuid4())):
        with pytest.raises(UnknownDeliveryError, match="has no delivery"):
            await chosen(tracking, TENANT, name, delivery)


def test_a_link_needs_a_name_of_its_delivery() -> None:
    ended = CliRunner().invoke(link, [])
    assert ended.exit_code == 2
    assert "by its correlation id, or by --id" in ended.output
