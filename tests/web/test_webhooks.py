"""`/webhooks`: set and shown without secrets, tried, and sent again what was given up."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import standardwebhooks
from aiohttp import web

from app.delivery.webhooks import DeliveryEvent, Round
from app.run.wiring.tenants import ConfigurationParts
from app.settings import Settings
from app.tenants.masks import MASK
from tests.integration.conftest import Deliveries
from tests.servers import serving
from tests.web.conftest import TENANT, Api, MakeClient, parts_for, serve

_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


@pytest.fixture
def web_settings(web_settings: Settings) -> Settings:
    return web_settings.model_copy(update={"webhook_allowed_hosts": ("127.0.0.1/32",)})


@pytest.fixture
async def hooks(configuration: ConfigurationParts, aiohttp_client: MakeClient) -> Api:
    return await serve(aiohttp_client, parts_for(configuration))


def _value(port: int = 9, **more: Any) -> dict[str, Any]:
    return {"ops": {"url": f"http://127.0.0.1:{port}/", "secret": _SECRET, **more}}


async def _bury(deliveries: Deliveries, configuration: ConfigurationParts, count: int) -> list[str]:
    events = []
    for _ in range(count):
        name = uuid4()
        event = DeliveryEvent(
            id=name, type="done", tenant=TENANT, delivery_id=name, correlation_id="c", data={}
        )
        events.append(str(name))
        async with deliveries.store.transaction() as tx:
            await tx.tell(event)
    outbox = deliveries.webhooks()
    claim = await outbox.claim([*configuration.tenants.webhooks()], limit=9)
    assert claim is not None
    done = Round(failure="it answered 410", gone=True)
    await outbox.release(claim, done, given_up_after=timedelta(days=3))
    return events


async def test_a_webhook_is_set_shown_without_its_secret_and_kept_by_its_mask(
    hooks: Api, configuration: ConfigurationParts
) -> None:
    assert (await hooks.put("webhooks", _value())).status == 200
    shown = await hooks.value("webhooks")
    assert shown["ops"]["secret"] == MASK
    stored = await configuration.pool.fetchval(
        "SELECT value::text FROM tenant_setting WHERE name = 'webhooks'"
    )
    assert _SECRET not in stored
    shown["ops"]["events"] = ["done"]
    assert (await hooks.put("webhooks", shown)).status == 200
    (webhook,) = configuration.tenants.webhooks()
    assert (webhook.secrets, webhook.events) == ((_SECRET,), frozenset({"done"}))
    listed = await (await hooks.call("GET", "/webhooks")).json()
    assert listed == {
        "content": [
            {
                "name": "ops",
                "url": "http://127.0.0.1:9/",
                "state": "OK",
                "events": ["done"],
                "owed": 0,
                "dead": 0,
            }
        ]
    }
    refused = await hooks.put("webhooks", {"ops": {"url": "https://169.254.169.254/"}})
    assert refused.status == 422
    audit = await (await hooks.call("GET", "/audit")).text()
    assert _SECRET not in audit


async def test_a_url_is_shown_whole_to_who_may_set_it_alone(hooks: Api) -> None:
    value = _value()
    value["ops"]["url"] += "services/T1/very-secret?token=very-secret"
    assert (await hooks.put("webhooks", value)).status == 200
    assert (await hooks.value("webhooks"))["ops"]["url"] == value["ops"]["url"]
    assert (await hooks.call("POST", "/webhooks/ops/test")).status == 200
    assert (await hooks.call("POST", "/webhooks/ops/resend")).status == 202
    for path in ("/webhooks", "/webhooks/ops/dead", "/audit"):
        said = await (await hooks.call("GET", path)).text()
        assert "very-secret" not in said
    audit = await (await hooks.call("GET", "/audit")).json()
    assert "http://127.0.0.1:9/…" in str(audit["content"])


async def test_a_ping_is_signed_and_its_answer_told_and_noted(hooks: Api) -> None:
    heard: list[Any] = []

    async def hear(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        heard.append(standardwebhooks.Webhook(_SECRET).verify(body, dict(request.headers)))
        return web.Response(status=500 if len(heard) == 1 else 204, text="a secret of the network")

    async with serving(hear) as port:
        await hooks.put("webhooks", _value(port))
        said = [await (await hooks.call("POST", "/webhooks/ops/test")).json() for _ in range(2)]
    assert said == [
        {"ok": False, "message": "it answered 500", "status": 500},
        {"ok": True, "message": "it answered 204", "status": 204},
    ]
    assert {event["type"] for event in heard} == {"fr.cnes.regards.delivery.ping"}
    entries = (await (await hooks.call("GET", "/audit")).json())["content"]
    assert [entry["subject"] for entry in entries[:2]] == ["webhook ops"] * 2


async def test_pings_are_few_a_minute(hooks: Api) -> None:
    await hooks.put("webhooks", _value())
    statuses = [(await hooks.call("POST", "/webhooks/ops/test")).status for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    assert (await hooks.call("POST", "/webhooks/ops/test", role="EXPLOIT")).status == 403


async def test_what_is_dead_is_shown_by_pages_and_sent_again(
    hooks: Api, configuration: ConfigurationParts, deliveries: Deliveries
) -> None:
    await hooks.put("webhooks", _value())
    events = await _bury(deliveries, configuration, 3)
    (shown,) = (await (await hooks.call("GET", "/webhooks", role="EXPLOIT")).json())["content"]
    assert (shown["state"], shown["dead"], shown["lastError"]) == ("GONE", 3, "it answered 410")
    page = await (await hooks.call("GET", "/webhooks/ops/dead?limit=2")).json()
    assert [dead["id"] for dead in page["content"]] == events[:0:-1]
    assert page["content"][0]["type"] == "fr.cnes.regards.delivery.done"
    (link,) = page["links"]
    last = await (await hooks.call("GET", link["href"])).json()
    assert ([dead["id"] for dead in last["content"]], last["links"]) == (events[:1], [])
    path = "/webhooks/ops/resend"
    for query, count in ((f"?id={events[0]}", 1), ("", 2), ("", 0)):
        answer = await hooks.call("POST", path + query, role="EXPLOIT")
        assert (answer.status, await answer.json()) == (202, {"events": count})
    (shown,) = (await (await hooks.call("GET", "/webhooks")).json())["content"]
    assert (shown["owed"], shown["dead"]) == (3, 0)
    assert (await hooks.call("POST", f"{path}?id=x")).status == 422


async def test_there_is_no_webhook_of_another_tenant(
    hooks: Api, configuration: ConfigurationParts, deliveries: Deliveries
) -> None:
    await hooks.put("webhooks", _value())
    await _bury(deliveries, configuration, 1)
    for method, path in (
        ("GET", "/webhooks/ops/dead"),
        ("POST", "/webhooks/ops/resend"),
        ("POST", "/webhooks/ops/test"),
    ):
        answer = await hooks.call(method, path, tenant="swot")
        assert answer.status == 404
        assert "ops'; there are: none" in json.loads(await answer.text())["message"]
    assert await (await hooks.call("GET", "/webhooks", tenant="swot")).json() == {"content": []}
