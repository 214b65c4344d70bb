"""What befalls requests to Google, and what is made of it: no doubt, no double, no secret told."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from uuid import uuid4

import jwt
import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import StoredPart, Upload
from app.errors import (
    DeliveryError,
    ForeignObjectError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from app.network.hosts import AllowedHosts
from app.waiting.backoff import Backoff
from compose.embedded.processes import Server
from sinks.pipeline.parts import Part
from sinks.stores.gcs import completion
from sinks.stores.gcs.calls import GcsCalls
from sinks.stores.gcs.clients import GcsClients
from sinks.stores.gcs.managed import GcsStore, open_store
from sinks.stores.gcs.target import GcsTarget
from tests.builders import make_delivery
from tests.gcs_account import EMAIL, credentials, private_key, public_key
from tests.integration.gcs import made_bucket, names, running_gcs, skipped_without
from tests.integration.gcs_proxy import GcsProxy, running_proxy

pytestmark = skipped_without

MARKS = marks_of(make_delivery())
ASKED = ["find", "list", "insert", "compose", "delete", "media"]
Both = tuple[GcsProxy, GcsTarget]


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One for all."""
    async with running_gcs(tmp_path_factory.mktemp("gcs")) as running:
        yield running


@pytest.fixture
async def store() -> AsyncIterator[GcsStore]:
    """The real store."""
    async with open_store() as opened:
        yield opened


@pytest.fixture
async def direct(server: Server) -> AsyncIterator[GcsTarget]:
    """A bucket of the test's own."""
    async with made_bucket(server) as made:
        yield made


@pytest.fixture
async def proxied(server: Server, direct: GcsTarget) -> AsyncIterator[Both]:
    """The proxy, and the bucket behind it."""
    async with running_proxy(server, direct) as both:
        yield both


@pytest.fixture
def key() -> str:
    return f"{uuid4().hex}/a.zip"


async def begun(
    store: GcsStore, target: GcsTarget, key: str, *contents: bytes
) -> tuple[Upload, list[StoredPart]]:
    upload = await store.create_upload(target, key, MARKS, media_type="application/zip")
    return upload, [
        await store.put_part(target, upload, number, Part.of(content))
        for number, content in enumerate(contents, start=1)
    ]


async def call_of(
    store: GcsStore, target: GcsTarget, key: str, asked: str
) -> Callable[[], Awaitable[object]]:
    """Return a call whose first request of a kind is what it is about."""
    upload, parts = await begun(store, target, key, b"content")
    await store.put_aside(target, f"{key}.aside", Part.of(b"tail"), {})
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "find": lambda: store.find(target, key),
        "list": lambda: store.open_uploads(target, key),
        "insert": lambda: store.put_aside(target, f"{key}.new", Part.of(b"content"), {}),
        "compose": lambda: store.complete(target, upload, parts, 7, marks=MARKS),
        "delete": lambda: store.drop_aside(target, f"{key}.aside"),
        "media": lambda: store.read_aside(target, f"{key}.aside", size=4),
    }
    return calls[asked]


# Answers that are lost.


