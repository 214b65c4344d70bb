"""Deliveries over HTTP: looked at, cancelled, tried again, asked for; by whom, and by whom not."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from app.audit import Actor
from app.codes import Code
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.orders import OrderStatus
from app.delivery.own_ids import prefix_of
from app.delivery.progress import Progress
from app.delivery.states import State, Work
from app.delivery.told import Told
from app.errors import ErrorType
from app.run.wiring.tenants import ConfigurationParts
from app.usecases.fail import fail
from tests.builders import make_body, make_message, make_progress, make_stored, make_upload
from tests.integration.conftest import Deliveries
from tests.web.conftest import (
    PLENTY,
    SECRET,
    TENANT,
    Api,
    MakeClient,
    bearer,
    parts_for,
    serve,
)
from web.endpoint import PREFIX
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate

USER = "scientist@example.org"
MINE = prefix_of("admin@example.org")
FAR = {
    "s3_server": {
        "scheme": "https",
        "host": "far.example.org",
        "port": 443,
        "region": "r",
        "key": "k",
        "secret": "s",
    },
    "bucket": "far-away",
}


async def test_a_transfer_without_a_byte_for_long_stalls_in_the_list_and_in_the_figures(
    deliveries: Deliveries, configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    reports: list[Progress] = []

    def report_of(delivery: Delivery) -> Progress | None:
        return next((report for report in reports if report.delivery == delivery.id), None)

    parts = parts_for(configuration, reports=lambda: reports, progress=report_of)
    api = await serve(aiohttp_client, parts)
    moves, stalls = [await deliveries.claimed(name) for name in ("moves", "stalls")]
    await deliveries.ready("waits")

    async def found(query: str) -> dict[str, str]:
        seen = await content(await api.call("GET", f"/deliveries?{query}"))
        return {one["correlationId"]: one["activity"] for one in seen}

    async def figures() -> dict[str, Any]:
        told = await content(await api.call("GET", "/stats"))
        (active,) = [one for one in told["active"] if one["state"] == "TRANSFERRING"]
        return dict(active)

    assert await found("activity=stalled") == {}
    assert "stalled" not in await figures()
    reports += [
        make_progress(moves, attempt=moves.attempt, silent=44.0),
        make_progress(stalls, attempt=stalls.attempt, silent=190.0),
    ]
    assert await found("activity=stalled") == {"stalls": "stalled"}
    assert await found("activity=moving") == {"moves": "moving", "stalls": "stalled"}
    both = await found("activity=stalled&activity=waiting")
    assert both == {"stalls": "stalled", "waits": "waiting"}
    told = await figures()
    assert (told["moving"], told["stalled"], told["longestStalledSeconds"]) == (2, 1, 190.0)


async def content(answer: Any, status: int = 200) -> Any:
    body = await answer.json()
    assert answer.status == status, body
    return body["content"]


def request(correlation_id: str = "asked", **order: Any) -> dict[str, Any]:
    return {"correlationId": correlation_id, "order": {"user": USER, "queries": ["a:b"]} | order}


def cursor(at: str, *, delivery: str = "ffffffff-ffff-ffff-ffff-ffffffffffff") -> str:
    """Return where a page may begin, in the form of a link named next."""
    return base64.urlsafe_b64encode(f"{at} {delivery}".encode()).decode().rstrip("=")


async def test_the_newest_come_first_a_page_at_a_time(api: Api, deliveries: Deliveries) -> None:
    for number in range(5):
        await deliveries.granted(f"d{number}")
    await deliveries.grant(make_message("foreign", tenant="swot"))
    names, path = [], "/deliveries?size=2"
    while path:
        body = await (await api.call("GET", path)).json()
        names.append([delivery["correlationId"] for delivery in body["content"]])
        path = next((link["href"] for link in body["links"] if link["rel"] == "next"), "")
    assert names == [["d4", "d3"], ["d2", "d1"], ["d0"]]


async def test_suborders_are_shown_of_one_and_counted_in_lists(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.granted("cut")
    for suborder in (7, 9):
        await deliveries.tell(
            OrderStatus.SUBORDER_DONE,
            "cut",
            order_id=1,
            suborder_id=suborder,
            total_suborders=3,
        )
    (listed,) = await content(await api.call("GET", "/deliveries"))
    assert (listed["announcedSubOrders"], listed["totalSubOrders"]) == (2, 3)
    assert not listed.keys() & {"segments", "listedSubOrders", "orderDone", "parkedSince"}
    shown = await content(await api.call("GET", "/deliveries/cut"))
    assert [(each["number"], each["subOrderId"]) for each in shown["segments"]] == [(1, 7), (2, 9)]
    assert all(each.keys() == {"number", "subOrderId", "announcedAt"} for each in shown["segments"])
    await deliveries.granted("whole")
    assert "segments" not in await content(await api.call("GET", "/deliveries/whole"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("state=ERROR", {"failed"}),
        ("state=GRANTED&state=READY", {"waiting", "ready"}),
        ("text=NO+SUCH+BUCKET", {"failed"}),
        ("text=wait", {"waiting"}),
        (f"user={quote(USER)}", {"failed", "waiting", "ready"}),
        ("user=somebody", set()),
        ("label=a+label", {"waiting"}),
        ("label=a+label&label=another", set()),
        ("label=", {"failed", "waiting", "ready"}),
        ("since=2999-01-01", set()),
        ("until=2999-01-01T00:00:00Z", {"failed", "waiting", "ready"}),
        ("text=%25", set()),
    ],
)
async def test_lists_are_filtered(
    api: Api, deliveries: Deliveries, query: str, found: set[str]
) -> None:
    failed = await deliveries.ready("failed")
    await deliveries.fail(failed, "there is no such bucket")
    labelled = make_body("waiting") | {"delivery": {"labels": ["a label"]}}
    await deliveries.granted("waiting", body=labelled)
    await deliveries.ready("ready")
    shown = await content(await api.call("GET", f"/deliveries?{query}"))
    assert {delivery["correlationId"] for delivery in shown} == found


@pytest.mark.parametrize(
    "query",
    [
        *("state=LOST", "size=0", "size=501", "since=yesterday", "after=!", "after=YWJj"),
        *("text=%00", "label=%00"),
        *("since=0001-01-01T00:00:00%2B14:00", "until=9999-12-31T23:59:59-01:00"),
        f"after={cursor('0001-01-01T00:00:00+14:00')}",
        f"after={cursor('9999-12-31T23:59:59-00:01')}",
        f"after={cursor('2026-01-01T00:00:00Z', delivery='x')}",
        "after=%ED%B2%80",
    ],
)
async def test_a_wrong_query_is_told(api: Api, query: str) -> None:
    answer = await api.call("GET", f"/deliveries?{query}")
    assert answer.status == 422
    assert query.partition("=")[0] in (await answer.json())["message"]


@pytest.mark.parametrize("zone", ["", "Z", "+00:00", "+14:00", "-12:00"])
async def test_a_page_begins_at_a_moment_whatever_zone_it_is_told_in(
    api: Api, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """A moment without a zone is UTC, wherever the process runs."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        await deliveries.granted("before")
        moment = datetime.now(UTC)
        await deliveries.granted("after")
        told = moment.astimezone(datetime.fromisoformat(f"2026-01-01T00:00{zone}").tzinfo or UTC)
        after = cursor(told.replace(tzinfo=None).isoformat() + zone)
        shown = await content(await api.call("GET", f"/deliveries?after={after}"))
        assert [delivery["correlationId"] for delivery in shown] == ["before"]
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_a_delivery_shows_how_it_got_where_it_is(api: Api, deliveries: Deliveries) -> None:
    name = "a/b ?#%"
    ready = await deliveries.ready(name)
    leases = deliveries.leases("worker-1")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    shown = await content(await api.call("GET", f"/deliveries/{quote(name, safe='')}"))
    assert shown["state"] == "TRANSFERRING"
    assert shown["worker"] == "worker-1"
    assert [step["state"] for step in shown["history"]] == [
        *("GRANTED", "AVAILABLE", "READY", "TRANSFERRING"),
    ]
    assert shown["timings"].keys() == {"GRANTED", "AVAILABLE", "READY"}
    assert shown["id"] == str(ready.id)
    async with deliveries.store.transaction() as tx:
        result = make_stored(url="s3://b/k", size=7)
        await tx.advance(claimed, State.DONE, result=result)
    shown = await content(await api.call("GET", f"/deliveries/{quote(name, safe='')}"))
    assert (shown["state"], shown["url"], shown["archiveBytes"]) == ("DONE", "s3://b/k", 7)
    assert "worker" not in shown


