"""What is refused, what fails, and what only takes longer: the whole service, every part real."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compose.embedded.stack import TENANT
from tests.client import ORDER_CANCELS, Client, contents, request_for
from tests.conftest import noise
from tests.standin import StandIn

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("service")]

MIB = 1024 * 1024


async def test_a_request_that_breaks_rules_is_denied_with_every_reason(client: Client) -> None:
    body = {
        "correlationId": "d-denied",
        "order": {"user": "x" * 200, "queries": [], "filters": {"dataTypes": ["PICTURE"]}},
    }
    answer = await client.answer(body)
    assert answer == {
        "correlationId": "d-denied",
        "status": "DENIED",
        "errorType": "INVALID_CONTENT",
        "message": "order.user must not be longer than 128 characters; "
        "order.queries must have at least one entry; "
        "order.filters.dataTypes.0 must be RAWDATA or QUICKLOOK",
    }


async def test_an_unknown_user_is_denied_and_nothing_is_ordered(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(unknown_users=["stranger+1@example.org"])
    body = request_for(make_product({"a": b"a"}))
    body["order"]["user"] = "stranger+1@example.org"
    answer = await client.answer(body)
    assert answer == {
        "correlationId": body["correlationId"],
        "status": "DENIED",
        "errorType": "FORBIDDEN",
        "message": f"order.user stranger+1@example.org is not a user of tenant {TENANT}",
    }
    assert await standin.orders(body["correlationId"]) == []


async def test_an_outage_of_rs_admin_delays_and_does_not_deny(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(admin_answers_500=3)
    body = request_for(make_product({"a": b"a"}))
    body["order"]["user"] = f"{body['correlationId']}@example.org"
    answer = await client.answer(body)
    assert answer["status"] == "DONE"
    assert (await standin.faults())["admin_answers_500"] == 0


async def test_an_identifier_that_is_too_long_is_denied_like_anything_else(client: Client) -> None:
    """It does not fit into the AMQP property of the answer; the body has it in full."""
    body = request_for("P", correlationId="é" * 300)
    answer = await client.answer(body)
    assert answer["status"] == "DENIED"
    assert answer["message"] == "correlationId must not be longer than 255 characters"


async def test_a_denied_order_ends_in_error_and_is_not_cancelled(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(order="deny", error_type="ORDER_LIMIT_REACHED")
    body = request_for(make_product({"a": b"a"}))
    answer = await client.answer(body)
    assert (answer["status"], answer["errorType"]) == ("ERROR", "ORDER_LIMIT_REACHED")
    assert client.heard(body["correlationId"], ORDER_CANCELS) == []


async def test_a_failed_order_ends_in_error_and_is_cancelled(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(order="fail")
    body = request_for(make_product({"a": b"a"}))
    answer = await client.answer(body)
    assert (answer["status"], answer["errorType"]) == ("ERROR", "INTERNAL_ERROR")
    cancel = await client.wait_for(body["correlationId"], exchange=ORDER_CANCELS)
    (order,) = await standin.orders(body["correlationId"])
    assert cancel == {"orderId": order["orderId"], "correlationId": body["correlationId"]}


async def test_faults_that_pass_only_delay(
    client: Client, standin: StandIn, make_product: Callable[..., str]
) -> None:
    await standin.misbehave(
        answers_500=2,
        listing_not_ready=1,
        not_ready=1,
        drops=1,
        drop_after=1000,
        wrong_checksums=1,
    )
    files = {"a.bin": noise(3 * MIB)}
    body = request_for(make_product(files))
    answer = await client.answer(body)
    assert answer["status"] == "DONE"
    assert contents(await client.fetch(answer["url"])) == files
    assert await client.open_uploads(body["correlationId"]) == []
    left = await standin.faults()
    assert not any(
        left[name] for name in ("answers_500", "listing_not_ready", "not_ready", "drops")
    )


@pytest.mark.parametrize(
    ("faults", "cause"),
    [
        ({"wrong_checksums": 99}, "expected MD5"),
        ({"wrong_sizes": True}, "expected 100001 bytes, got 100000"),
        ({"refuse": 403}, "rs-order answered 403"),
        ({"refuse": 404}, "rs-order answered 404"),
        ({"refuse": 422}, "rs-order answered 422"),
    ],
)
async def test_a_file_that_stays_wrong_ends_in_error_without_an_archive(
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
    faults: dict[str, object],
    cause: str,
) -> None:
    await standin.misbehave(**faults)
    body = request_for(make_product({"a.bin": noise(100_000)}))
    answer = await client.answer(body)
    assert (answer["status"], answer["errorType"]) == ("ERROR", "INTERNAL_ERROR")
    assert cause in answer["message"]
    assert "a.bin" in answer["message"]
    assert await client.open_uploads(body["correlationId"]) == []
    await client.wait_for(body["correlationId"], exchange=ORDER_CANCELS)


@pytest.mark.parametrize(
    "faults",
    [
        {"no_checksum": True},
        {"no_size": True},
        {"no_checksum": True, "no_size": True, "drops": 1, "drop_after": 1_500_000},
        {"drops": 2, "drop_after": 700_000},
        {"drops": 2, "drop_after": 700_000, "ranges": True},
    ],
    ids=str,
)
async def test_files_that_are_listed_poorly_or_break_off_are_delivered_whole(
    client: Client, standin: StandIn, make_product: Callable[..., str], faults: dict[str, int]
) -> None:
    await standin.misbehave(**faults)
    files = {"a.bin": noise(2 * MIB), "empty.dat": b""}
    body = request_for(make_product(files))
    answer = await client.answer(body)
    assert answer["status"] == "DONE"
    assert contents(await client.fetch(answer["url"])) == files
    assert (await standin.faults())["drops"] == 0
