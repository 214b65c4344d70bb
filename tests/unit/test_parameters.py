"""What a query string says, by the model of an endpoint."""

from __future__ import annotations

from typing import Annotated

import pytest
from aiohttp.test_utils import make_mocked_request
from pydantic import Field

from app.delivery.states import State
from app.errors import InvalidRequestError
from app.views.deliveries import Filter
from web.parameters import Whole, read


class PageQuery(Filter):
    size: Annotated[int, Whole(1, 500)] = Field(50, description="Entries at most.")


def asked(query: str, **more: set[str]) -> PageQuery:
    return read(make_mocked_request("GET", f"/deliveries?{query}"), PageQuery, **more)


def test_a_list_takes_every_value_and_any_other_parameter_the_first() -> None:
    found = asked("state=DONE&state=ERROR&user=a&user=b&size=7&size=8")
    assert found.states == [State.DONE, State.ERROR]
    assert (found.user, found.size) == ("a", 7)


def test_an_unknown_parameter_is_ignored() -> None:
    """Also what the code calls it."""
    assert asked("states=LOST&unknown=1") == PageQuery()


@pytest.mark.parametrize("size", ["", "0", "501", "1.0", "1_0", "%C2%B2", "x", "9" * 20])
def test_a_number_has_bounds_and_nothing_but_digits(size: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^size must be a number from 1 to 500$"):
        asked(f"size={size}")


def test_a_parameter_that_is_not_read_cannot_be_wrong() -> None:
    assert asked("user=%00&text=t", without={"user"}) == PageQuery(text="t")