async def test_each_attempt_of_a_delivery_is_shown_the_newest_first(
    api: Api, deliveries: Deliveries
) -> None:
    ready = await deliveries.ready("d")
    assert "attempts" not in await content(await api.call("GET", "/deliveries/d"))
    for worker in ("worker-1", "worker-2"):
        leases = deliveries.leases(worker, archived=lambda _: 7)
        claimed = await leases.claim(Work.TRANSFER)
        assert claimed is not None
        await leases.release(claimed, after=timedelta(), failed=False, cause="403 AccessDenied")
    await deliveries.leases("worker-3").claim(Work.TRANSFER)
    under_way, last, _first = (await content(await api.call("GET", "/deliveries/d")))["attempts"]
    assert (under_way["attempt"], under_way["worker"]) == (3, "worker-3")
    assert "ended" not in under_way
    assert last.pop("began") <= last.pop("ended")
    assert last == {
        "attempt": 2,
        "worker": "worker-2",
        "target": ready.target,
        "outcome": "postponed",
        "cause": "403 AccessDenied",
        "bytes": 7,
    }
    assert (await api.call("GET", "/deliveries/d", tenant="swot")).status == 404


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize(
    "name", ["d", "a/b ?#%&=+;é", "%2e%2e", "/deliveries", "events", ".", ".."]
)
async def test_files_are_listed_as_they_are_in_the_archive(
    api: Api, deliveries: Deliveries, name: str, prefix: str
) -> None:
    await deliveries.ready(name, files=7)
    (found,) = await content(await api.call("GET", f"{prefix}/deliveries"))
    whole = await (await api.call("GET", f"{prefix}/deliveries/by-id/{found['id']}")).json()
    assert whole["content"]["correlationId"] == name
    links = {link["rel"]: link["href"] for link in whole["links"]}
    if "events" in links:  # what can't be done by a link is not offered
        assert (await api.call("POST", links["retry"])).status == 202
    assert (await content(await api.call("GET", links["self"])))["id"] == found["id"]
    names: list[str] = []
    path = links["files"] + "&size=3" if "?" in links["files"] else links["files"] + "?size=3"
    while path:
        body = await (await api.call("GET", path)).json()
        names += [file["member"] for file in body["content"]]
        path = next((link["href"] for link in body["links"] if link["rel"] == "next"), "")
    assert names == [f"f{number}" for number in range(7)]


