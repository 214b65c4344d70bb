"""What was delivered, had by a link or through the service: by whom, and how it ends."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import asyncpg
import pytest
import structlog.testing

from app.delivery.manifest import MANIFEST_NAME
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.states import State, Work
from app.delivery.told import Told
from app.errors import ErrorType, TargetUnavailableError
from app.run.wiring.tenants import ConfigurationParts
from app.store import PostgresAudit, PostgresTracking
from app.usecases.delivered import Delivered
from app.usecases.links import Links
from compose.embedded.stack import USER
from sinks.pipeline.parts import Part
from sinks.stores.kinds import Stores
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from tests.builders import GivenTenants, at_any_time, make_body, make_listed
from tests.integration.conftest import Deliveries
from tests.web.conftest import PLENTY, SECRET, TENANT, Api, MakeClient, bearer, parts_for, serve
from tests.web.looks import Looks
from web.api.content import ContentApi
from web.guard.auth import TokenVerifier
from web.guard.downloads import Downloads
from web.guard.gate import Gate
from web.guard.keys import TokenKeys

TARGET = MemoryTarget(container="archives", prefix="p/")
CONTENT = bytes(range(256)) * 40
ETAG_OF = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Store(MemoryObjectStore):
    """Counts reads, and may wait or fail before one."""

    reads: list[tuple[int, int]] = field(default_factory=list)
    ended: int = 0
    before: Callable[[int], Any] | None = None  # awaited, with the offset

    async def read(
        self, target: MemoryTarget, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        self.reads.append((offset, length))
        try:
            if self.before is not None:
                await self.before(offset)
            return await super().read(target, key, etag=etag, offset=offset, length=length)
        finally:
            self.ended += 1


@dataclass
class World:
    """A service with a store, and what was delivered there."""

    api: Api
    store: Store
    tenants: GivenTenants
    deliveries: Deliveries
    downloads: Downloads
    gate: Gate
    looks: Looks  # of the gate, whether downloads may go on

    async def done(
        self,
        correlation_id: str = "c",
        content: bytes = CONTENT,
        *,
        files: Sequence[str] = ("f0", "f1", "f2"),
        etag: str | None = None,
        **changes: Any,
    ) -> Delivery:
        """Deliver an archive of some bytes, or, with changes, files of 8 bytes as they are."""
        if changes:  # their list is called so
            ready = await self.deliveries.available(correlation_id, **changes)
            listing = [
                make_listed(name, file_id=number, size=8) for number, name in enumerate(files)
            ]
            await self.deliveries.plan(ready, listing, archive_name=MANIFEST_NAME)
        else:
            ready = await self.deliveries.ready(correlation_id)
        claimed = await self.deliveries.leases("w").claim(Work.TRANSFER)
        assert claimed is not None
        assert claimed.id == ready.id
        await self.put(claimed, f"p/{correlation_id}/{claimed.archive_name}", content)
        result = StoredObject(
            url=TARGET.url_of(f"p/{correlation_id}/{claimed.archive_name}"),
            md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
            size=len(content),
            etag=etag,
        )
        async with self.deliveries.store.transaction() as tx:
            await tx.advance(claimed, State.DONE, result=result)
        return claimed

    async def put(self, delivery: Delivery, key: str, content: bytes) -> None:
        await self.store.put_object(
            TARGET,
            key,
            Part.of(content),
            marks_of(delivery),
            media_type="application/zip",
            may=at_any_time,
        )


@pytest.fixture
async def world(
    configuration: ConfigurationParts,
    deliveries: Deliveries,
    tenants: GivenTenants,
    aiohttp_client: MakeClient,
) -> AsyncIterator[World]:
    """The application; links hold for two hours, and three downloads may be under way."""
    tenants.give(TENANT, target=TARGET, targets={}, link_ttl=timedelta(hours=2))
    store, pool = Store(), configuration.pool
    tracking = PostgresTracking(pool)
    delivered = Delivered(
        tracking=tracking,
        tenants=tenants,
        objects=Stores({"memory": store}),
        media_types={".zip": "application/zip"},
    )
    links = Links(delivered=delivered, instead="take it from there", clock=lambda: NOON)
    downloads = Downloads(3, per_tenant=2, per_user=1)
    content = ContentApi(
        tracking, delivered, links, PostgresAudit(pool), downloads, bit=4096, write=5.0
    )
    looks = Looks()
    gate = Gate(
        TokenVerifier(secret=SECRET, public_key=""),
        configuration.tenants,
        limits=PLENTY,
        until_look=looks,
    )
    api = await serve(aiohttp_client, parts_for(configuration, content=content, gate=gate))
    yield World(api, store, tenants, deliveries, downloads, gate, looks)
    assert len(downloads) == 0


async def test_the_report_of_a_delivery_that_failed_is_had_as_an_archive_is(world: World) -> None:
    ready = await world.deliveries.ready("c")
    report = b'{"files":[]}'
    await world.put(ready, "p/c/report.json", report)
    async with world.deliveries.store.transaction() as tx:
        await tx.advance(
            ready,
            State.ERROR,
            error=(ErrorType.INTERNAL_ERROR, "404"),
            told=Told(report_url=TARGET.url_of("p/c/report.json")),
        )
    for query in ("", "?path=report.json"):
        answer = await world.api.call("GET", f"/deliveries/c/content{query}")
        assert (answer.status, await answer.read()) == (200, report)
        assert answer.headers["Content-Type"] == "application/json"
        assert 'filename="c-report.json"' in answer.headers["Content-Disposition"]
    await refused(await world.api.call("GET", "/deliveries/c/content?path=c.zip"), 409)


async def refused(answer: aiohttp.ClientResponse, status: int) -> str:
    told = await answer.json()
    assert answer.status == status, told
    return str(told["message"])


async def link(world: World, path: str = "c", body: Any = None, **more: Any) -> Any:
    answer = await world.api.call("POST", f"/deliveries/{path}/link", json=body, **more)
    told = await answer.json()
    assert answer.status == 200, told
    return told


# Links.


async def test_a_link_tells_size_md5_and_until_when_it_holds(world: World) -> None:
    delivery = await world.done()
    answer = await world.api.call("POST", "/deliveries/c/link")
    told = await answer.json()
    assert answer.status == 200
    assert told["expires"] == "2026-03-01T14:00:00+00:00"
    assert (told["size"], told["md5"]) == (len(CONTENT), ETAG_OF())
    assert told["url"].startswith(TARGET.url_of(quote(f"p/c/{delivery.archive_name}")))
    assert answer.headers["Cache-Control"] == "no-store"
    by_id = await link(world, f"by-id/{delivery.id}")
    assert by_id == told


@pytest.mark.parametrize(("ttl", "holds"), [(60, 60), (7200, 7200), (600_000, 7200)])
async def test_a_link_holds_as_long_as_is_asked_for_but_no_longer_than_the_tenant_lets_it(
    world: World, ttl: int, holds: int
) -> None:
    await world.done()
    told = await link(world, body={"ttl": ttl})
    assert datetime.fromisoformat(told["expires"]) == NOON + timedelta(seconds=holds)


@pytest.mark.parametrize(
    "body",
    [
        {"ttl": 0},
        {"ttl": 604_801},
        {"ttl": "9"},
        {"ttl": True},
        {"path": 7},
        [],
        {"path": "\0"},
        {"path": "a\n"},
        {"path": "\x85"},
        {"tll": 60},
    ],
)
async def test_what_is_asked_of_a_link_is_checked(world: World, body: Any) -> None:
    await world.done()
    await refused(await world.api.call("POST", "/deliveries/c/link", json=body), 422)


async def test_a_tenant_without_link_ttl_has_no_links(world: World) -> None:
    await world.done()
    world.tenants.give(TENANT, link_ttl=timedelta())
    message = await refused(await world.api.call("POST", "/deliveries/c/link"), 403)
    assert "link_ttl" in message


async def test_a_link_is_in_the_audit_trail_and_in_the_log_without_its_url(
    world: World, pool: asyncpg.Pool
) -> None:
    await world.done()
    with structlog.testing.capture_logs() as logged:
        told = await link(world)
    (entry,) = await PostgresAudit(pool).entries(TENANT, before=2**62, limit=9)
    assert (entry.action, entry.subject) == ("link", "delivery c")
    assert entry.after["expires"] == told["expires"]
    secret = told["url"].partition("?")[2]
    assert "link_made" in [line["event"] for line in logged]
    for text in (str(entry), str(logged)):
        assert secret not in text
        assert told["url"] not in text


async def test_what_is_not_done_has_no_link(world: World) -> None:
    await world.deliveries.ready("c")
    message = await refused(await world.api.call("POST", "/deliveries/c/link"), 409)
    assert "is not done (READY)" in message


async def test_what_was_removed_or_replaced_is_gone(world: World) -> None:
    delivery = await world.done()
    key = f"p/c/{delivery.archive_name}"
    other = replace(delivery, id=uuid4())
    await world.put(other, key, b"another's")
    for path in ("link", "content"):
        method = "POST" if path == "link" else "GET"
        message = await refused(await world.api.call(method, f"/deliveries/c/{path}"), 410)
        assert "there is another object now" in message
    await world.store.drop_aside(TARGET, key)
    message = await refused(await world.api.call("POST", "/deliveries/c/link"), 410)
    assert "there is nothing any more" in message


@pytest.mark.parametrize("changed", [CONTENT[:-1], CONTENT[::-1]], ids=["shorter", "other bytes"])
async def test_what_other_hands_have_replaced_is_gone(world: World, changed: bytes) -> None:
    """They keep the marks: what is there has another size, or another ETag, than was told."""
    delivery = await world.done(etag=ETAG_OF())
    assert (await link(world))["size"] == len(CONTENT)
    await world.put(delivery, f"p/c/{delivery.archive_name}", changed)
    for method, path in (("POST", "link"), ("GET", "content"), ("HEAD", "content")):
        answer = await world.api.call(method, f"/deliveries/c/{path}")
        if method == "HEAD":
            assert answer.status == 410
        else:
            assert "there is another object now" in await refused(answer, 410)


async def test_a_file_of_another_size_than_was_delivered_is_gone(world: World) -> None:
    delivery = await world.done(body=make_body() | {"delivery": {"format": "files"}})
    await world.put(delivery, "p/c/f1", b"longer than that")
    answer = await world.api.call("POST", "/deliveries/c/link", json={"path": "f1"})
    assert "there is another object now" in await refused(answer, 410)


@pytest.mark.parametrize(
    "name",
    [
        "no\u00a0break.tif",
        "衛星\u3000一号.tif",
        "family \U0001f468\u200d\U0001f469.tif",
        "\u00ad.b",
    ],
)
async def test_files_of_all_names_that_are_delivered_may_be_had(world: World, name: str) -> None:
    """Also of those that a terminal would not show."""
    body = make_body() | {"delivery": {"format": "files"}}
    delivery = await world.done(files=[name, "f1"], body=body)
    await world.put(delivery, f"p/c/{name}", b"one file")
    told = await link(world, body={"path": name})
    assert TARGET.url_of(quote(f"p/c/{name}")) in told["url"]
    answer = await get(world, f"?path={quote(name)}")
    assert (answer.status, await answer.read()) == (200, b"one file")


async def test_a_target_that_is_another_place_by_now_is_told(world: World) -> None:
    await world.done()
    world.tenants.give(TENANT, target=replace(TARGET, container="elsewhere"))
    message = await refused(await world.api.call("POST", "/deliveries/c/link"), 410)
    assert "settings were changed" in message


@pytest.mark.parametrize(
    "path",
    ["../other/a.zip", "/etc/passwd", "f0", "a.zip?x=1", "p/c/a.zip", "..", "f" * 511],
)
async def test_no_link_leads_to_another_object(world: World, path: str) -> None:
    delivery = await world.done()
    await world.put(delivery, "p/c/f0", b"beside")
    answer = await world.api.call("POST", "/deliveries/c/link", json={"path": path})
    await refused(answer, 404)


async def test_the_manifest_beside_an_archive_may_be_had(world: World) -> None:
    delivery = await world.done()
    body = {"path": MANIFEST_NAME}
    await refused(await world.api.call("POST", "/deliveries/c/link", json=body), 410)
    await world.put(delivery, f"p/c/{MANIFEST_NAME}", b"{}")
    told = await link(world, body=body)
    assert told["size"] == 2
    assert "md5" not in told
    assert TARGET.url_of(f"p/c/{MANIFEST_NAME}") in told["url"]


async def test_files_that_are_delivered_as_they_are_are_had_by_their_names(world: World) -> None:
    delivery = await world.done(body=make_body() | {"delivery": {"format": "files"}})
    assert delivery.archive_name == MANIFEST_NAME
    await world.put(delivery, "p/c/f1", b"one file")
    told = await link(world, body={"path": "f1"})
    assert told["size"] == 8
    assert TARGET.url_of("p/c/f1") in told["url"]
    listed = await link(world)
    assert listed["md5"] == ETAG_OF()  # that of the manifest, as DONE tells it
    await refused(await world.api.call("POST", "/deliveries/c/link", json={"path": "f9"}), 404)


# Who may.


@pytest.mark.parametrize(("method", "path"), [("POST", "link"), ("GET", "content")])
async def test_what_is_anothers_is_as_if_it_never_was(world: World, method: str, path: str) -> None:
    await world.done()
    own = bearer(role="REGISTERED_USER", email=USER)
    answer = await world.api.client.request(method, f"/deliveries/c/{path}", headers=own)
    assert answer.status == 200
    await answer.read()
    stranger = bearer(role="REGISTERED_USER", email="other@example.org")
    answer = await world.api.client.request(method, f"/deliveries/c/{path}", headers=stranger)
    assert answer.status == 404
    answer = await world.api.call(method, f"/deliveries/c/{path}", tenant="swot")
    assert answer.status == 404
    answer = await world.api.call(method, f"/deliveries/c/{path}", role="PUBLIC")
    assert answer.status == 403
    answer = await world.api.client.request(method, f"/deliveries/c/{path}")
    assert answer.status == 401


# Downloads.


async def get(world: World, path: str = "", **headers: str) -> aiohttp.ClientResponse:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await world.api.call("GET", f"/deliveries/c/content{path}", headers=given)


async def test_a_download_is_a_file_to_be_saved(world: World) -> None:
    delivery = await world.done()
    answer = await get(world)
    assert (answer.status, await answer.read()) == (200, CONTENT)
    md5 = base64.b64encode(bytes.fromhex(ETAG_OF())).decode()
    expected = {
        "Content-Length": str(len(CONTENT)),
        "Content-Type": "application/zip",
        "Content-Disposition": f'attachment; filename="{delivery.archive_name}"',
        "X-Content-Type-Options": "nosniff",
        "ETag": f'"{ETAG_OF()}"',
        "Accept-Ranges": "bytes",
        "Content-MD5": md5,
        "Repr-Digest": f"md5=:{md5}:",
        "Cache-Control": "no-store",
    }
    assert {name: answer.headers[name] for name in expected} == expected


async def test_a_head_tells_of_the_file_and_reads_nothing(world: World) -> None:
    await world.done()
    answer = await world.api.call("HEAD", "/deliveries/c/content")
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert world.store.reads == []


async def test_an_empty_file_is_given(world: World) -> None:
    await world.done(content=b"")
    answer = await get(world)
    assert (answer.status, await answer.read()) == (200, b"")
    assert (await get(world, Range="bytes=0-")).status == 416


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=4090-4100", 4090, 4100),
        ("bytes=10000-", 10000, 10239),
        ("bytes=10000-99999", 10000, 10239),
        ("bytes=-5", 10235, 10239),
        ("bytes=-99999", 0, 10239),
    ],
)
async def test_a_range_is_given(world: World, asked: str, first: int, last: int) -> None:
    await world.done()
    answer = await get(world, Range=asked)
    assert (answer.status, await answer.read()) == (206, CONTENT[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/10240"
    assert "Content-MD5" not in answer.headers  # that would be of these bytes


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=0x1-2"]
)
async def test_what_is_no_single_range_has_all_for_an_answer(world: World, asked: str) -> None:
    await world.done()
    answer = await get(world, Range=asked)
    assert (answer.status, await answer.read()) == (200, CONTENT)


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
async def test_bytes_that_there_are_not_are_refused(world: World, asked: str) -> None:
    await world.done()
    answer = await get(world, Range=asked)
    await refused(answer, 416)
    assert answer.headers["Content-Range"] == "bytes */10240"


async def test_a_range_of_another_file_has_all_for_an_answer(world: World) -> None:
    await world.done()
    for tag, status in ((f'"{ETAG_OF()}"', 206), ('"other"', 200), (f'W/"{ETAG_OF()}"', 200)):
        answer = await get(world, Range="bytes=1-", If_Range=tag)
        assert answer.status == status
        await answer.read()


async def test_nothing_is_downloaded_where_no_operator_lets_it(
    world: World, configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    await world.done()
    api = await serve(aiohttp_client, parts_for(configuration))
    message = await refused(await api.call("GET", "/deliveries/c/content"), 403)
    assert "DELIVERY_CONTENT_DOWNLOADS" in message


async def test_a_caller_and_a_tenant_have_so_many_downloads_at_once(world: World) -> None:
    await world.done()
    go_on = asyncio.Event()

    async def wait(_offset: int) -> None:
        await go_on.wait()

    world.store.before = wait
    path = "/deliveries/c/content"

    async def as_user(name: str) -> aiohttp.ClientResponse:
        return await world.api.client.get(path, headers=bearer(email=name))

    begun = [asyncio.create_task(as_user(f"{n}@example.org")) for n in range(2)]
    while len(world.downloads) < 2:
        await asyncio.sleep(0.01)
    mine = await as_user("0@example.org")
    assert "of yours" in await refused(mine, 503)
    assert mine.headers["Retry-After"]
    assert "your tenant" in await refused(await as_user("2@example.org"), 503)
    go_on.set()
    for answer in await asyncio.gather(*begun):
        assert await answer.read() == CONTENT


async def test_memory_has_two_bits_of_a_file_whatever_it_has(world: World) -> None:
    """A client that takes nothing: no more is read than fits on the way to it."""
    large = bytes(64 * 1024 * 1024)
    await world.done(content=large)
    answer = await get(world)
    first = await answer.content.readexactly(1)
    assert first == b"\0"
    read = -1
    while read != len(world.store.reads):  # until no more is read
        read = len(world.store.reads)
        await asyncio.sleep(0.2)
    assert read * 4096 < len(large) / 4
    answer.close()
    while len(world.downloads):
        await asyncio.sleep(0.01)


async def half_read(world: World) -> aiohttp.ClientResponse:
    """Return a download whose beginning has come, while the store is silent about the rest."""
    await world.done()

    async def silent(offset: int) -> None:
        if offset:
            await asyncio.Event().wait()

    world.store.before = silent
    answer = await get(world)
    await answer.content.readexactly(4096)
    return answer


async def test_a_client_that_goes_away_frees_its_place_while_the_store_is_silent(
    world: World,
) -> None:
    answer = await half_read(world)
    assert len(world.downloads) == 1
    answer.close()
    while len(world.downloads):
        await asyncio.sleep(0.01)
    assert world.store.ended == len(world.store.reads)  # nothing is read for it any more


async def test_what_breaks_off_in_the_middle_is_no_shorter_file(world: World) -> None:
    await world.done()

    async def fail(offset: int) -> None:
        if offset >= 8192:
            raise TargetUnavailableError("the store is away")

    world.store.before = fail
    answer = await get(world)
    assert answer.status == 200
    with pytest.raises(aiohttp.ClientPayloadError):
        await answer.read()


async def test_what_is_replaced_in_the_middle_is_not_mixed(world: World) -> None:
    delivery = await world.done()

    async def replaced(offset: int) -> None:
        if offset == 8192:
            await world.put(delivery, f"p/c/{delivery.archive_name}", CONTENT[::-1])

    world.store.before = replaced
    answer = await get(world)
    with pytest.raises(aiohttp.ClientPayloadError):
        await answer.read()


async def test_a_store_that_is_away_at_first_is_an_error_and_no_file(world: World) -> None:
    await world.done()

    async def fail(_offset: int) -> None:
        raise TargetUnavailableError("the store is away")

    world.store.before = fail
    assert (await get(world)).status == 503


async def test_a_store_that_stutters_is_asked_again(world: World) -> None:
    await world.done()
    failed: list[int] = []

    async def once(offset: int) -> None:
        if offset == 4096 and not failed:
            failed.append(offset)
            raise TargetUnavailableError("the store stutters")

    world.store.before = once
    answer = await get(world)
    assert await answer.read() == CONTENT
    assert failed == [4096]


async def test_a_stop_breaks_downloads_off(world: World) -> None:
    answer = await half_read(world)
    await world.downloads.release(world.api.client.app)
    with pytest.raises(aiohttp.ClientPayloadError):
        await answer.read()
    while len(world.downloads):
        await asyncio.sleep(0.01)


async def test_a_download_ends_once_the_key_of_its_token_is_withdrawn(world: World) -> None:
    answer = await half_read(world)
    await world.looks.one_that_changes_nothing()
    assert len(world.downloads) == 1
    world.gate.check_with(TokenKeys(secrets=["another-secret-" * 6]))
    await world.looks.one()
    with pytest.raises(aiohttp.ClientPayloadError):
        await answer.read()
    while len(world.downloads):
        await asyncio.sleep(0.01)
    assert world.store.ended == len(world.store.reads)  # nothing is read for it any more
