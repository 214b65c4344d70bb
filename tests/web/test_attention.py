"""What needs an operator, over HTTP: who is told, and of what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.delivery.states import Work
from app.store import PostgresWorkers
from tests.integration.conftest import Deliveries
from tests.web.conftest import TENANT, Api

ADMIN: dict[str, Any] = {"role": "INSTANCE_ADMIN", "tenant": "instance"}


async def told(api: Api, **caller: Any) -> list[dict[str, Any]]:
    answer = await api.call("GET", "/attention", **caller)
    assert answer.status == 200
    found: list[dict[str, Any]] = (await answer.json())["content"]
    return found


@pytest.fixture
async def failing(deliveries: Deliveries) -> None:
    """A target of this tenant, at which three attempts have failed."""
    await PostgresWorkers(deliveries.pool, worker="w", version="1", slots=1).heartbeat()
    await deliveries.ready("c")
    leases = deliveries.leases("w")
    for _ in range(3):
        claimed = await leases.claim(Work.TRANSFER)
        assert claimed is not None
        await leases.release(claimed, after=timedelta(), failed=False, cause="403 AccessDenied")


@pytest.mark.usefixtures("failing")
async def test_a_finding_says_what_is_wrong_since_when_and_what_to_do(
    api: Api, deliveries: Deliveries
) -> None:
    (found,) = await told(api, role="EXPLOIT")
    (delivery,) = await deliveries.tracking.of(TENANT, "c")
    *_, first = await deliveries.tracking.attempts(delivery.delivery.id)
    assert first.ended is not None
    assert found.pop("since")[:19] == first.ended.isoformat()[:19]
    target = delivery.delivery.target
    assert found.pop("advice").startswith("The cause says")
    assert found == {
        "code": "TRANSFERS_FAIL",
        "severity": "problem",
        "sentence": f"Transfers to target {target} fail one after the other: 3 attempts",
        "tenant": TENANT,
        "subject": target,
        "count": 3,
        "cause": "403 AccessDenied",
        "alert": "DeliveryTransfersFail",
    }


@pytest.mark.usefixtures("failing")
async def test_operators_are_told_what_concerns_their_tenant_and_the_instances_admin_all(
    api: Api,
) -> None:
    assert [one["code"] for one in await told(api, role="READ_ONLY")] == ["TRANSFERS_FAIL"]
    assert await told(api, tenant="swot", role="PROJECT_ADMIN") == []
    assert [one["tenant"] for one in await told(api, **ADMIN)] == [TENANT]
    assert (await api.call("GET", "/attention", role="REGISTERED_USER")).status == 403


@pytest.mark.usefixtures("failing")
async def test_the_metric_says_what_attention_says(api: Api) -> None:
    (found,) = await told(api, **ADMIN)
    labels = {name: found[name] for name in ("code", "severity", "tenant", "subject")}

    async def samples(**caller: Any) -> dict[str, list[tuple[dict[str, str], float]]]:
        text = await (await api.call("GET", "/metrics", **caller)).text()
        return {
            family.name: [(sample.labels, sample.value) for sample in family.samples]
            for family in text_string_to_metric_families(text)
        }

    shown = await samples(**ADMIN)
    assert shown["delivery_attention"] == [(labels, 3)]
    ((named, since),) = shown["delivery_attention_since_timestamp_seconds"]
    assert named == labels
    assert datetime.fromtimestamp(since, UTC).isoformat(timespec="milliseconds") == found["since"]
    assert (await samples(role="EXPLOIT"))["delivery_attention"] == [(labels, 3)]
    assert (await samples(role="EXPLOIT", tenant="swot"))["delivery_attention"] == []


async def test_that_no_worker_is_there_concerns_all(api: Api) -> None:
    for caller in ({"tenant": "swot"}, ADMIN):
        assert [one["code"] for one in await told(api, **caller)] == ["NO_WORKER"]