async def test_what_a_partial_delivery_is_without_is_counted_and_the_first_are_named(
    api: Api, deliveries: Deliveries
) -> None:
    body = make_body("part") | {"delivery": {"partial": True}}
    delivery = await deliveries.ready("part", body=body)
    assert "missingFiles" not in await content(await api.call("GET", "/deliveries/part"))
    many = [
        MissingFile(cause=f"404 for {number}", file_id=number, member=f"m{number}.tif", size=number)
        for number in range(12)
    ]
    async with deliveries.store.transaction() as tx:
        await tx.add_missing(delivery, [*many, MissingFile.unnamed(5, "it does not tell which")])
    shown = await content(await api.call("GET", "/deliveries/part"))
    assert shown["missing"] == 17
    assert [file["cause"] for file in shown["missingFiles"]] == [f"404 for {n}" for n in range(10)]
    assert shown["missingFiles"][3] == {
        "fileId": 3,
        "member": "m3.tif",
        "bytes": 3,
        "files": 1,
        "cause": "404 for 3",
    }
    files = await (await api.call("GET", "/deliveries/part/files")).json()
    assert sum(file["files"] for file in files["missing"]) == 17
    (listed,) = await content(await api.call("GET", "/deliveries"))
    assert not listed.keys() & {"missing", "missingFiles"}


async def test_a_delivery_that_failed_shows_where_its_report_is(
    api: Api, deliveries: Deliveries
) -> None:
    delivery = await deliveries.ready("failed")
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(
            delivery,
            State.ERROR,
            error=(ErrorType.INTERNAL_ERROR, "404"),
            told=Told(report_url="s3://b/failed/report.json"),
        )
    for path in ("/deliveries/failed", "/deliveries"):
        answer = await content(await api.call("GET", path))
        shown = answer if isinstance(answer, dict) else answer[0]
        assert shown["reportUrl"] == "s3://b/failed/report.json"


