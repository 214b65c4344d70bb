"""What needs an operator, over HTTP: who is told, and of what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.delivery.states import Work
from app.errors import StoreUnavailableError
from app.store import PostgresAttention, PostgresWorkers
from app.views.attention import Trouble
from tests.builders import make_buried
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
    assert [trouble["code"] for trouble in await told(api, role="READ_ONLY")] == ["TRANSFERS_FAIL"]
    assert await told(api, tenant="swot", role="PROJECT_ADMIN") == []
    assert [trouble["tenant"] for trouble in await told(api, **ADMIN)] == [TENANT]
    assert (await api.call("GET", "/attention", role="REGISTERED_USER")).status == 403


async def samples(api: Api, **caller: Any) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return what `/metrics` has, by the names of metrics."""
    text = await (await api.call("GET", "/metrics", **caller)).text()
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)
    }


@pytest.mark.usefixtures("failing")
async def test_the_metric_says_what_attention_says(api: Api) -> None:
    (found,) = await told(api, **ADMIN)
    labels = {name: found[name] for name in ("code", "severity", "tenant", "subject")}
    shown = await samples(api, **ADMIN)
    assert shown["delivery_attention"] == [(labels, 3)]
    ((named, since),) = shown["delivery_attention_since_timestamp_seconds"]
    assert named == labels
    assert datetime.fromtimestamp(since, UTC).isoformat(timespec="milliseconds") == found["since"]
    assert (await samples(api, role="EXPLOIT"))["delivery_attention"] == [(labels, 3)]
    assert (await samples(api, role="EXPLOIT", tenant="swot"))["delivery_attention"] == []


async def test_tenants_that_are_not_served_make_no_series(api: Api, deliveries: Deliveries) -> None:
    await deliveries.presence("w").heartbeat()
    letters = [make_buried(name, tenant=f"stranger-{name}") for name in ("a", "b", "c")]
    await deliveries.dead_letters().keep(letters, again=True)
    ((labels, count),) = (await samples(api, **ADMIN))["delivery_attention"]
    assert (labels["code"], labels["tenant"], count) == ("DEAD_LETTER", "", 3)


async def test_tenants_that_are_not_served_make_one_finding(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.presence("w").heartbeat()
    letters = [make_buried(name, tenant=f"stranger-{name}") for name in ("a", "b", "c")]
    letters += [make_buried("d", tenant=None), make_buried("e", tenant=TENANT)]
    await deliveries.dead_letters().keep(letters, again=True)
    found = {(each.get("tenant"), each["count"]) for each in await told(api, **ADMIN)}
    assert found == {(None, 4), (TENANT, 1)}


async def test_without_attention_all_other_figures_of_the_database_are_told(
    api: Api, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_late(_self: object, _tenants: object) -> list[Trouble]:
        raise StoreUnavailableError("it took too long")

    await deliveries.granted("c")
    monkeypatch.setattr(PostgresAttention, "troubles", too_late)
    shown = await samples(api, **ADMIN)
    assert shown["delivery_attention"] == []
    assert shown["delivery_database_up"] == [({}, 1)]
    assert len(shown["delivery_active"]) == 1


async def test_that_no_worker_is_there_concerns_all(api: Api) -> None:
    for caller in ({"tenant": "swot"}, ADMIN):
        assert [trouble["code"] for trouble in await told(api, **caller)] == ["NO_WORKER"]
