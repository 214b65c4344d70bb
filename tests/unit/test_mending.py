"""What takes the place of a body is of the same tenant, whether it can be read or not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.settings import Settings
from app.views.dead_letters import KeptLetter, LetterKind
from streams.channels import CANCELS, REQUESTS
from streams.kafka.topics import Topics
from streams.operators.mending import check_mend
from tests.builders import GivenTenants, make_buried

TOPICS = Topics(prefix="")
AT = datetime(2026, 3, 1, tzinfo=UTC)
MESSAGE = make_buried("amqp:requests:x", origin=REQUESTS.queue.name, properties=b"\0\0")
EVENT = make_buried("event:x", kind=LetterKind.EVENT, origin=TOPICS.of(CANCELS), key=b"sentinel/c")


def check(letter: Any, **changes: Any) -> None:
    """Check a forced mend of the administrator of `sentinel`."""
    asked: dict[str, Any] = {"body": b"no json {", "tenant": None, "whose": "sentinel"} | changes
    check_mend(
        KeptLetter(number=1, letter=letter, buried_at=AT),
        tenants=GivenTenants(Settings(tenants=("sentinel", "swot"))),
        topics=TOPICS,
        max_bytes=1000,
        forced=True,
        **asked,
    )


@pytest.mark.parametrize("body", [b"no json {", b"\xff", b"x" * 1001, b"[]"])
def test_a_body_that_cannot_be_read_is_made_no_other_tenants(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="of another tenant than sentinel"):
        check(MESSAGE, body=body, tenant="swot")
    check(MESSAGE, body=body, tenant="sentinel")
    check(MESSAGE, body=body)
    check(MESSAGE, body=body, tenant="swot", whose=None)


def test_an_event_that_cannot_be_read_stays_its_tenants() -> None:
    check(EVENT)
    with pytest.raises(InvalidRequestError, match="of another tenant than swot"):
        check(EVENT, whose="swot")
