"""Views: JSON and schema of one class. Queries: parameters, and what is said of wrong ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import Field, ValidationError

from app.delivery.states import State
from app.errors import InvalidRequestError
from app.views.deliveries import Filter
from app.views.view import Milliseconds, View
from web import schemas

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class ThingView(View):
    at_noon: Milliseconds
    may_be_null: str | None
    may_be_missing: str | None = Field(None, description="Sometimes.")
    any_json: dict[str, Any]
    state: State | None = None


def test_a_none_that_is_the_default_is_left_out() -> None:
    thing = ThingView(at_noon=NOON, may_be_null=None, any_json={"kept": None})
    assert thing.body() == {
        "atNoon": "2026-01-31T12:00:00.000+00:00",
        "mayBeNull": None,
        "anyJson": {"kept": None},
    }


def test_a_value_of_others_is_shown_as_it_is() -> None:
    sent = {"\ud800": ["\udfff", {"\ud801": None}], "large": 2**80}
    thing = ThingView(at_noon=NOON, may_be_null="\ud800", any_json=sent)
    assert thing.body()["anyJson"] == sent
    assert thing.body()["mayBeNull"] == "\ud800"


def test_the_schema_says_the_same() -> None:
    found = schemas.of_models([ThingView], [])
    assert found["State"] == {"type": "string", "enum": [*State]}
    assert found["Thing"] == {
        "type": "object",
        "required": ["atNoon", "mayBeNull", "anyJson"],
        "properties": {
            "atNoon": {"type": "string", "format": "date-time"},
            "mayBeNull": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "mayBeMissing": {"type": "string", "description": "Sometimes."},
            "anyJson": {"type": "object", "additionalProperties": True},
            "state": {"$ref": "#/components/schemas/State"},
        },
    }


def test_a_view_has_no_field_that_its_class_has_not() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        ThingView.model_validate_json(
            '{"atNoon": "2026-01-31T12:00:00Z", "mayBeNull": null, "anyJson": {}, "more": 1}'
        )


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"state": ["LOST"]}, f"state must be one of {', '.join(State)}"),
        ({"since": "noon"}, "since must be a time such as 2026-01-31T12:00:00Z"),
        ({"user": "\0"}, "user must be without control characters, of at most 300 characters"),
        ({"text": "x" * 301}, "text must be without control characters, of at most 300 characters"),
        ({"until": "?", "since": "?"}, "since must be a time such as 2026-01-31T12:00:00Z"),
    ],
)
def test_a_wrong_parameter_is_told_and_of_several_the_first(given: Any, what: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        Filter.read(given)
    assert refused.value.reasons == (what,)


def test_an_empty_parameter_is_none() -> None:
    assert Filter.read({"user": "", "since": "", "text": ""}) == Filter()


def test_a_time_without_a_zone_is_utc() -> None:
    assert Filter.read({"since": "2026-01-31T12:00:00"}).since == NOON