async def test_a_completion_whose_answer_is_lost_is_found_to_be_made(
    server: Server, store: GcsStore, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    proxy.faults = {"compose": ["lost"]}
    etag = await store.complete(target, upload, parts, 7, marks=MARKS)
    assert etag == store.etag_of(target, parts)
    assert await names(server, target.container) == [key]


async def test_what_fails_on_the_way_to_the_archive_is_asked_for_again_in_its_place(
    server: Server, store: GcsStore, proxied: Both, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "_PAUSES", Backoff(first=0, longest=0))
    proxy, target = proxied
    contents = [b"%02d" % number for number in range(40)]
    upload, parts = await begun(store, target, key, *contents)
    proxy.faults = {"compose": ["lost", "reset"]}  # that of the first 32, or of the last 8
    assert await store.complete(target, upload, parts, 80, marks=MARKS)
    assert await names(server, target.container) == [key]


async def test_what_fails_on_the_way_again_and_again_is_left_to_the_next_completion(
    server: Server, store: GcsStore, proxied: Both, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "_PAUSES", Backoff(first=0, longest=0))
    proxy, target = proxied
    contents = [b"%02d" % number for number in range(40)]
    upload, parts = await begun(store, target, key, *contents)
    proxy.faults = {"compose": ["reset"] * 8}  # all tries of both
    with pytest.raises(TargetUnavailableError):
        await store.complete(target, upload, parts, 80, marks=MARKS)
    proxy.faults = {}
    assert await store.find(target, key) is None
    assert await store.complete(target, upload, parts, 80, marks=MARKS, again=True)
    assert await names(server, target.container) == [key]


@pytest.mark.parametrize("fault", ["reset", "busy", "too many", "quota"])
async def test_a_completion_that_is_not_made_is_asked_for_again(
    store: GcsStore, proxied: Both, key: str, fault: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    proxy.faults = {"compose": [fault]}
    with pytest.raises(TargetUnavailableError, match="the object is not there"):
        await store.complete(target, upload, parts, 7, marks=MARKS)
    assert await store.find(target, key) is None
    assert await store.complete(target, upload, parts, 7, marks=MARKS, again=True)


async def test_an_end_after_a_completion_that_was_not_made_leaves_nothing(
    server: Server, store: GcsStore, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    proxy.faults = {"compose": ["busy"]}
    with pytest.raises(TargetUnavailableError):
        await store.complete(target, upload, parts, 7, marks=MARKS)
    await store.abort(target, upload)
    assert await names(server, target.container) == []
    with pytest.raises(UploadLostError):
        await store.complete(target, upload, parts, 7, marks=MARKS, again=True)


async def test_a_completion_that_is_under_way_as_its_upload_ends_makes_nothing(
    server: Server, store: GcsStore, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    proxy.before = {"compose": lambda: store.abort(target, upload)}
    with pytest.raises(UploadLostError):
        await store.complete(target, upload, parts, 7, marks=MARKS)
    assert await names(server, target.container) == []


@pytest.mark.parametrize("put", ["upload", "at once"])
async def test_what_comes_behind_the_look_is_not_replaced_where_it_is_anothers(
    store: GcsStore, direct: GcsTarget, proxied: Both, key: str, put: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    theirs = marks_of(make_delivery(tenant="swot"))

    async def may() -> None:
        """Let anything be put."""

    async def foreign() -> None:
        await store.put_object(
            direct, key, Part.of(b"theirs"), theirs, media_type="text/plain", may=may
        )

    proxy.before = {"compose" if put == "upload" else "insert": foreign}
    with pytest.raises(ForeignObjectError):
        if put == "upload":
            await store.complete(target, upload, parts, 7, marks=MARKS)
        else:
            await store.put_object(
                target, key, Part.of(b"ours"), MARKS, media_type="text/plain", may=may
            )
    found = await store.find(target, key)
    assert found is not None
    assert found.marks == theirs


async def test_an_object_that_is_another_by_now_is_not_removed(
    store: GcsStore, direct: GcsTarget, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    await store.put_aside(direct, key, Part.of(b"one"), {})
    found = await store.find(target, key)
    assert found is not None
    proxy.before = {"delete": lambda: store.put_aside(direct, key, Part.of(b"other"), {})}
    with pytest.raises(TargetRefusedError, match="any more"):
        await store.delete(target, key, etag=found.etag)
    assert await store.find(target, key) is not None


async def test_a_part_whose_answer_is_lost_is_sent_again_and_counts_once(
    server: Server, store: GcsStore, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    upload, _ = await begun(store, target, key)
    proxy.faults = {"insert": ["lost"]}
    with pytest.raises(TargetUnavailableError, match="take part 1"):
        await store.put_part(target, upload, 1, Part.of(b"content"))
    part = await store.put_part(target, upload, 1, Part.of(b"content"))
    assert len(await names(server, target.container)) == 3
    assert await store.complete(target, upload, [part], 7, marks=MARKS)
    assert await names(server, target.container) == [key]


async def test_a_part_that_is_spoilt_on_its_way_is_refused_and_may_be_sent_again(
    store: GcsStore, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    upload, _ = await begun(store, target, key)
    proxy.faults = {"insert": ["spoilt"]}
    with pytest.raises(WrongObjectError, match="another MD5"):
        await store.put_part(target, upload, 1, Part.of(b"content"))
    assert await store.part_etags(target, upload) == {}


async def test_an_upload_whose_begin_is_not_answered_is_open_and_found(
    server: Server, store: GcsStore, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    proxy.faults = {"insert": ["lost"]}
    with pytest.raises(TargetUnavailableError):
        await store.create_upload(target, key, MARKS, media_type="application/zip")
    for upload in await store.open_uploads(target, key):
        await store.abort(target, upload)
    assert await names(server, target.container) == []


# What answers in its place, or not at all.


@pytest.mark.parametrize(
    "fault", ["busy", "reset", "page", "other json", "not found", "redirect", "packed", "endless"]
)
@pytest.mark.parametrize("asked", ASKED)
async def test_what_is_no_answer_of_googles_passes_and_is_told_in_words_without_a_secret(
    store: GcsStore, proxied: Both, key: str, fault: str, asked: str
) -> None:
    proxy, target = proxied
    call = await call_of(store, target, key, asked)
    proxy.faults = {asked: [fault]}
    with pytest.raises(TargetUnavailableError, match="Google Cloud Storage") as raised:
        await call()
    assert proxy.faults == {asked: []}  # it was asked once
    assert proxy.endless < 2 * 16 * 1024 * 1024
    shown = "".join(traceback.format_exception(raised.value)) + repr(target)
    assert str(target) in shown
    for secret in (private_key().splitlines()[5], "PRIVATE", "Bearer", *proxy.tokens):
        assert secret not in shown


async def test_a_list_that_can_not_be_read_passes(store: GcsStore, proxied: Both, key: str) -> None:
    proxy, target = proxied
    upload, _ = await begun(store, target, key)
    for call in (store.open_uploads(target, key), store.part_etags(target, upload)):
        proxy.faults = {"list": ["odd list"]}
        with pytest.raises(TargetUnavailableError, match="did not list"):
            await call


async def test_a_server_that_has_too_much_to_do_says_for_how_long(
    store: GcsStore, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    proxy.faults = {"find": ["too many"]}
    with pytest.raises(TargetUnavailableError) as raised:
        await store.find(target, key)
    assert raised.value.retry_after == 7


async def test_a_server_that_is_silent_is_left_alone_and_asked_again(
    proxied: Both, key: str
) -> None:
    proxy, target = proxied
    calls = GcsCalls(GcsClients(), short=0.2)
    store = GcsStore(calls)
    try:
        proxy.faults = {"find": ["silent"]}
        with pytest.raises(TargetUnavailableError, match=r"did not describe .* within 0\.2 s"):
            await store.find(target, key)
        trouble = store.trouble(target)
        assert trouble is not None
        assert trouble.kind == "Google Cloud Storage"
        proxy.over.set()
        assert await store.find(target, key) is None
        assert store.trouble(target) is None
    finally:
        await calls.aclose()


async def test_a_gateway_that_finds_nothing_ends_no_upload(
    store: GcsStore, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    for asked in ("delete", "list"):
        proxy.faults = {asked: ["not found"]}
        with pytest.raises(TargetUnavailableError, match="no Google Cloud Storage"):
            await store.abort(target, upload)
    proxy.faults = {"compose": ["not found"]}
    with pytest.raises((TargetUnavailableError, UploadLostError)):
        await store.complete(target, upload, parts, 7, marks=MARKS)
    assert await store.open_uploads(target, key) == [upload]


# Credentials.


async def test_requests_are_signed_by_the_accounts_key_itself(
    store: GcsStore, proxied: Both, key: str
) -> None:
    proxy, target = proxied
    for _ in range(2):
        await store.find(target, key)
    (token,) = {header.removeprefix("Bearer ") for header in proxy.tokens}
    claims = jwt.decode(token, public_key(), ["RS256"])
    assert jwt.get_unverified_header(token)["kid"] == "0123456789abcdef"
    assert (claims["iss"], claims["sub"]) == (EMAIL, EMAIL)
    assert claims["scope"].endswith("/devstorage.read_write")
    assert 0 < claims["exp"] - claims["iat"] <= 3600


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("denied", "roles/storage.objectUser"),
        ("unknown", "the clock of this machine"),
        ("retained", "retention policy"),
    ],
)
async def test_what_is_refused_for_good_is_told_with_what_to_do(
    store: GcsStore, proxied: Both, key: str, fault: str, advice: str
) -> None:
    proxy, target = proxied
    proxy.faults = {"find": [fault]}  # the first request: no token was taken before
    with pytest.raises(TargetRefusedError, match=advice):
        await store.find(target, key)


async def test_a_target_is_tried_step_by_step(
    server: Server, store: GcsStore, proxied: Both
) -> None:
    proxy, target = proxied
    assert [check.check for check in await store.probe(target) if check.ok] == [
        "reachable",
        "credentials and bucket",
        "writable",
    ]
    assert [check.check for check in await store.examine(target) if check.ok] == [
        *("reachable", "credentials and bucket", "removable", "writable", "composable"),
    ]
    for asked, flawed in (
        ("list", {"credentials and bucket"}),
        ("delete", {"removable", "writable"}),
        ("insert", {"writable", "composable"}),
        ("compose", {"composable"}),
    ):
        proxy.faults = {asked: ["denied"] * 2}
        found = await store.examine(target)
        assert {check.check for check in found if not check.ok} == flawed
    assert await names(server, target.container) == []


async def test_a_bucket_that_is_not_there_is_told(store: GcsStore, direct: GcsTarget) -> None:
    missing = replace(direct, container="gone-bucket")
    with pytest.raises(TargetRefusedError, match="create the bucket"):
        await store.look(missing)
    assert [(step.check, step.ok) for step in await store.probe(missing)] == [
        ("reachable", True),
        ("credentials and bucket", False),
    ]


# Where it may be.


async def test_nothing_is_sent_to_where_tenants_may_not_deliver(direct: GcsTarget) -> None:
    async with open_store(hosts=AllowedHosts.of(["*"])) as store:
        for endpoint in (direct.endpoint, direct.endpoint.replace("127.0.0.1", "localhost")):
            with pytest.raises(TargetForbiddenError, match="a loopback address"):
                await store.look(replace(direct, endpoint=endpoint))


async def test_an_address_is_judged_when_a_connection_is_opened(
    direct: GcsTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AllowedHosts, "flaw_of", lambda *_: None)  # of the name
    async with open_store(hosts=AllowedHosts.of(["*"])) as store:
        with pytest.raises(TargetForbiddenError, match="a loopback address"):
            await store.look(direct)


async def test_a_tenant_is_told_the_same_of_whatever_is_not_google(
    store: GcsStore, proxied: Both
) -> None:
    proxy, target = proxied
    told = set()
    for fault in ("page", "redirect", "reset"):
        proxy.faults = {"list": [fault]}
        with pytest.raises(DeliveryError) as raised:
            await store.look(target)
        told.add(str(store.told(target, raised.value)))
    assert len(told) == 1
    assert "no Google Cloud Storage can be used" in told.pop()


async def test_a_key_that_can_not_be_read_is_refused_without_being_told(
    store: GcsStore, direct: GcsTarget
) -> None:
    broken = replace(direct, credentials=credentials(private_key="canary-of-a-key"))
    with pytest.raises(TargetRefusedError, match="correct endpoint and credentials") as raised:
        await store.look(broken)
    assert "canary" not in "".join(traceback.format_exception(raised.value)) + repr(broken)
