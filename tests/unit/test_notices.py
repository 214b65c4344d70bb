"""Operators are told what they must act on: once in a while, and never what passes by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from app.delivery.messages import NotificationEvent
from app.delivery.notices import Notice, of_dead_letters, of_error, silent
from app.delivery.ports import DeliveryStore, Leases, OrderSource
from app.errors import (
    BrokerUnavailableError,
    DeliveryError,
    NoLinkError,
    ObjectGoneError,
    SourceCredentialsError,
    SourceUnavailableError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
    WrongFileError,
)
from app.settings import Settings
from app.usecases.notices import Notices
from app.usecases.settle import Settlement
from app.waiting.backoff import Backoff
from streams.amqp.names import EXCHANGES
from streams.amqp.notices import encode
from streams.amqp.rights import needed
from streams.channels import NOTICES
from tests.builders import Clock, make_delivery

_NOTICE = Notice(tenant="t", about="target far", title="Target far refuses", message="no bucket")


class Published:
    """What is published, and whether RabbitMQ is there."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.away = False

    async def publish(self, notice: Notice) -> None:
        if self.away:
            raise BrokerUnavailableError("away")
        self.notices.append(notice)


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_thing_is_told_once_in_its_time_and_other_things_and_tenants_beside_it() -> None:
    published, clock = Published(), Clock(0.0)
    notices = Notices(published.publish, interval=60, clock=clock)
    for _ in range(100):
        notices.tell(_NOTICE)
        notices.tell(replace(_NOTICE, message="again"))
        notices.tell(replace(_NOTICE, about="rs-order"))
        notices.tell(replace(_NOTICE, tenant="u"))
    await _turns()
    assert [(notice.tenant, notice.about) for notice in published.notices] == [
        ("t", "target far"),
        ("t", "rs-order"),
        ("u", "target far"),
    ]
    clock.now = 60
    notices.tell(_NOTICE)
    await _turns()
    assert len(published.notices) == 4


async def test_what_was_not_published_is_tried_again_once_a_minute() -> None:
    published, clock = Published(), Clock(0.0)
    notices = Notices(published.publish, interval=3600, clock=clock)
    published.away = True
    with capture_logs() as logs:
        notices.tell(_NOTICE)
        await _turns()
        notices.tell(_NOTICE)
        await _turns()
    assert [line["event"] for line in logs] == ["operators_not_told"]
    published.away = False
    clock.now = 60
    notices.tell(_NOTICE)
    await _turns()
    assert published.notices == [_NOTICE]


async def test_a_notice_that_rabbitmq_does_not_confirm_does_not_keep_a_worker_from_stopping() -> (
    None
):
    async def publish(_notice: Notice) -> None:
        await asyncio.Event().wait()

    notices = Notices(publish, interval=60)
    notices.tell(_NOTICE)
    await _turns()
    await notices.close()


@pytest.mark.parametrize(
    ("error", "about"),
    [
        (TargetRefusedError("no bucket"), "target far"),
        (TargetForbiddenError("not there"), "target far"),
        (SourceCredentialsError("401"), "rs-order"),
        (SourceUnavailableError("503"), None),
        (TargetUnavailableError("503"), None),
        (NoLinkError("none"), None),
        (ObjectGoneError("gone"), None),
        (WrongFileError("wrong"), None),
    ],
)
def test_operators_hear_of_what_does_not_pass_by_itself(
    error: DeliveryError, about: str | None
) -> None:
    notice = of_error(make_delivery(tenant="t", target="far", correlation_id="d-1"), error)
    assert (notice and notice.about) == about
    if notice is not None:
        assert notice.tenant == "t"
        assert "d-1" in notice.message
        assert str(error) in notice.message


def test_dead_letters_are_told_by_their_queues_and_none_are_not() -> None:
    assert of_dead_letters("t", {"a": 0}) is None
    notice = of_dead_letters("t", {"b": 2, "a": 0, "c": 1})
    assert notice is not None
    assert "2 in b, 1 in c" in notice.message


async def test_what_settles_a_delivery_tells_operators() -> None:
    told: list[Notice] = []
    leases: Any = _Released()
    settlement = Settlement(
        store=cast("DeliveryStore", None),
        leases=cast("Leases", leases),
        backoff=Backoff(first=1, longest=1),
        attempts=1,
        source=cast("OrderSource", None),
        tell=told.append,
    )
    await settlement.settle(make_delivery(), SourceCredentialsError("rs-order answered 401"))
    await settlement.settle(make_delivery(), SourceUnavailableError("rs-order answered 503"))
    assert [notice.about for notice in told] == ["rs-order"]
    assert leases.released == 2


class _Released:
    released = 0

    async def release(self, *_: Any, **__: Any) -> None:
        self.released += 1


def test_a_notice_has_the_form_of_regards() -> None:
    message = encode(_NOTICE, ["EXPLOIT", "PROJECT_ADMIN"])
    java = "fr.cnes.regards.framework.amqp.event.notification.NotificationEvent"
    assert NOTICES.exchange.name == f"regards.broadcast.{java}"
    assert message.headers == {
        "regards.tenant": "t",
        "regards.converter": "GSON",
        "__TypeId__": java,
        "regards.type": java,
    }
    event = NotificationEvent.model_validate_json(message.body)
    assert event.body() == {
        "message": "no bucket",
        "title": "Target far refuses",
        "sender": "rs-delivery",
        "level": "ERROR",
        "roleRecipients": ["EXPLOIT", "PROJECT_ADMIN"],
        "projectUserRecipients": [],
        "mimeType": "text/plain",
    }


def test_nothing_is_told_by_default() -> None:
    assert Settings(tenants=("t",)).notice_roles == ()
    assert NOTICES.exchange.name not in EXCHANGES
    silent(_NOTICE)


@pytest.mark.parametrize("declares", [True, False])
def test_rights_are_those_for_its_exchange_too_where_operators_are_told(declares: bool) -> None:
    exchange = NOTICES.exchange.name
    told, silence = (needed(declares=declares, notices=notices) for notices in (True, False))
    assert exchange in told.write
    assert (exchange in told.configure) is declares
    assert exchange not in {*silence.write, *silence.configure, *told.read}
