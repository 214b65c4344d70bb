"""The consumer of docs/webhooks.md, as it is printed there, before events that are really sent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from app.delivery.webhooks import Answer, DeliveryEvent, Webhook, ping
from app.encoding import dumps
from app.network.callbacks import Callbacks
from app.network.hosts import AllowedHosts
from compose.embedded.stack import ROOT, TENANT
from streams.webhooks.sender import HttpWebhooks
from streams.webhooks.signature import signed
from tests.servers import serving_application

_SECRET = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw"
_OTHER = "whsec_MTExMTExMTExMTExMTExMTExMTExMTEx"


def _sample() -> str:
    """Return the code of the document."""
    text = (ROOT / "docs" / "webhooks.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(code)


@pytest.fixture
async def url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Where the sample hears, with its secret in its environment."""
    monkeypatch.setenv("WEBHOOK_SECRET", _SECRET)
    sample: dict[str, Any] = {"__name__": "sample"}
    exec(compile(_sample(), "docs/webhooks.md", "exec"), sample)  # noqa: S102 - our own
    async with serving_application(sample["app"]) as port:
        yield f"http://127.0.0.1:{port}/hooks/delivery"


def _event() -> DeliveryEvent:
    name = uuid4()
    return DeliveryEvent(
        id=name,
        type="done",
        tenant=TENANT,
        delivery_id=name,
        correlation_id="d-é",
        data={"status": "DONE", "url": "s3://bucket/d/a.zip"},
    )


async def _send(url: str, *events: DeliveryEvent, secrets: tuple[str, ...]) -> list[Answer]:
    hook = Webhook(tenant=TENANT, name="ops", url=url, secrets=secrets)
    sender = HttpWebhooks(Callbacks(hosts=AllowedHosts.of(["127.0.0.0/8"])))
    async with sender.to(hook) as post:
        return [await post(event, datetime.now(UTC)) for event in events]


async def test_the_documented_consumer_takes_each_event_and_works_on_it_once(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = _event(), replace(_event(), type="error")
    answers = await _send(url, first, second, first, ping(TENANT), secrets=(_SECRET,))
    assert [(answer.taken, answer.status) for answer in answers] == [(True, 204)] * 4
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rpartition(".")[2] for line in printed] == ["done", "error", "ping"]
    assert printed[0].split()[1] == "d-é"
    assert "s3://bucket/d/a.zip" in printed[0]


@pytest.mark.parametrize("secrets", [(_OTHER, _SECRET), (_SECRET, _OTHER)])
async def test_the_documented_consumer_takes_events_while_secrets_change(
    url: str, secrets: tuple[str, ...]
) -> None:
    (answer,) = await _send(url, _event(), secrets=secrets)
    assert answer.taken


async def test_the_documented_consumer_refuses_what_is_not_signed_with_its_secret(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (answer,) = await _send(url, _event(), secrets=(_OTHER,))
    assert (answer.taken, answer.status) == (False, 401)
    body = dumps(_event().cloud_event(datetime.now(UTC)))
    now = int(datetime.now(UTC).timestamp())
    good = signed([_SECRET], message_id="m", at=now, body=body)
    old = signed([_SECRET], message_id="m", at=now - 3600, body=body)  # sent again by a stranger
    async with aiohttp.ClientSession() as session:
        for headers, sent in (
            ({}, body),
            (good, body + b" "),
            (good | {"webhook-id": "n"}, body),
            (old, body),
        ):
            async with session.post(url, data=sent, headers=headers) as response:
                assert response.status == 401
        async with session.post(url, data=body, headers=good) as response:
            assert response.status == 204
    assert len(capsys.readouterr().out.splitlines()) == 1
