"""The rules of a delivery request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.delivery.formats import FORMATS
from app.delivery.ingress import DeliveryRequest
from app.delivery.requests import parse_request
from app.errors import InvalidRequestError

GOOD: dict[str, Any] = {
    "correlationId": "c",
    "order": {"user": "u@x.org", "queries": ["*:*"], "filters": {"dataTypes": ["RAWDATA"]}},
}


def parse(body: dict[str, Any], *, origin_app: str | None = None) -> DeliveryRequest:
    return parse_request(body, delivery_id=UUID(int=1), tenant="t", origin_app=origin_app)


def broken(body: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(InvalidRequestError) as raised:
        parse(body)
    return raised.value.reasons


def test_a_good_request_is_passed_on_as_it_came() -> None:
    request = parse(GOOD | {"unknown": 1})
    assert request.order == GOOD["order"]
    assert request.user == "u@x.org"


@pytest.mark.parametrize(
    ("origin_app", "user", "asks"),
    [("app", "u@x.org", "app"), (None, "u@x.org", "u@x.org"), (None, f"{'€' * 100}@x.org", None)],
)
def test_unless_an_application_asks_the_ordering_user_does(
    origin_app: str | None, user: str, asks: str | None
) -> None:
    """One that fits no property of an answer is not named in it."""
    body = GOOD | {"order": GOOD["order"] | {"user": user}}
    assert parse(body, origin_app=origin_app).origin_app == asks


@pytest.mark.parametrize("target", [None, "", "  "])
def test_no_target_means_the_default(target: str | None) -> None:
    assert parse(GOOD | {"targetDelivery": target}).target == "regards-s3-minio"


def test_a_target_with_an_impossible_name_is_refused() -> None:
    assert parse(GOOD | {"targetDelivery": "t" * 255}).target == "t" * 255
    assert broken(GOOD | {"targetDelivery": "t" * 256}) == (
        "targetDelivery must not be longer than 255 characters",
    )


@pytest.mark.parametrize(
    "options", [{}, {"delivery": None}, {"delivery": {}}, {"delivery": {"format": None, "new": 1}}]
)
def test_a_request_that_chooses_no_format_leaves_it_to_its_tenant(options: dict[str, Any]) -> None:
    assert parse(GOOD | options).format is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_request_chooses_its_format(name: str) -> None:
    assert parse(GOOD | {"delivery": {"format": name}}).format == name


@pytest.mark.parametrize("name", ["", "ZIP", "cab", " zip", "{0}"])
def test_a_format_that_is_not_made_is_refused(name: str) -> None:
    (reason,) = broken(GOOD | {"delivery": {"format": name}})
    assert reason.startswith("delivery.format must be zip")
    assert reason.endswith(f"; {name} is not a format this version makes")


def test_a_request_chooses_where_its_archive_goes() -> None:
    asked = parse(GOOD | {"delivery": {"archiveName": "{date}", "prefix": "a/{user}"}})
    assert (asked.archive_template, asked.prefix_template) == ("{date}", "a/{user}")
    none = parse(GOOD | {"delivery": {"archiveName": "", "prefix": ""}})
    assert (none.archive_template, none.prefix_template) == ("", "")
    silent = parse(GOOD)
    assert (silent.archive_template, silent.prefix_template) == (None, None)


def test_templates_that_are_none_are_refused_by_their_names() -> None:
    assert broken(GOOD | {"delivery": {"archiveName": "{x}", "prefix": "a//b"}}) == (
        (
            "delivery.archiveName has {x}, which stands for nothing; there are {correlationId}, "
            "{productId}, {version}, {user} and {date}"
        ),
        "delivery.prefix must have no / at its ends, and no empty part, . or .. between slashes",
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [("zip", "delivery must be an object"), ({"format": 1}, "delivery.format must be a text")],
)
def test_options_of_another_type_are_refused(options: object, reason: str) -> None:
    assert broken(GOOD | {"delivery": options}) == (reason,)


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
        ({"user": ".", "queries": ["x"]}, "order.user must not be . or .."),
        ({"user": "..", "queries": ["x"]}, "order.user must not be . or .."),
        (
            {"user": "u", "queries": ["x"], "filters": {}},
            "order.filters.dataTypes is missing",
        ),
        (
            {"user": "u", "queries": ["x"], "filters": {"dataTypes": []}},
            "order.filters.dataTypes must have at least one entry",
        ),
        (5, "order must be an object"),
        (
            {"user": "u", "queries": ["x"] * 1001},
            "order.queries must not have more than 1000 entries",
        ),
        (
            {"user": "u", "queries": ["x", "x" * 10_001]},
            "order.queries.1 must not be longer than 10000 characters",
        ),
    ],
)
def test_each_rule_of_the_order_is_named(order: object, violation: str) -> None:
    assert broken({"correlationId": "c", "order": order}) == (violation,)


def test_a_list_that_is_too_long_is_one_broken_rule() -> None:
    """A body of half a megabyte holds 262,000 wrong entries: 16 MB of words."""
    filters = {"dataTypes": [1] * 262_000}
    order = {"user": "u", "queries": [1] * 262_000, "filters": filters}
    assert broken({"correlationId": "c", "order": order}) == (
        "order.queries must not have more than 1000 entries",
        "order.filters.dataTypes must not have more than 100 entries",
    )


def test_the_first_of_many_broken_rules_are_named_and_the_rest_counted() -> None:
    reasons = broken({"correlationId": "c", "order": {"user": "u", "queries": [1] * 1000}})
    assert reasons[:2] == ("order.queries.0 must be a text", "order.queries.1 must be a text")
    assert (len(reasons), reasons[-1]) == (21, "and 980 more")


def test_the_largest_allowed_request_is_taken() -> None:
    order = {"user": "u", "queries": ["x" * 10_000] * 1000}
    assert parse({"correlationId": "c", "order": order}).order == order


@pytest.mark.parametrize("options", [{}, {"labels": None}, {"labels": []}])
def test_a_request_needs_no_labels(options: dict[str, Any]) -> None:
    assert parse(GOOD | {"delivery": options}).labels == ()


def test_a_request_may_have_ten_labels() -> None:
    labels = ["été 2026", "x" * 64, *(f"{number}" for number in range(8))]
    assert parse(GOOD | {"delivery": {"labels": labels}}).labels == tuple(labels)


PLAIN = "must be printable, without a comma, or a space at its ends"
SEEN = "must be what can be seen, in the form NFC of Unicode"


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("a", "delivery.labels must be a list"),
        ([1], "delivery.labels.0 must be a text"),
        ([""], "delivery.labels.0 must not be empty"),
        (["x" * 65], "delivery.labels.0 must not be longer than 64 characters"),
        ([" a"], f"delivery.labels.0 {PLAIN}"),
        (["a\nb"], f"delivery.labels.0 {PLAIN}"),
        (["a, b"], f"delivery.labels.0 {PLAIN}"),
        (["e\u0301te"], f"delivery.labels.0 {SEEN}"),
        (["\u2800"], f"delivery.labels.0 {SEEN}"),
        (["\u0301"], f"delivery.labels.0 {SEEN}"),
        (["a", "b", "a"], "delivery.labels must not have the same one twice"),
        ([f"{n}" for n in range(11)], "delivery.labels must not have more than 10 entries"),
    ],
)
def test_wrong_labels_are_refused(labels: object, reason: str) -> None:
    assert broken(GOOD | {"delivery": {"labels": labels}}) == (reason,)


@pytest.mark.parametrize("partial", ["yes", 1, [], {}])
def test_what_is_no_yes_or_no_is_told_what_it_must_be(partial: object) -> None:
    reasons = broken(GOOD | {"delivery": {"partial": partial}})
    assert reasons == ("delivery.partial must be true or false",)


@pytest.mark.parametrize(
    "deadline",
    ["2026-01-31T12:00:00Z", "2026-01-31T13:30:00+01:30", "2026-01-31t12:00:00.000z"],
)
def test_a_deadline_is_a_moment(deadline: str) -> None:
    asked = parse(GOOD | {"delivery": {"deadline": deadline}}).deadline
    assert asked == datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "deadline",
    [
        *("tomorrow", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T12:00:00Z", ""),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00", "2026-01-31T12:00Z"),
        *(1769860800, ["2026-01-31T12:00:00Z"], "٢٠٢٦-01-31T12:00:00Z"),
    ],
)
def test_what_is_no_moment_is_no_deadline(deadline: object) -> None:
    assert broken(GOOD | {"delivery": {"deadline": deadline}}) == (
        "delivery.deadline must be a time with its zone, such as 2026-01-31T12:00:00Z",
    )
