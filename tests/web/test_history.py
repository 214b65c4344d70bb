"""What became of deliveries, over HTTP: who is told, in which buckets, and what is not known."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.integration.conftest import Deliveries
from tests.web.conftest import TENANT, Api

ADMIN: dict[str, Any] = {"role": "INSTANCE_ADMIN", "tenant": "instance"}
SERIES = ("done", "failed", "cancelled", "bytes", "active")


async def told(api: Api, query: str = "", **caller: Any) -> list[dict[str, Any]]:
    answer = await api.call("GET", f"/stats/history{query}", **caller)
    assert answer.status == 200, await answer.text()
    found: list[dict[str, Any]] = (await answer.json())["content"]
    return found


async def test_the_last_two_days_are_told_by_the_hour(api: Api, deliveries: Deliveries) -> None:
    await deliveries.done("c")
    (found,) = await told(api, role="EXPLOIT")
    assert (found["tenant"], found["step"]) == (TENANT, 3600)
    assert {len(found[name]) for name in SERIES} == {48}
    assert sum(found["done"]) == 1
    assert "target" not in found
    (other,) = await told(api, "?target=another")
    assert (sum(other["done"]), other["target"]) == (0, "another")


async def test_what_was_forgotten_is_told_by_the_day_and_what_is_not_known_is_null(
    api: Api, deliveries: Deliveries
) -> None:
    day = await deliveries.pool.fetchval(
        "INSERT INTO figure (tenant, target, day, done, failed, cancelled, bytes) "
        "SELECT $1, 't', (now() AT TIME ZONE 'UTC')::date - 30, 5, 2, 1, 1000 "
        "RETURNING day",
        TENANT,
    )
    (found,) = await told(api, "?step=day")
    assert found["step"] == 86400
    assert {len(found[name]) for name in SERIES} == {90}
    at = (day - datetime.fromisoformat(found["begins"]).date()).days
    assert [found[name][at] for name in SERIES] == [5, 2, 1, 1000, None]
    assert [found[name][at + 1] for name in SERIES] == [None] * 5
    assert [found[name][-3] for name in SERIES] == [0] * 5


async def test_each_is_told_of_the_own_tenant_and_the_instances_admin_of_all(api: Api) -> None:
    assert [figures["tenant"] for figures in await told(api, tenant="swot", role="READ_ONLY")] == [
        "swot"
    ]
    assert {figures["tenant"] for figures in await told(api, **ADMIN)} == {TENANT, "swot"}
    assert (await api.call("GET", "/stats/history", role="REGISTERED_USER")).status == 403
    assert (await api.call("GET", "/stats/history?step=week")).status == 422
