"""Pauses over HTTP: who may, what is noted and told, and that it holds at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.delivery.targets import DEFAULT_TARGET
from app.run.wiring.tenants import ConfigurationParts
from app.store import PostgresWorkers
from tests.integration.conftest import Deliveries
from tests.web.conftest import TENANT, Api

REASON = {"reason": "disks are exchanged"}
ADMIN: dict[str, Any] = {"role": "INSTANCE_ADMIN", "tenant": "instance"}


async def seen(api: Api, **caller: Any) -> list[tuple[str, str | None]]:
    answer = await api.call("GET", "/pauses", **caller)
    assert answer.status == 200
    content = (await answer.json())["content"]
    return [(pause["scope"], pause.get("tenant")) for pause in content]


async def test_a_tenant_is_paused_until_it_is_resumed_and_both_are_noted(
    api: Api, configuration: ConfigurationParts
) -> None:
    answer = await api.call("PUT", "/pauses/tenant", json=REASON, role="EXPLOIT")
    assert answer.status == 200
    pause = (await answer.json())["content"]
    assert pause["running"] == "finish"
    assert pause["cause"].endswith(": disks are exchanged")
    assert configuration.tenants.pauses.of_tenant(TENANT) is not None
    assert await seen(api) == [("tenant", TENANT)]
    assert await seen(api, tenant="swot") == []
    assert await seen(api, **ADMIN) == [("tenant", TENANT)]
    assert (await api.call("DELETE", "/pauses/tenant")).status == 200
    assert configuration.tenants.pauses.of_tenant(TENANT) is None
    assert (await api.call("DELETE", "/pauses/tenant")).status == 404
    audit = await (await api.call("GET", "/audit")).json()
    noted = [(entry["action"], entry["subject"]) for entry in audit["content"]]
    assert noted == [
        ("resume", f"the transfers of tenant {TENANT}"),
        ("pause", f"the transfers of tenant {TENANT}"),
    ]
    assert audit["content"][1]["after"] == {**REASON, "running": "finish", "until": None}


async def test_a_target_is_paused_for_a_time_and_one_that_there_is_not_is_named(
    api: Api, configuration: ConfigurationParts
) -> None:
    wish = {**REASON, "forSeconds": 3600, "running": "stop"}
    answer = await api.call("PUT", f"/pauses/targets/{DEFAULT_TARGET}", json=wish)
    assert answer.status == 200
    pause = (await answer.json())["content"]
    left = datetime.fromisoformat(pause["until"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert configuration.tenants.pauses.stopping(TENANT, DEFAULT_TARGET) is not None
    unknown = await api.call("PUT", "/pauses/targets/nowhere", json=REASON)
    assert unknown.status == 404
    assert DEFAULT_TARGET in (await unknown.json())["message"]
    assert (await api.call("DELETE", f"/pauses/targets/{DEFAULT_TARGET}")).status == 200


async def test_a_worker_is_drained_and_the_instance_paused_by_who_administers_all(
    api: Api, deliveries: Deliveries, configuration: ConfigurationParts
) -> None:
    await PostgresWorkers(deliveries.pool, worker="w-1", version="1", slots=3).heartbeat()
    for path in ("/pauses/workers/w-1", "/pauses/instance"):
        for role in ("EXPLOIT", "ADMIN", "PROJECT_ADMIN"):
            assert (await api.call("PUT", path, json=REASON, role=role)).status == 403
    drained = await api.call("PUT", "/pauses/workers/w-1", json=REASON, **ADMIN)
    assert (await drained.json())["content"]["running"] == "stop"
    assert configuration.tenants.pauses.of_worker("w-1") is not None
    assert (await api.call("PUT", "/pauses/instance", json=REASON, **ADMIN)).status == 200
    assert await seen(api, role="EXPLOIT") == [("worker", None), ("instance", None)]
    unknown = await api.call("PUT", "/pauses/workers/w-9", json=REASON, **ADMIN)
    assert unknown.status == 404
    assert "w-1" in (await unknown.json())["message"]
    assert (await api.call("DELETE", "/pauses/workers/w-1", **ADMIN)).status == 200
    audit = await (await api.call("GET", "/audit", **ADMIN)).json()
    assert len(audit["content"]) == 3


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({}, "reason"),
        ({"reason": " "}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        (REASON | {"running": "hurry"}, "running"),
        (REASON | {"until": "soon"}, "until"),
        (REASON | {"until": "2020-01-01T00:00:00Z"}, "until"),
        (REASON | {"until": "2100-01-01T00:00:00Z", "forSeconds": 5}, "not both"),
        (REASON | {"forSeconds": 0}, "forSeconds"),
        (REASON | {"till": "2100-01-01T00:00:00Z"}, "till"),
        ([], "body"),
    ],
)
async def test_what_is_no_pause_is_refused_in_words(api: Api, wish: Any, named: str) -> None:
    answer = await api.call("PUT", "/pauses/tenant", json=wish)
    assert answer.status == 422
    assert named in (await answer.json())["message"]
    assert await seen(api) == []


async def test_metrics_tell_what_is_paused_for_each_tenant(api: Api) -> None:
    await api.call("PUT", "/pauses/tenant", json=REASON)
    await api.call("PUT", "/pauses/instance", json=REASON, **ADMIN)
    text = await (await api.call("GET", "/metrics", role="INSTANCE_ADMIN")).text()
    lines = [line for line in text.splitlines() if line.startswith("delivery_paused{")]
    assert lines == [
        f'delivery_paused{{name="",scope="tenant",tenant="{TENANT}"}} 1.0',
        f'delivery_paused{{name="",scope="instance",tenant="{TENANT}"}} 1.0',
        'delivery_paused{name="",scope="instance",tenant="swot"} 1.0',
    ]


async def test_a_name_that_can_be_no_name_is_refused_in_words(api: Api) -> None:
    for kind, part, caller in (("targets", "target", {}), ("workers", "worker", ADMIN)):
        for method, more in (("PUT", {"json": REASON}), ("DELETE", {})):
            answer = await api.call(method, f"/pauses/{kind}/%00", **more, **caller)
            assert answer.status == 422
            assert (await answer.json())["message"] == f"{part} holds a NUL character"
    wish = {"reason": "\0"}
    answer = await api.call("PUT", "/pauses/tenant", json=wish)
    assert answer.status == 422
    assert "the body holds a NUL character" in (await answer.json())["message"]