async def test_a_cancelled_delivery_ends_and_its_client_is_told(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.ready("d")
    shown = await content(await api.call("POST", "/deliveries/d/cancel?reason=wrong+dates"))
    assert (shown["state"], shown["errorType"]) == ("ERROR", "INTERNAL_ERROR")
    assert shown["errorMessage"] == "cancelled by admin@example.org: wrong dates"
    assert ("response", "ERROR") in [
        (kind, body.get("status")) for kind, body in await deliveries.owed()
    ]
    assert ("cancel", 1) in [(kind, body.get("orderId")) for kind, body in await deliveries.owed()]
    (entry,) = await content(await api.call("GET", "/audit"))
    assert (entry["action"], entry["subject"]) == ("cancel", "delivery d")
    assert (entry["before"], entry["after"]) == ("READY", "ERROR")
    again = await api.call("POST", "/deliveries/d/cancel")
    assert again.status == 409
    assert "has ended already (ERROR)" in (await again.json())["message"]


async def test_one_whose_archive_may_be_appearing_ends_later_and_that_is_answered(
    api: Api, deliveries: Deliveries
) -> None:
    claimed = await deliveries.claimed("d")
    upload = make_upload(container="b", key="k")
    assert await deliveries.leases("w").record_completion(
        claimed, make_stored(upload), namespace="s3:9000", until=timedelta(minutes=16)
    )
    answer = await api.call("POST", "/deliveries/d/cancel?reason=wrong+dates")
    shown = await content(answer, 202)
    assert shown["state"] == "TRANSFERRING"
    links = (await answer.json())["links"]
    assert {link["rel"] for link in links} == {"self", "files", "events"}
    assert "wrong dates; it ends when its completion has" in shown["lastCause"]
    again = await api.call("POST", "/deliveries/d/cancel")
    assert again.status == 409
    assert "as soon as it is known" in (await again.json())["message"]


async def test_a_delivery_that_ended_in_error_is_requested_again(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.fail(await deliveries.ready("d"), "no such bucket")
    shown = await content(await api.call("POST", "/deliveries/d/retry"), 202)
    assert shown["state"] == "GRANTED"
    whole = await content(await api.call("GET", "/deliveries/d"))
    assert [other["state"] for other in whole["earlier"]] == ["ERROR"]
    earlier = whole["earlier"][0]["id"]
    before = await content(await api.call("GET", f"/deliveries/d?id={earlier}"))
    assert before["order"] == whole["order"]
    assert before["state"] == "ERROR"
    orders = [body for kind, body in await deliveries.owed() if kind == "order"]
    assert len(orders) == 1  # that of the first was not sent, and is withdrawn


async def test_what_would_fail_again_is_asked_for_again_only_by_force(
    api: Api, deliveries: Deliveries
) -> None:
    failed = await deliveries.ready("d")
    async with deliveries.store.transaction() as tx:
        error = ErrorType.INTERNAL_ERROR, "no such bucket"
        assert await fail(tx, failed, *error, code=Code.TARGET_REFUSED)
    shown = await content(await api.call("GET", "/deliveries/d"))
    assert (shown["code"], shown["failsAgain"]) == ("TARGET_REFUSED", True)
    refused = await api.call("POST", "/deliveries/d/retry")
    assert refused.status == 409
    said = await refused.json()
    assert said["code"] == "FAILS_AGAIN"
    assert "no such bucket" in said["message"]
    again = await content(await api.call("POST", "/deliveries/d/retry?force=true"), 202)
    assert again["state"] == "GRANTED"
    assert "failsAgain" not in again


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/deliveries/none", 404, "UNKNOWN_DELIVERY"),
        ("GET", "/nowhere", 404, "NO_SUCH_PATH"),
        ("PUT", "/deliveries/none", 405, "BAD_CALL"),
        ("GET", "/deliveries?state=NONE", 422, "INVALID_REQUEST"),
        ("POST", "/deliveries/d/retry", 409, "NOT_POSSIBLE"),
    ],
)
async def test_what_is_refused_has_a_code_beside_the_message(
    api: Api, deliveries: Deliveries, method: str, path: str, status: int, code: str
) -> None:
    await deliveries.granted("d")
    answer = await api.call(method, path)
    assert answer.status == status
    said = await answer.json()
    assert said["code"] == code
    assert said["message"]


async def test_a_delivery_that_waits_for_a_later_attempt_is_tried_at_once(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.ready("d")
    leases = deliveries.leases("worker-1")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    busy = await api.call("POST", "/deliveries/d/retry")
    assert busy.status == 409
    assert "under way" in (await busy.json())["message"]
    await leases.release(claimed, after=timedelta(hours=1), failed=False, cause="S3 is away")
    assert await leases.claim(Work.TRANSFER) is None
    shown = await content(await api.call("POST", "/deliveries/d/retry"), 202)
    assert shown["lastCause"] == "S3 is away"
    assert await leases.claim(Work.TRANSFER) is not None


@pytest.mark.parametrize(
    ("state", "words"), [("GRANTED", "waits for rs-order"), ("DONE", "is done")]
)
async def test_a_delivery_that_cannot_be_tried_again_says_why(
    api: Api, deliveries: Deliveries, state: str, words: str
) -> None:
    if state == "GRANTED":
        await deliveries.granted("d")
    else:
        await deliveries.done("d")
    answer = await api.call("POST", "/deliveries/d/retry")
    assert answer.status == 409
    assert words in (await answer.json())["message"]


async def test_a_request_over_http_is_answered_like_one_over_amqp(
    api: Api, deliveries: Deliveries
) -> None:
    answer = await api.call("POST", "/deliveries?priority=9", json=request())
    shown = await content(answer, 202)
    assert (shown["state"], shown["priority"]) == ("GRANTED", 9)
    assert answer.headers["Location"] == "/deliveries/asked"
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "order"]
    again = await api.call("POST", "/deliveries", json=request(queries=["c:d"]))
    assert again.status == 409
    assert "still active" in (await again.json())["message"]


