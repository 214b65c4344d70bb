"""Whose an object is, by its metadata."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from app.delivery.marks import Whose, marks_of, whose
from tests.builders import make_transfer

ALICES = make_transfer(tenant="sentinel", user="alice@example.org")
MARKS = marks_of(ALICES)


@pytest.mark.parametrize(
    ("found", "owner"),
    [
        (MARKS, Whose.ITS_OWN),
        (MARKS | {"more": "by hand"}, Whose.ITS_OWN),
        (marks_of(replace(ALICES, id=uuid4())), Whose.ITS_USERS),
        (marks_of(replace(ALICES, user="mallory@example.org")), Whose.ANOTHER_USERS),
        (marks_of(replace(ALICES, tenant="swot")), Whose.ANOTHER_TENANTS),
        (marks_of(replace(ALICES, tenant="swot", user="x")), Whose.ANOTHER_TENANTS),
        ({}, Whose.UNKNOWN),
        ({"author": "somebody"}, Whose.UNKNOWN),
    ],
)
def test_an_object_belongs_to_a_tenant_and_a_user(found: dict[str, str], owner: Whose) -> None:
    assert whose(found, MARKS) is owner


@pytest.mark.parametrize("gone", MARKS)
def test_an_object_with_incomplete_marks_is_not_replaced(gone: str) -> None:
    """But for the delivery's id: tenant and user decide whether it may be replaced."""
    found = {name: value for name, value in MARKS.items() if name != gone}
    kept = whose(found, MARKS) in (Whose.ANOTHER_TENANTS, Whose.ANOTHER_USERS)
    assert kept or gone == "rs-delivery-id"
