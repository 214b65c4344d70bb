"""Whatever arrives is understood or refused with a reason: no third way out."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import pytest
from aio_pika.abc import AbstractIncomingMessage
from hypothesis import example, given
from hypothesis import strategies as st

from app.delivery.ingress import ArrivalKind
from app.delivery.requests import parse_request
from app.errors import InvalidRequestError, UnreadableMessageError
from streams.amqp.messages import read
from streams.events import CancelRequested, OrderProgressed, RequestReceived


@dataclass
class Message:
    """What the decoder reads of a message."""

    body: bytes
    headers: dict[str, Any] = field(default_factory=lambda: {"regards.tenant": "t"})
    message_id: str | None = None
    timestamp: datetime | None = None
    app_id: str | None = None
    priority: int | None = None
    redelivered: bool | None = None

    def arrived(self) -> AbstractIncomingMessage:
        return cast("AbstractIncomingMessage", self)


@pytest.mark.parametrize("message_id", [None, "m-1"])
@pytest.mark.parametrize("redelivered", [False, True])
def test_a_message_may_be_a_repeat_if_rabbitmq_says_so_or_if_it_has_an_id(
    message_id: str | None, redelivered: bool
) -> None:
    """RabbitMQ forgets what it has delivered when it restarts; the id is still the same."""
    message = Message(b'{"correlationId": "c"}', message_id=message_id, redelivered=redelivered)
    assert read(message.arrived(), ArrivalKind.REQUEST).ingress.redelivered == (
        redelivered or message_id is not None
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def requests() -> st.SearchStrategy[dict[str, Any]]:
    """Something like a request: each field may be right, wrong or missing."""
    filters = st.fixed_dictionaries(
        {},
        optional={
            "dataTypes": st.lists(st.sampled_from(["RAWDATA", "QUICKLOOK", "X", 1])) | values,
            "filenameRegExp": values,
        },
    )
    order = st.fixed_dictionaries(
        {},
        optional={
            "user": st.text() | values,
            "queries": st.lists(st.text()) | values,
            "filters": filters | values,
        },
    )
    return st.fixed_dictionaries(
        {"correlationId": st.text(min_size=1) | values},
        optional={"order": order | values, "targetDelivery": values, "x": values},
    )


bodies = st.one_of(
    st.binary(),
    values.map(lambda value: json.dumps(value).encode()),
    requests().map(lambda value: json.dumps(value).encode()),
)


@given(body=bodies, tenant=values, app_id=st.none() | st.text(), priority=st.integers(0, 255))
@example(body=b'{"correlationId":"\\ud800"}', tenant="t", app_id=None, priority=0)
@example(body=b"[" * 100_000, tenant="t", app_id=None, priority=0)
@example(body=b'{"correlationId":"c","x":1e999}', tenant="t", app_id=None, priority=0)
@example(body=b'{"correlationId":"c","x":' + b"9" * 5000 + b"}", tenant="t", app_id="", priority=0)
def test_a_request_is_carried_whole_or_refused(
    body: bytes, tenant: Any, app_id: str | None, priority: int
) -> None:
    message = Message(body, headers={"regards.tenant": tenant}, app_id=app_id, priority=priority)
    try:
        received = RequestReceived.read(read(message.arrived(), ArrivalKind.REQUEST))
    except UnreadableMessageError as error:
        assert str(error)
        return
    assert received.body == json.loads(body)
    assert received.message.correlation_id.strip()
    assert 1 <= received.message.priority <= 255
    assert RequestReceived.decode(received.encode()) == received
    with contextlib.suppress(InvalidRequestError):
        request = parse_request(received.body, delivery_id=received.ingress_id, tenant="t")
        assert request.target.strip()
        assert request.order["queries"] == received.body["order"]["queries"]


statuses = st.sampled_from(["GRANTED", "DENIED", "SUBORDER_DONE", "DONE", "FAILED"])


@given(
    body=st.fixed_dictionaries(
        {"correlationId": st.text(min_size=1) | values, "status": statuses | values},
        optional=dict.fromkeys(
            ["orderId", "errors", "totalSubOrders", "subOrderId"], st.integers() | values
        )
        | dict.fromkeys(["message", "errorType", "errorCode", "downloadLink"], values),
    )
)
def test_an_order_event_is_carried_whole_or_refused(body: dict[str, Any]) -> None:
    try:
        event = OrderProgressed.read(
            read(Message(json.dumps(body).encode()).arrived(), ArrivalKind.ORDER_EVENT)
        )
    except UnreadableMessageError as error:
        assert str(error)
        return
    assert (event.status, event.correlation_id) == (body["status"], body["correlationId"])
    assert event.errors == (body.get("errors") or 0)
    assert OrderProgressed.decode(event.encode()) == event


@given(value=st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_an_event_on_kafka_that_is_none_is_refused(value: bytes) -> None:
    for model in (RequestReceived, OrderProgressed, CancelRequested):
        with contextlib.suppress(UnreadableMessageError):
            model.decode(value)
