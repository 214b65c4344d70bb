"""What befalls requests to Azure, and what is made of it: no doubt, no double, no secret told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import StoredPart, Upload
from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
)
from app.network.hosts import AllowedHosts
from compose.embedded.azurite import Azurite
from sinks.pipeline.parts import Part
from sinks.stores.azure.blocks import BlockId
from sinks.stores.azure.calls import AzureCalls
from sinks.stores.azure.clients import AzureClients
from sinks.stores.azure.managed import AzureStore, open_store
from sinks.stores.azure.requests import silent
from sinks.stores.azure.target import AzureTarget
from tests.builders import at_any_time, make_delivery
from tests.integration.azure import sas_of, service, skipped_without
from tests.integration.azure.proxy import AzureProxy, running_proxy

pytestmark = skipped_without

MARKS = marks_of(make_delivery())
PART = Part.of(b"content")
LIST, BLOCK, BLOCKS = "comp=list", "comp=block", "comp=blocklist"


@pytest.fixture
async def proxied(
    server: Azurite, direct: AzureTarget
) -> AsyncIterator[tuple[AzureProxy, AzureTarget]]:
    """The proxy, and the container behind it."""
    async with running_proxy(server, direct) as both:
        yield both


@contextlib.asynccontextmanager
async def silent_port() -> AsyncIterator[int]:
    """Take connections, and say nothing."""
    over = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()
        await server.wait_closed()


async def begun(
    store: AzureStore, target: AzureTarget, key: str, *contents: bytes
) -> tuple[Upload, list[StoredPart]]:
    upload = await store.create_upload(target, key, MARKS, media_type="application/zip")
    return upload, [
        await store.put_part(target, upload, number, Part.of(content))
        for number, content in enumerate(contents, start=1)
    ]


def calls_of(
    store: AzureStore, target: AzureTarget, upload: Upload
) -> dict[str, tuple[str, Callable[[], Awaitable[object]]]]:
    """Return calls of each kind, and what their requests ask for."""
    key = upload.key
    return {
        "find": ("HEAD", lambda: store.find(target, key)),
        "list": (LIST, lambda: store.open_uploads(target, key)),
        "blocks": (BLOCKS, lambda: store.part_etags(target, upload)),
        "part": (BLOCK, lambda: store.put_part(target, upload, 1, Part.of(b"content"))),
        "read": ("GET", lambda: store.read_aside(target, f"{key}.aside", size=4)),
    }


# Answers that are lost.


async def test_a_completion_whose_answer_is_lost_is_found_to_be_made(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    proxy.faults = {BLOCKS: ["pass", "lost"]}  # listed, then committed
    etag = await store.complete(target, upload, parts, 7, marks=MARKS)
    assert etag == store.etag_of(target, parts)
    assert await store.open_uploads(target, key) == []


@pytest.mark.parametrize("fault", ["reset", "busy"])
async def test_a_completion_that_is_not_made_is_asked_for_again(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str, fault: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    proxy.faults = {BLOCKS: ["pass", fault, fault]}
    with pytest.raises(TargetUnavailableError, match="the object is not there"):
        await store.complete(target, upload, parts, 7, marks=MARKS)
    proxy.faults = {}
    assert await store.find(target, key) is None
    assert await store.complete(target, upload, parts, 7, marks=MARKS, again=True)


async def test_an_end_after_a_completion_that_was_not_made_leaves_nothing(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    proxy.faults = {BLOCKS: ["pass", "busy"]}
    with pytest.raises(TargetUnavailableError):
        await store.complete(target, upload, parts, 7, marks=MARKS)
    await store.abort(target, upload)
    assert await store.calls.staged(target, key) == []
    assert await store.calls.names(target, key) == []
    with pytest.raises(UploadLostError):
        await store.complete(target, upload, parts, 7, marks=MARKS, again=True)


async def test_a_part_whose_answer_is_lost_is_sent_again_and_counts_once(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str
) -> None:
    proxy, target = proxied
    upload, _ = await begun(store, target, key)
    proxy.faults = {BLOCK: ["lost"]}
    with pytest.raises(TargetUnavailableError, match="take part 1"):
        await store.put_part(target, upload, 1, Part.of(b"content"))
    part = await store.put_part(target, upload, 1, Part.of(b"content"))
    assert len(await store.calls.staged(target, key)) == 2
    assert await store.complete(target, upload, [part], 7, marks=MARKS)
    found = await store.find(target, key)
    assert found is not None
    assert found.size == 7


async def test_a_part_that_is_spoilt_on_its_way_is_refused_and_sent_again(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str
) -> None:
    proxy, target = proxied
    upload, _ = await begun(store, target, key)
    proxy.faults = {BLOCK: ["spoilt"]}
    with pytest.raises(DeliveryError, match="refused to take part 1"):  # Azurite has another code
        await store.put_part(target, upload, 1, Part.of(b"content"))
    assert await store.part_etags(target, upload) == {}


async def test_an_upload_whose_begin_is_not_answered_is_open_and_found(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str
) -> None:
    proxy, target = proxied
    proxy.faults = {"PUT": ["lost"]}
    with pytest.raises(TargetUnavailableError):
        await store.create_upload(target, key, MARKS, media_type="application/zip")
    proxy.faults = {}
    for upload in await store.open_uploads(target, key):
        await store.abort(target, upload)
    assert await store.calls.names(target, key) == []


# What Azure keeps.


async def test_blocks_of_an_upload_that_ended_stay_unseen_until_the_next_archive_of_that_name(
    store: AzureStore, direct: AzureTarget, key: str
) -> None:
    """Nothing but a blob of that name discards them; Azure does so after a week."""
    ended, _ = await begun(store, direct, key, b"of a delivery that failed")
    await store.abort(direct, ended)
    assert await store.calls.names(direct, "") == []
    assert [block.id.upload_id for block in await store.calls.staged(direct, key)] == [
        ended.upload_id
    ]
    upload, parts = await begun(store, direct, key, b"content")
    assert await store.part_etags(direct, upload) == {1: parts[0].etag}
    await store.complete(direct, upload, parts, 7, marks=MARKS)
    assert await store.calls.staged(direct, key) == []
    found = await store.find(direct, key)
    assert found is not None
    assert found.size == 7


async def test_an_empty_blob_that_a_person_puts_and_removes_discards_them(
    store: AzureStore, server: Azurite, direct: AzureTarget, key: str
) -> None:
    """As docs/configuration.md says."""
    ended, _ = await begun(store, direct, key, b"of a delivery that failed")
    await store.abort(direct, ended)
    async with service(server) as client:
        blob = client.get_blob_client(direct.container, key)
        await blob.upload_blob(b"", overwrite=True)
        await blob.delete_blob()
    assert await store.calls.staged(direct, key) == []


KEEPS = [("policy", "an immutability policy .* end the policy"), ("legal hold", "clear the hold")]


@pytest.mark.parametrize(("fault", "words"), KEEPS)
async def test_what_may_not_be_replaced_or_removed_stays_and_is_told_in_words(
    store: AzureStore,
    proxied: tuple[AzureProxy, AzureTarget],
    key: str,
    fault: str,
    words: str,
) -> None:
    proxy, target = proxied
    etag = await store.put_object(
        target, key, PART, MARKS, media_type="text/plain", may=at_any_time
    )
    upload, parts = await begun(store, target, key, b"another")
    for faults, call in (
        ({"DELETE": [fault]}, lambda: store.delete(target, key, etag=etag)),
        (
            {BLOCKS: ["pass", fault]},
            lambda: store.complete(target, upload, parts, 7, marks=MARKS),
        ),
        (
            {BLOCKS: [fault]},
            lambda: store.put_object(
                target, key, Part.of(b"another"), MARKS, media_type="text/plain", may=at_any_time
            ),
        ),
    ):
        proxy.faults = faults
        with pytest.raises(TargetRefusedError, match=words) as raised:
            await call()
        assert key in str(raised.value)
        assert "deliver to a container without one" in str(raised.value)
        assert not any(proxy.faults.values())
    found = await store.find(target, key)
    assert found is not None
    assert found.etag == etag


@pytest.mark.parametrize(("fault", "words"), KEEPS)
async def test_an_upload_whose_record_can_not_be_removed_is_completed_no_more(
    store: AzureStore,
    proxied: tuple[AzureProxy, AzureTarget],
    key: str,
    fault: str,
    words: str,
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    proxy.faults = {"DELETE": [fault]}
    with pytest.raises(TargetRefusedError, match=words):
        await store.abort(target, upload)
    with pytest.raises(UploadLostError):
        await store.complete(target, upload, parts, 7, marks=MARKS)
    assert await store.find(target, key) is None
    await store.abort(target, upload)
    assert await store.calls.names(target, "") == []


# What answers in its place, or not at all.


@pytest.mark.parametrize(
    "fault", ["busy", "reset", "page", "not found", "redirect", "no http", "endless"]
)
@pytest.mark.parametrize("asked", ["find", "list", "blocks", "part", "read"])
async def test_what_is_no_answer_of_azures_passes_and_is_told_in_words(
    store: AzureStore,
    proxied: tuple[AzureProxy, AzureTarget],
    key: str,
    fault: str,
    asked: str,
) -> None:
    proxy, target = proxied
    upload, _ = await begun(store, target, key)
    await store.put_aside(target, f"{key}.aside", Part.of(b"tail"), {})
    named, call = calls_of(store, target, upload)[asked]
    proxy.faults = {named: [fault]}
    with pytest.raises(TargetUnavailableError, match=r"Azure|led elsewhere"):
        await call()


async def test_no_more_of_an_answer_is_read_than_its_limit(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str
) -> None:
    proxy, target = proxied
    proxy.faults = {LIST: ["endless"]}
    with pytest.raises(TargetUnavailableError):
        await store.open_uploads(target, key)
    assert proxy.endless < 2 * 32 * 1024 * 1024


@pytest.mark.parametrize("asked", ["list", "blocks", "part", "read"])
async def test_an_answer_that_is_packed_is_not_unpacked(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str, asked: str
) -> None:
    proxy, target = proxied
    upload, _ = await begun(store, target, key)
    named, call = calls_of(store, target, upload)[asked]
    proxy.faults = {named: ["packed"]}
    with pytest.raises(TargetUnavailableError, match="packed"):
        await call()


async def test_a_server_that_is_silent_is_left_alone_and_asked_again(
    proxied: tuple[AzureProxy, AzureTarget], key: str
) -> None:
    proxy, target = proxied
    calls = AzureCalls(AzureClients(), short=0.2)
    store = AzureStore(calls)
    try:
        proxy.faults = {"HEAD": ["silent"]}
        with pytest.raises(TargetUnavailableError, match=r"did not describe .* within 0\.2 s"):
            await store.find(target, key)
        trouble = store.trouble(target)
        assert trouble is not None
        assert trouble.kind == "Azure"
        proxy.over.set()
        assert await store.find(target, key) is None
        assert store.trouble(target) is None
    finally:
        await calls.aclose()


@pytest.mark.parametrize("asked", ["find", "list", "blocks", "part", "read"])
async def test_a_request_is_made_once_also_where_a_kept_connection_breaks(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str, asked: str
) -> None:
    proxy, target = proxied
    upload, _ = await begun(store, target, key)
    named, call = calls_of(store, target, upload)[asked]
    proxy.faults = {named: ["reset"]}
    with pytest.raises(TargetUnavailableError):
        await call()
    assert proxy.faults == {named: []}


async def test_a_gateway_that_finds_nothing_ends_no_upload(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget], key: str
) -> None:
    proxy, target = proxied
    upload, parts = await begun(store, target, key, b"content")
    for fault in ({"HEAD": ["not found"]}, {"DELETE": ["not found"]}):
        proxy.faults = fault
        with pytest.raises(TargetUnavailableError, match="no blob storage of Azure's"):
            await store.abort(target, upload)
    proxy.faults = {BLOCKS: ["not found"]}
    with pytest.raises(TargetUnavailableError):
        await store.complete(target, upload, parts, 7, marks=MARKS)
    assert await store.open_uploads(target, key) == [upload]


async def test_a_connection_that_never_stands_is_given_up_soon(direct: AzureTarget) -> None:
    async with silent_port() as port:
        calls = AzureCalls(AzureClients(connect=0.1))
        try:
            target = replace(direct, endpoint=f"https://127.0.0.1:{port}")
            with pytest.raises(TargetUnavailableError) as raised:
                await calls.stage(target, "a", BlockId.new("0" * 32, 1, PART.md5), PART)
            assert "within" not in str(raised.value)
            assert silent(raised.value)
        finally:
            await calls.aclose()


# Credentials.


@pytest.mark.parametrize(
    "fault", ["busy", "reset", "page", "not found", "redirect", "no http", "endless"]
)
@pytest.mark.parametrize("asked", ["find", "list", "blocks", "part", "read"])
async def test_nothing_that_is_shown_of_an_error_has_a_sas_in_it(
    store: AzureStore,
    server: Azurite,
    proxied: tuple[AzureProxy, AzureTarget],
    key: str,
    fault: str,
    asked: str,
) -> None:
    proxy, target = proxied
    sas = sas_of(server, target.container, "rcw", ends=timedelta(hours=1))  # it may not list
    target = replace(target, key=None, sas=sas)
    upload, _ = await begun(store, target, key)
    named, call = calls_of(store, target, upload)[asked]
    proxy.faults = {named: [fault]}
    with pytest.raises(DeliveryError) as raised:
        await call()
    shown = "".join(traceback.format_exception(raised.value))
    assert str(target) in shown
    assert "sig=" not in shown


async def test_a_wrong_key_is_refused_for_good_without_being_told(
    store: AzureStore, direct: AzureTarget, key: str
) -> None:
    wrong = base64.b64encode(b"canary-of-a-key" * 4).decode()
    with pytest.raises(TargetRefusedError) as raised:
        await store.find(replace(direct, key=wrong), key)
    said = (
        f"{raised.value} {raised.value!r} {raised.value.__cause__!r} {replace(direct, key=wrong)!r}"
    )
    assert "correct the key" in said
    assert wrong not in said


async def test_a_sas_that_may_do_all_of_it_does(
    store: AzureStore, server: Azurite, direct: AzureTarget, key: str
) -> None:
    sas = sas_of(server, direct.container, ends=timedelta(hours=1))
    target = replace(direct, key=None, sas=sas)
    upload, parts = await begun(store, target, key, b"content")
    assert await store.complete(target, upload, parts, 7, marks=MARKS)
    assert [check.ok for check in await store.examine(target)] == [True] * 5
    assert all(check.ok for check in await store.probe(target))
    assert await store.calls.names(target, "") == [key]


async def test_a_sas_that_has_expired_is_refused_in_words_and_never_told(
    store: AzureStore, server: Azurite, direct: AzureTarget, key: str
) -> None:
    sas = sas_of(server, direct.container, ends=-timedelta(hours=1))
    target = replace(direct, key=None, sas=sas)
    with pytest.raises(TargetRefusedError, match="its SAS has expired at 20") as raised:
        await store.find(target, key)
    signature = sas.partition("sig=")[2].partition("&")[0]
    for text in (str(raised.value), repr(raised.value.__cause__), repr(target), str(target)):
        assert signature not in text


@pytest.mark.parametrize(
    ("permissions", "flawed"),
    [
        ("rcwl", {"removable", "writable"}),
        ("rdl", {"writable"}),
        ("rcwd", {"credentials and container"}),
    ],
)
async def test_a_right_that_is_missing_is_told_to_operators_and_tenants(
    store: AzureStore, server: Azurite, direct: AzureTarget, permissions: str, flawed: set[str]
) -> None:
    sas = sas_of(server, direct.container, permissions, ends=timedelta(hours=1))
    target = replace(direct, key=None, sas=sas)
    found = await store.examine(target)
    assert {check.check for check in found if not check.ok} == flawed
    told = await store.probe(target)
    assert [check.check for check in told if not check.ok] == [told[-1].check]
    assert await store.calls.names(direct, "") == []


async def test_a_container_that_is_not_there_is_told(
    store: AzureStore, direct: AzureTarget
) -> None:
    missing = replace(direct, container="gone-container")
    with pytest.raises(TargetRefusedError, match="create the container"):
        await store.look(missing)
    steps = await store.probe(missing)
    assert [(step.check, step.ok) for step in steps] == [
        ("reachable", True),
        ("credentials and container", False),
    ]


# Where it may be.


async def test_nothing_is_sent_to_where_tenants_may_not_deliver(direct: AzureTarget) -> None:
    hosts = AllowedHosts.of(["*"])
    async with open_store(hosts=hosts) as store:
        for endpoint in (direct.endpoint, direct.endpoint.replace("127.0.0.1", "localhost")):
            with pytest.raises(TargetForbiddenError, match="a loopback address"):
                await store.look(replace(direct, endpoint=endpoint))


async def test_an_address_is_judged_when_a_connection_is_opened(
    direct: AzureTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = AllowedHosts.of(["*"])
    monkeypatch.setattr(AllowedHosts, "flaw_of", lambda *_: None)  # of the name
    async with open_store(hosts=hosts) as store:
        with pytest.raises(TargetForbiddenError, match="a loopback address"):
            await store.look(direct)


async def test_the_identity_of_this_service_is_sent_nowhere_unless_the_operator_allows_it(
    store: AzureStore, direct: AzureTarget
) -> None:
    own = replace(direct, key=None, identity="default")
    with pytest.raises(TargetForbiddenError, match="over https alone"):
        await store.look(own)
    with pytest.raises(TargetForbiddenError, match="DELIVERY_AZURE_IDENTITY_PLACES"):
        await store.look(replace(own, endpoint="https://a.blob.core.windows.net"))


async def test_a_tenant_is_told_the_same_of_whatever_is_not_azure(
    store: AzureStore, proxied: tuple[AzureProxy, AzureTarget]
) -> None:
    proxy, target = proxied
    told = set()
    for fault in ("page", "redirect", "reset"):
        proxy.faults = {LIST: [fault] * 9}
        try:
            await store.look(target)
        except DeliveryError as error:
            told.add(str(store.told(target, error)))
    assert len(told) == 1
    assert "no blob storage of Azure's can be used" in told.pop()
