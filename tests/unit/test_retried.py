"""How often an order is retried for files that are gone."""

from __future__ import annotations

from dataclasses import replace

from app.delivery.model import Delivery
from app.errors import SourceGoneError
from app.usecases.retried import next_retry
from tests.builders import make_delivery


def retries_for_all(delivery: Delivery, files: int) -> int:
    """Return how many retries there are where no file ever comes again."""
    count = 0
    for position in range(files):
        error = SourceGoneError("410", position=position)
        while (number := next_retry(delivery, error)) is not None:
            count += 1
            delivery = replace(delivery, retries=number, retried_for=position)
        if not delivery.partial:
            break
    return count


def test_an_order_is_retried_five_times_for_one_file() -> None:
    assert retries_for_all(make_delivery(), files=9) == 5


def test_what_stays_away_costs_a_partial_delivery_one_retry_a_file_from_then_on() -> None:
    """Each takes half a minute or more, and a thousand files may be gone."""
    assert retries_for_all(make_delivery(partial=True), files=1000) == 5 + 999


def test_retries_are_counted_from_the_first_again_where_the_archive_goes_on() -> None:
    for partial in (False, True):
        delivery = make_delivery(partial=partial, retries=4, retried_for=3)
        assert next_retry(delivery, SourceGoneError("410", position=4)) == 1
        assert next_retry(delivery, SourceGoneError("410", position=2)) == 5
