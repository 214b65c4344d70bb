"""A client that knows REGARDS' fields alone has the same, whatever this service adds to them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery import outgoing
from app.delivery.manifest import MANIFEST_NAME
from app.delivery.outgoing import OutgoingMessage
from app.delivery.states import State, Status
from app.delivery.told import Told
from app.encoding import dumps
from app.errors import ErrorType
from tests.builders import make_delivery, make_stored, make_transfer
from tests.contract.gson import (
    ERROR_TYPES,
    ORDER_CANCEL,
    ORDER_REQUEST,
    STATUSES,
    GsonError,
    read,
    read_response,
)

SCHEMAS = Path(__file__).parents[2] / "docs/schemas"
KNOWN = {"correlationId", "status", "errorType", "message", "url", "md5"}
LINK = {"httpUrl": "https://s3.example/b/k?sig", "httpUrlExpires": "2026-03-01T15:00:00+00:00"}

all_told = st.builds(
    Told,
    files=st.integers(0, 10**6),
    manifest_url=st.text(min_size=1),
    sha256=st.just("1" * 64),
    expires=st.just("2026-03-01T15:00:00Z"),
    missing=st.integers(1, 10**6),
)


def sent(owed: OutgoingMessage, **more: Any) -> bytes:
    return dumps(owed.body | more)


@given(told=all_told, size=st.integers(0, 2**62), as_files=st.booleans())
def test_done_is_the_same_with_all_that_is_added_and_without(
    told: Told, size: int, as_files: bool
) -> None:
    name = MANIFEST_NAME if as_files else "a.zip"
    delivery = make_transfer(state=State.DONE, archive_name=name)
    result = make_stored(url=f"s3://bucket/c/{name}", size=size, md5="a" * 32)
    plain = read_response(sent(outgoing.done(delivery, result, Told())))
    full = sent(outgoing.done(delivery, result, told), **LINK)
    assert read_response(full) == plain
    assert plain == {
        "correlationId": "c",
        "status": "DONE",
        "url": "s3://bucket/c/" if as_files else "s3://bucket/c/a.zip",
        "md5": "a" * 32,
    }
    assert len(json.loads(full)) > len(plain) + 6, "nothing was added"


@pytest.mark.parametrize("error_type", ErrorType)
def test_each_refusal_and_failure_is_in_words_that_it_knows(error_type: ErrorType) -> None:
    delivery = make_delivery()
    for owed in (
        outgoing.denied(delivery, error_type, "why"),
        outgoing.error(delivery, error_type, "why"),
        outgoing.error(delivery, error_type, "why", Told(report_url="s3://b/c/report.json")),
    ):
        known = read_response(sent(owed))
        assert (known["errorType"], known["message"]) == (error_type.value, "why")
    assert read_response(sent(outgoing.granted(delivery)))["status"] == "GRANTED"


def test_there_is_no_word_that_it_does_not_know() -> None:
    assert {status.value for status in Status} == set(STATUSES)
    assert {error_type.value for error_type in ErrorType} == set(ERROR_TYPES)


def test_what_rs_order_is_sent_has_its_own_fields_alone() -> None:
    order = {"user": "u", "queries": ["*:*"], "filters": {"dataTypes": ["RAWDATA"]}}
    delivery = replace(make_delivery(), order=order)
    for owed, known in (
        (outgoing.order(delivery, size_limit=2**62), ORDER_REQUEST),
        (outgoing.cancel(delivery, 2**62), ORDER_CANCEL),
    ):
        assert read(sent(owed), known) == owed.body


@pytest.mark.parametrize(
    ("schema", "known"),
    [
        ("DeliveryResponseDtoEvent", {"correlationId", "status"}),
        ("DeliveryRequestDtoEvent", {"correlationId", "order"}),
    ],
)
def test_nothing_that_it_does_not_know_is_required(schema: str, known: set[str]) -> None:
    told = json.loads((SCHEMAS / f"{schema}.json").read_text())
    assert set(told["required"]) <= known
    options = told.get("$defs", {}).get("DeliveryOptions", {})
    assert options.get("required", []) == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"correlationId": "c", "status": "DELIVERED", "url": "u", "md5": "m"}',
        b'{"correlationId": "c", "status": "DONE", "url": {"s3": "u"}, "md5": "m"}',
        b'{"correlationId": "c", "status": "DONE", "url": "u", "md5": null}',
        b'{"correlationId": "c", "status": "DONE", "url": "u"}',
        b'{"correlationId": "c", "status": "ERROR", "errorType": "TOO_LATE", "message": "m"}',
        b'{"correlationId": "c", "status": "GRANTED", "status": "DONE"}',
        b'{"correlationId": "c", "status": "GRANTED", "size": NaN}',
        b"[]",
    ],
)
def test_what_it_can_not_read_is_found(body: bytes) -> None:
    """The reader itself: else the tests above would say nothing."""
    with pytest.raises(GsonError):
        read_response(body)