async def test_a_request_that_breaks_rules_is_refused_here_alone(
    api: Api, deliveries: Deliveries
) -> None:
    """Its correlation id may be that of another user's delivery, whose client would hear it."""
    answer = await api.call("POST", "/deliveries", json=request(queries=[], user=" "))
    assert answer.status == 422
    reasons = (await answer.json())["messages"]
    assert reasons == ["order.user must not be blank", "order.queries must have at least one entry"]
    assert await deliveries.owed() == []
    await deliveries.granted("running")
    await api.put("delivery_targets", {"far": FAR})
    before = await deliveries.owed()
    for refused, status, words in (
        (request("running") | {"targetDelivery": "nowhere"}, 422, "is unknown"),
        (request("running", queries=[]), 422, "order.queries"),
        (request("running"), 409, "still active"),
    ):
        answer = await api.call("POST", "/deliveries", json=refused)
        assert answer.status == status
        assert words in (await answer.json())["message"]
    assert await deliveries.owed() == before
    assert await deliveries.states() == ["GRANTED"]
    assert await deliveries.pool.fetchval("SELECT count(*) FROM inbox") == 1


async def test_a_name_that_fits_no_property_is_left_out(api: Api, deliveries: Deliveries) -> None:
    """`app_id` holds 255 bytes; a user may have 128 characters."""
    user = "é" * 127 + "x"
    await content(await api.call("POST", "/deliveries", json=request("fits", user=user)), 202)
    user = "€" * 128
    await content(await api.call("POST", "/deliveries", json=request("long", user=user)), 202)
    apps = await deliveries.pool.fetch("SELECT DISTINCT origin_app FROM outbox")
    assert {row["origin_app"] for row in apps} == {"é" * 127 + "x", None}


