"""Events that another version has made: what is read of them, and what is not."""

from __future__ import annotations

import json

import pytest

from app.delivery.orders import OrderStatus
from app.errors import UnreadableMessageError
from streams.events import OrderProgressed, TransferProgressed
from tests.builders import make_progress


def test_fields_that_a_later_version_has_added_are_passed_over() -> None:
    event = TransferProgressed.of(make_progress())
    later = json.loads(event.encode()) | {"archive": {"parts": 7}}
    assert TransferProgressed.decode(json.dumps(later).encode()) == event


def test_an_earlier_version_does_not_name_the_suborder_of_an_order_event() -> None:
    event = OrderProgressed(
        tenant="t", correlation_id="c", status=OrderStatus.SUBORDER_DONE, order_id=7, suborder_id=3
    )
    earlier = json.loads(event.encode())
    assert earlier.pop("suborderId") == 3
    read = OrderProgressed.decode(json.dumps(earlier).encode()).order_event
    assert (read.order_id, read.suborder_id) == (7, None)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (OrderProgressed(tenant="t", correlation_id="c", status=OrderStatus.DONE), "status"),
        (TransferProgressed.of(make_progress()), "phase"),
    ],
)
def test_a_word_that_a_later_version_alone_knows_is_unreadable_and_named(
    event: OrderProgressed | TransferProgressed, field: str
) -> None:
    """An agent makes a dead letter of it, which is put back once all know the word."""
    later = json.loads(event.encode()) | {field: "OF_A_LATER_VERSION"}
    with pytest.raises(UnreadableMessageError, match=f"{type(event).__name__}: {field}: "):
        type(event).decode(json.dumps(later).encode())
