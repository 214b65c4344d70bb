"""How it goes with targets, over HTTP: who is told, of which, and where they are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.delivery.states import State, Work
from app.delivery.targets import DEFAULT_TARGET
from app.store import PostgresWorkers
from tests.builders import make_stored
from tests.integration.conftest import Deliveries
from tests.web.conftest import TENANT, Api

ADMIN: dict[str, Any] = {"role": "INSTANCE_ADMIN", "tenant": "instance"}
SECRET_KEY = "never-shown-to-a-caller"
ARCHIVE = {
    "s3_server": {
        "scheme": "https",
        "host": "s3.example.org",
        "port": 9443,
        "region": "eu-1",
        "key": "key-of-archive",
        "secret": SECRET_KEY,
    },
    "bucket": "long-term",
}


async def told(api: Api, **caller: Any) -> list[dict[str, Any]]:
    answer = await api.call("GET", "/targets", **caller)
    assert answer.status == 200, await answer.text()
    assert SECRET_KEY not in await answer.text()
    found: list[dict[str, Any]] = (await answer.json())["content"]
    return found


async def attempt(deliveries: Deliveries, cause: str | None) -> None:
    leases = deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    if cause is not None:
        await leases.release(
            claimed, after=timedelta(), failed=False, cause=cause, code="TARGET_REFUSED"
        )
        return
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=make_stored())


@pytest.fixture
async def failing(deliveries: Deliveries) -> None:
    """A target at which one attempt went well, and three failed after it."""
    await PostgresWorkers(deliveries.pool, worker="w", version="1", slots=1).heartbeat()
    await deliveries.ready("good")
    await attempt(deliveries, None)
    await deliveries.ready("c")
    for _ in range(3):
        await attempt(deliveries, "403 AccessDenied")


async def test_a_target_that_was_never_used_is_shown_without_secrets(api: Api) -> None:
    await api.put("delivery_targets", {"archive": ARCHIVE})
    default, archive = await told(api)
    assert (default["name"], default["state"], default["failures"]) == (DEFAULT_TARGET, "unused", 0)
    assert (archive["name"], archive["type"], archive["state"]) == ("archive", "s3", "unused")
    assert archive["place"].startswith("https://s3.example.org:9443/long-term/")
    assert not {"since", "lastGood", "lastBad", "pause", "attention"} & archive.keys()


@pytest.mark.usefixtures("failing")
async def test_a_failing_target_is_told_as_attention_tells_it(api: Api) -> None:
    (needed,) = (await (await api.call("GET", "/attention")).json())["content"]
    (found,) = await told(api)
    assert (found["tenant"], found["state"], found["failures"]) == (TENANT, "fails", 3)
    assert found["since"] == needed["since"]
    assert found["attention"] == needed
    assert found["lastBad"]["at"] >= found["since"] >= found["lastGood"]
    assert (found["lastBad"]["code"], found["lastBad"]["cause"]) == (
        "TARGET_REFUSED",
        "403 AccessDenied",
    )
    counts = ("waiting", "running", "goodLastHour", "badLastHour")
    assert [found[name] for name in counts] == [1, 0, 1, 3]


@pytest.mark.usefixtures("failing")
async def test_a_paused_target_says_who_paused_it_and_still_that_it_failed(api: Api) -> None:
    wish = {"reason": "disks are exchanged"}
    await api.call("PUT", f"/pauses/targets/{DEFAULT_TARGET}", json=wish)
    (found,) = await told(api)
    assert (found["state"], found["failures"]) == ("paused", 3)
    assert found["pause"]["reason"] == "disks are exchanged"
    assert found["since"][:19] == found["pause"]["since"][:19]


@pytest.mark.usefixtures("failing")
async def test_each_is_told_of_the_own_tenant_and_where_it_is_if_the_settings_are_seen(
    api: Api,
) -> None:
    assert [target["state"] for target in await told(api, tenant="swot")] == ["unused"]
    assert {target["tenant"] for target in await told(api, **ADMIN)} == {TENANT, "swot"}
    for role, sees in (("READ_ONLY", True), ("ADMIN", True), ("EXPLOIT", False)):
        (found,) = await told(api, role=role)
        assert ("place" in found) == sees
    assert (await api.call("GET", "/targets", role="REGISTERED_USER")).status == 403


async def test_a_target_that_is_set_no_more_is_shown_while_something_waits_for_it(
    api: Api, deliveries: Deliveries
) -> None:
    await api.put("delivery_targets", {"archive": ARCHIVE})
    await deliveries.ready("c", target="gone")
    names = {target["name"]: target for target in await told(api)}
    assert set(names) == {DEFAULT_TARGET, "archive", "gone"}
    assert names["gone"]["waiting"] == 1
    assert not {"type", "place"} & names["gone"].keys()
