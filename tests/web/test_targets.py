"""Whether a tenant's targets answer: told to its administrators, and no part of readiness."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from app.delivery.targets import Target, TargetTrouble
from app.errors import TargetRefusedError, TargetUnavailableError
from app.run.wiring.tenants import ConfigurationParts
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.builders import GivenTenants
from tests.integration.conftest import sink, target
from tests.integration.gate import gate
from tests.targets import s3_of
from tests.web.conftest import TENANT, MakeClient, parts_for, serve
from web.api.targets import TargetsApi

__all__ = ["sink", "target"]  # fixtures


class Places:
    """Targets by their bucket: some refuse, some say nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = asyncio.Event()  # the silent ones do, after all

    async def look(self, target: Target) -> None:
        self.asked.append(target.container)
        if target.container.startswith("silent"):
            await self.answer.wait()
        if target.container == "refusing":
            raise TargetRefusedError("S3 refused to look in bucket refusing (403)")

    def trouble(self, target: Target) -> TargetTrouble | None:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        if target.container != "silent":
            return None
        return TargetTrouble(kind="S3", server="s:1", cause="no answer", since=at, asked_again=at)


async def test_each_target_is_asked_once_for_all_with_a_deadline_of_its_own(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, tenants: GivenTenants
) -> None:
    own = s3_of(tenants.settings(TENANT).target)
    names = ("good", "silent", "refusing")
    tenants.give(TENANT, targets={name: replace(own, bucket=name) for name in names})
    places = Places()
    targets = TargetsApi(tenants, look=places.look, trouble=places.trouble, patience=0.1)
    api = await serve(aiohttp_client, parts_for(configuration, targets=targets))
    answers = await asyncio.gather(*(api.call("GET", "/health/targets") for _ in range(5)))
    first, *others = [(await answer.json())["content"] for answer in answers]
    assert all(other == first for other in others)
    assert sorted(places.asked) == sorted([own.bucket, *names])
    found = {entry["name"]: entry for entry in first}
    assert {name: entry["status"] for name, entry in found.items()} == {
        "default": "UP",
        "good": "UP",
        "silent": "DOWN",
        "refusing": "DOWN",
    }
    assert "no answer from bucket silent" in found["silent"]["error"]
    assert found["silent"]["heldBack"]["cause"] == "no answer"
    assert "403" in found["refusing"]["error"]
    assert "heldBack" not in found["refusing"]
    assert own.secret not in str(first)


async def test_a_target_that_waited_for_its_turn_is_not_told_sooner_for_that(
    configuration: ConfigurationParts,
    aiohttp_client: MakeClient,
    tenants: GivenTenants,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("web.api.targets.time", SimpleNamespace(monotonic=lambda: now[0]))
    slept = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    async def look(target: Target) -> None:
        await sleep(0)  # the other one comes to wait for its turn
        if target.container == "silent":
            now[0] += 3600.0
        raise TargetUnavailableError("what is there must not be told")

    own = s3_of(tenants.settings(TENANT).target)
    tenants.give(TENANT, target=replace(own, bucket="silent"), targets={"closed": own})
    hidden = TargetUnavailableError("nothing is there")
    targets = TargetsApi(
        tenants,
        look=look,
        trouble=lambda _target: None,
        told=lambda _target, _error: hidden,
        patience=3600.0,
        at_once=1,
    )
    api = await serve(aiohttp_client, parts_for(configuration, targets=targets))
    monkeypatch.setattr("web.api.targets.asyncio.sleep", note)
    assert (await api.call("GET", "/health/targets")).status == 200
    assert slept == [0.0, 3600.0]


async def test_many_silent_targets_of_one_tenant_keep_no_other_waiting(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, tenants: GivenTenants
) -> None:
    own = s3_of(tenants.settings(TENANT).target)
    tenants.give(TENANT, targets={str(n): replace(own, bucket=f"silent-{n}") for n in range(20)})
    tenants.give("swot", target=replace(own, bucket="of swot"))
    places = Places()
    targets = TargetsApi(tenants, look=places.look, trouble=places.trouble, patience=1e9)
    api = await serve(aiohttp_client, parts_for(configuration, targets=targets))
    waiting = asyncio.create_task(api.call("GET", "/health/targets"))
    while len(places.asked) < 8:
        await asyncio.sleep(0)
    answer = await api.call("GET", "/health/targets", tenant="swot", role="INSTANCE_ADMIN")
    assert [entry["status"] for entry in (await answer.json())["content"]] == ["UP"]
    places.answer.set()
    assert (await waiting).status == 200


async def test_targets_are_shown_to_administrators_of_their_own_tenant(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, tenants: GivenTenants
) -> None:
    own = s3_of(tenants.settings(TENANT).target)
    tenants.give(TENANT, targets={"mine": replace(own, bucket="mine")})
    places = Places()
    targets = TargetsApi(tenants, look=places.look, trouble=places.trouble)
    api = await serve(aiohttp_client, parts_for(configuration, targets=targets))
    for role in ("REGISTERED_USER", "EXPLOIT"):
        assert (await api.call("GET", "/health/targets", role=role)).status == 403
    names = {}
    for tenant in (TENANT, "swot"):
        answer = await api.call("GET", "/health/targets", tenant=tenant, role="INSTANCE_ADMIN")
        names[tenant] = [entry["name"] for entry in (await answer.json())["content"]]
    assert names == {TENANT: ["default", "mine"], "swot": ["default"]}


async def test_a_server_that_takes_everything_and_says_nothing_is_down(
    configuration: ConfigurationParts,
    aiohttp_client: MakeClient,
    tenants: GivenTenants,
    sink: S3ObjectStore,
    target: S3Target,
) -> None:
    async with gate(target.endpoint) as server:
        await sink.clients.prepare()  # which a process does in its start
        tenants.give(TENANT, target=replace(target, endpoint=server.url))
        s3: Any = sink  # asked for its own targets alone
        targets = TargetsApi(tenants, look=s3.find_bucket, trouble=s3.breakers.trouble, fresh=0.0)
        api = await serve(aiohttp_client, parts_for(configuration, targets=targets))

        async def told() -> str:
            answer = await api.call("GET", "/health/targets")
            return str((await answer.json())["content"][0]["status"])

        assert await told() == "UP"
        await server.hush()
        assert await told() == "DOWN"
        assert (await api.client.get("/health/ready")).status == 200