@pytest.mark.parametrize(
    "body",
    [
        b'{"correlationId": "a\\u0000b", "order": {"user": "u", "queries": ["q"]}}',
        b'{"correlationId": "\\ud800", "order": {"user": "u", "queries": ["q"]}}',
        b'{"order": {"user": "u", "queries": ["q"]}}',
        b"[]",
    ],
)
async def test_a_request_that_could_not_be_answered_is_refused(
    api: Api, deliveries: Deliveries, body: bytes
) -> None:
    answer = await api.call(
        "POST", "/deliveries", data=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status == 422
    assert await deliveries.owed() == []


async def test_a_user_sees_and_asks_for_their_own_deliveries_only(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.granted("theirs")
    mine: dict[str, Any] = {"role": "REGISTERED_USER"}  # admin@example.org, by the token
    answer = await api.call("POST", "/deliveries", json=request(MINE + "1"), **mine)
    assert answer.status == 422
    asked = request(MINE + "1", user="admin@example.org")
    await content(await api.call("POST", "/deliveries", json=asked, **mine), 202)
    shown = await content(await api.call("GET", "/deliveries?user=" + USER, **mine))
    assert [delivery["correlationId"] for delivery in shown] == [MINE + "1"]
    assert (await api.call("GET", f"/deliveries/{MINE}1", **mine)).status == 200
    assert (await api.call("GET", "/deliveries/theirs", **mine)).status == 404
    assert (await api.call("GET", "/deliveries/theirs/events", **mine)).status == 404


class Nameless(TokenVerifier):
    """Lets in a caller whom a token does not name, as no verifier does."""

    def verify(self, token: str) -> Actor:
        return replace(super().verify(token), name="")


async def test_a_caller_without_a_name_owns_nothing(
    configuration: ConfigurationParts, deliveries: Deliveries, aiohttp_client: MakeClient
) -> None:
    """Should a token without a name ever get so far, it lists no user's deliveries."""
    await deliveries.granted("theirs")
    gate = Gate(Nameless(secret=SECRET, public_key=""), configuration.tenants, limits=PLENTY)
    api = await serve(aiohttp_client, parts_for(configuration, gate=gate))
    for query in ("", f"?user={quote(USER)}"):
        assert await content(await api.call("GET", f"/deliveries{query}", **OWNER)) == []
    assert (await api.call("GET", "/deliveries/theirs", **OWNER)).status == 404


OWNER: dict[str, Any] = {"role": "REGISTERED_USER"}  # admin@example.org, by the token


def of_mine(**fields: Any) -> dict[str, Any]:
    """Return a request of the caller's token."""
    return {"order": {"user": "admin@example.org", "queries": ["a:b"]}} | fields


async def ask(api: Api, body: Any, key: str | None = None, **caller: Any) -> Any:
    """Ask for a delivery; return the answer."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return await api.call("POST", "/deliveries", json=body, headers=headers, **caller)


async def test_a_user_without_an_id_is_given_one_of_their_own(
    api: Api, deliveries: Deliveries
) -> None:
    me = await content(await api.call("GET", "/me", **OWNER))
    assert me == {
        "name": "admin@example.org",
        "role": "REGISTERED_USER",
        "tenant": TENANT,
        "correlationIdPrefix": MINE,
    }
    answer = await ask(api, of_mine(correlationId=None), **OWNER)
    first = await content(answer, 202)
    second = await content(await ask(api, of_mine(targetDelivery="x"), **OWNER), 202)
    assert first["correlationId"].startswith(MINE)
    assert second["correlationId"].startswith(MINE)
    assert first["correlationId"] != second["correlationId"]
    assert (await api.call("GET", answer.headers["Location"], **OWNER)).status == 200
    assert "correlationIdPrefix" not in await content(await api.call("GET", "/me"))


async def test_an_id_that_is_not_ones_own_is_refused_in_the_same_words_whether_it_exists_or_not(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.granted("running")
    await deliveries.fail(await deliveries.ready("ended"), "no such bucket")
    await deliveries.granted(f"{prefix_of(USER)}1")
    before = await deliveries.owed(), await deliveries.states()
    said = set()
    for name in ("running", "ended", "nothing", f"{prefix_of(USER)}1", f"{prefix_of(USER)}2", ""):
        for key in (None, "k"):
            answer = await ask(api, of_mine(correlationId=name), key, **OWNER)
            assert answer.status == 422
            said.add(await answer.text())
    (words,) = said
    assert f"correlationId must begin with {MINE}" in words
    assert (await deliveries.owed(), await deliveries.states()) == before


async def test_folders_that_a_user_chooses_are_among_their_own(
    api: Api, deliveries: Deliveries
) -> None:
    """Those of another's correlation id are none of theirs to put anything into."""
    for taken, prefix in enumerate((f"{MINE}campaign/{{date}}", "")):
        answer = await ask(api, of_mine(delivery={"prefix": prefix}), f"k{taken}", **OWNER)
        assert answer.status == 202
    for prefix in ("running", "{user}", f"x/{MINE}"):
        answer = await ask(api, of_mine(delivery={"prefix": prefix}), **OWNER)
        assert answer.status == 422
        assert f"delivery.prefix must begin with {MINE}" in (await answer.json())["message"]
    assert (await ask(api, of_mine(delivery={"prefix": 5}), **OWNER)).status == 422


async def test_a_name_for_an_archive_that_there_will_not_be_is_refused(
    api: Api, deliveries: Deliveries
) -> None:
    body = request("d") | {"delivery": {"format": "files", "archiveName": "x"}}
    answer = await ask(api, body | {"targetDelivery": "x" * 256})
    assert answer.status == 422
    answer = await ask(api, body)
    assert answer.status == 422
    assert (await answer.json())["message"].startswith("delivery.archiveName names an archive")
    assert await deliveries.states() == []


async def test_a_user_is_told_every_rule_at_once(api: Api, deliveries: Deliveries) -> None:
    answer = await api.call("POST", "/deliveries?priority=2", json=request("theirs"), **OWNER)
    assert answer.status == 422
    first, second, third = (await answer.json())["messages"]
    assert first.startswith("correlationId must begin with")
    assert second == "order.user must be admin@example.org, who you are"
    assert third == "priority must be 1: to choose it takes an operator"
    assert await deliveries.states() == []


@pytest.mark.parametrize("caller", [OWNER, {}])
async def test_the_same_body_again_is_the_same_delivery_while_it_is_active(
    api: Api, deliveries: Deliveries, caller: dict[str, Any]
) -> None:
    """Its caller may not have heard the answer."""
    body = of_mine() if caller else request("d")
    first, again = [await content(await ask(api, body, **caller), 202) for _ in range(2)]
    assert again["id"] == first["id"]
    assert len(await content(await api.call("GET", "/audit"))) == 1
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "order"]
    shuffled = {"order": dict(reversed(body["order"].items()))} | body
    assert (await content(await ask(api, shuffled, **caller), 202))["id"] == first["id"]
    await deliveries.fail(await deliveries.active(first["correlationId"]), "no such bucket")
    later = await content(await ask(api, body, **caller), 202)
    assert later["id"] != first["id"]


async def test_the_same_body_of_another_caller_is_another_request(
    api: Api, deliveries: Deliveries
) -> None:
    await content(await ask(api, request("d"), "k"), 202)
    headers = bearer(sub="other@example.org", email=None) | {"Idempotency-Key": "k"}
    answer = await api.client.post("/deliveries", json=request("d"), headers=headers)
    assert answer.status == 409
    foreign = await content(await ask(api, request("d"), "k", tenant="swot"), 202)
    assert foreign["tenant"] == "swot"


async def test_a_key_names_one_delivery_also_after_its_end(
    api: Api, deliveries: Deliveries
) -> None:
    first = await content(await ask(api, of_mine(), "k-1", **OWNER), 202)
    other = await content(await ask(api, of_mine(), "k-2", **OWNER), 202)
    assert other["id"] != first["id"]  # another key tells that it is meant
    await deliveries.fail(await deliveries.active(first["correlationId"]), "no such bucket")
    answer = await ask(api, of_mine(), "k-1", **OWNER)
    again = await content(answer, 202)
    assert (again["id"], again["state"]) == (first["id"], "ERROR")
    assert answer.headers["Location"] == f"/deliveries/{first['correlationId']}"
    for changed in (of_mine(targetDelivery="x"), of_mine(correlationId=first["correlationId"])):
        refused = await ask(api, changed, "k-1", **OWNER)
        assert refused.status == 422
        assert "Idempotency-Key came with another request" in await refused.text()
    named = of_mine(correlationId=MINE + "1")
    one = await content(await ask(api, named, **OWNER), 202)
    for key in ("k-3", "k-4", "k-3"):  # an id that is in use can name no other
        assert (await content(await ask(api, named, key, **OWNER), 202))["id"] == one["id"]


async def test_requests_with_one_key_at_once_open_one_delivery(
    api: Api, deliveries: Deliveries
) -> None:
    for key in ("k", None):
        answers = await asyncio.gather(
            *(ask(api, of_mine(targetDelivery=key), key, **OWNER) for _ in range(8))
        )
        assert len({(await content(answer, 202))["id"] for answer in answers}) == 1
    assert len(await deliveries.states()) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused(api: Api, deliveries: Deliveries, key: str) -> None:
    answer = await ask(api, request(), key)
    assert answer.status == 422
    assert "Idempotency-Key" in await answer.text()
    two = [*bearer().items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await api.client.post("/deliveries", json=request(), headers=two)).status == 422
    assert await deliveries.states() == []


async def test_a_key_of_a_request_that_was_denied_asks_for_nothing_again(
    api: Api, deliveries: Deliveries
) -> None:
    await content(await ask(api, request("d"), "k"), 202)
    await deliveries.pool.execute("DELETE FROM delivery")  # as `check` does with unknown users
    answer = await ask(api, request("d"), "k")
    assert answer.status == 409
    assert "denied" in await answer.text()
    assert await deliveries.states() == []


async def test_nothing_is_delivered_that_can_not_be_audited(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.pool.execute("ALTER TABLE audit ADD CHECK (action NOT IN ('submit', 'retry'))")
    await deliveries.fail(await deliveries.ready("failed"), "no such bucket")
    owed = await deliveries.owed()
    assert (await ask(api, request("d"), "k")).status == 500
    assert (await api.call("POST", "/deliveries/failed/retry")).status == 500
    assert await deliveries.states() == ["ERROR"]
    assert await deliveries.owed() == owed
    await deliveries.pool.execute("ALTER TABLE audit DROP CONSTRAINT audit_action_check")
    await content(await ask(api, request("d"), "k"), 202)


async def own(deliveries: Deliveries, correlation_id: str) -> None:
    """Make the delivery that of the caller's token."""
    await deliveries.pool.execute(
        "UPDATE delivery SET user_email = 'admin@example.org' WHERE correlation_id = $1"
        " AND finished_at IS NULL",
        correlation_id,
    )


async def test_owners_cancel_their_own_and_try_it_again(api: Api, deliveries: Deliveries) -> None:
    await deliveries.ready("mine")
    await own(deliveries, "mine")
    shown = await content(await api.call("POST", "/deliveries/mine/cancel?reason=no", **OWNER))
    assert shown["errorMessage"] == "cancelled by admin@example.org: no"
    again = await api.call("POST", "/deliveries/mine/cancel", **OWNER)
    assert again.status == 409
    shown = await content(await api.call("POST", "/deliveries/mine/retry", **OWNER), 202)
    assert (shown["state"], shown["user"]) == ("GRANTED", "admin@example.org")
    audited = await content(await api.call("GET", "/audit"))
    assert [(entry["action"], entry["actor"], entry["role"]) for entry in audited] == [
        ("retry", "admin@example.org", "REGISTERED_USER"),
        ("cancel", "admin@example.org", "REGISTERED_USER"),
    ]


@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_a_delivery_of_another_user_is_answered_as_one_that_is_not_there(
    api: Api, deliveries: Deliveries, verb: str
) -> None:
    await deliveries.granted("running")
    await deliveries.fail(await deliveries.ready("ended"), "no such bucket")
    await deliveries.ready("failing")
    owed = await deliveries.owed()
    said = {}
    for name in ("running", "ended", "failing", "nothing"):
        answer = await api.call("POST", f"/deliveries/{name}/{verb}", **OWNER)
        assert answer.status == 404
        said[name] = (await answer.json())["message"].replace(name, "ID")
    assert len(set(said.values())) == 1
    assert await deliveries.owed() == owed
    assert sorted(await deliveries.states()) == ["ERROR", "GRANTED", "READY"]
    assert await content(await api.call("GET", "/audit")) == []


async def test_an_owner_touches_no_delivery_that_has_used_the_id_since(
    api: Api, deliveries: Deliveries
) -> None:
    """One answer, whatever has become of the other user's delivery."""
    await deliveries.ready("d")
    await own(deliveries, "d")
    await content(await api.call("POST", "/deliveries/d/cancel", **OWNER))
    await deliveries.ready("d")  # of another user
    ended = await api.call("POST", "/deliveries/d/cancel", **OWNER)
    assert (ended.status, "has ended already" in await ended.text()) == (409, True)
    running = await api.call("POST", "/deliveries/d/retry", **OWNER)
    await deliveries.fail(await deliveries.active("d"), "no such bucket")
    over = await api.call("POST", "/deliveries/d/retry", **OWNER)
    assert (running.status, over.status) == (409, 409)
    assert await running.text() == await over.text()
    assert "under another correlation id" in await over.text()
    assert await deliveries.states() == ["ERROR", "ERROR"]


@pytest.mark.parametrize("name", ["events", ".", "..", "by-id"])
async def test_a_delivery_that_no_path_can_name_is_found_by_its_id(
    api: Api, deliveries: Deliveries, name: str
) -> None:
    answer = await api.call("POST", "/deliveries", json=request(name))
    first = await content(answer, 202)
    assert answer.headers["Location"] == f"/deliveries/by-id/{first['id']}"
    await deliveries.fail(await deliveries.active(name), "no such bucket")
    await content(await api.call("POST", "/deliveries", json=request(name)), 202)
    shown = await content(await api.call("GET", answer.headers["Location"]))
    assert (shown["correlationId"], shown["state"]) == (name, "ERROR")
    assert [other["state"] for other in shown["earlier"]] == ["GRANTED"]


async def test_a_delivery_of_another_owner_is_not_found_by_its_id_either(
    api: Api, deliveries: Deliveries
) -> None:
    """Nor is a user told that it is there: what is missing is missing in the same words."""
    theirs = await deliveries.granted("d")
    mine: dict[str, Any] = {"role": "REGISTERED_USER"}
    for path in ("", "/files"):
        for caller in (mine, {"tenant": "swot"}):
            answers = [
                await api.call("GET", f"/deliveries/by-id/{name}{path}", **caller)
                for name in (theirs.id, UUID(int=1), "x")
            ]
            assert [answer.status for answer in answers] == [404] * 3
            first, second, _ = [(await answer.json())["message"] for answer in answers]
            assert first.replace(str(theirs.id), str(UUID(int=1))) == second


async def test_another_tenants_delivery_is_not_there(api: Api, deliveries: Deliveries) -> None:
    await deliveries.granted("d")
    for method, path in (
        ("GET", ""),
        ("GET", "/files"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ):
        answer = await api.call(method, f"/deliveries/d{path}", tenant="swot")
        assert answer.status == 404, path
    assert await deliveries.states() == ["GRANTED"]
