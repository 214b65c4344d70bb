"""The rules of a delivery request."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.requests import parse_request

GOOD: dict[str, Any] = {
    "correlationId": "c",
    "order": {"user": "u@x.org", "queries": ["*:*"], "filters": {"dataTypes": ["RAWDATA"]}},
}


def broken(body: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(InvalidRequestError) as raised:
        parse_request(body)
    return raised.value.reasons


def test_a_good_request_is_passed_on_as_it_came() -> None:
    request = parse_request(GOOD | {"unknown": 1})
    assert request.order == GOOD["order"]
    assert request.user == "u@x.org"


@pytest.mark.parametrize("target", [None, "", "  "])
def test_no_target_means_the_default(target: str | None) -> None:
    assert parse_request(GOOD | {"targetDelivery": target}).target == "regards-s3-minio"


def test_every_broken_rule_is_named() -> None:
    assert broken({"correlationId": "c" * 256, "targetDelivery": 5, "order": {"user": " "}}) == (
        "correlationId must not be longer than 255 characters",
        "targetDelivery must be a text",
        "order.user must not be blank",
        "order.queries is missing",
    )


@pytest.mark.parametrize(
    ("order", "violation"),
    [
        ({"user": "u", "queries": []}, "order.queries must have at least one entry"),
        ({"user": "u", "queries": "x"}, "order.queries must be a list"),
        ({"user": "u", "queries": [1]}, "order.queries.0 must be a text"),
        ({"user": 1, "queries": ["x"]}, "order.user must be a text"),
        (
            {"user": "u", "queries": ["x"], "filters": {}},
            "order.filters.dataTypes is missing",
        ),
        (
            {"user": "u", "queries": ["x"], "filters": {"dataTypes": []}},
            "order.filters.dataTypes must have at least one entry",
        ),
        (5, "order must be an object"),
    ],
)
def test_a_rule_of_the_order(order: object, violation: str) -> None:
    assert broken({"correlationId": "c", "order": order}) == (violation,)
