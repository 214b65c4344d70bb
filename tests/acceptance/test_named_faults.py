"""Nights of five faults, drawn: all that tell of trouble name each, since the same time, no other.

`FAULTS_SEED=7 pytest tests/acceptance/test_named_faults.py` plays another night. What Overview
shows is looked at in `tests/browser/test_named_faults.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.settings import Settings
from app.views.attention import Need
from compose.embedded.stack import Stack
from rs_delivery_client.cli.when import at
from tests.acceptance.alerts import misfires
from tests.acceptance.faults import FAULTS, draw, happen
from tests.acceptance.night import TENANTS, Named, Night
from tests.caller import instance_admin
from tests.command import delivery
from tests.service import running_service

pytestmark = pytest.mark.acceptance

EXAMPLES = (79, 86, 198, 199, 304)  # which draw every fault
SEEDS = [int(seed) for seed in os.environ.get("FAULTS_SEED", "").split(",") if seed] or EXAMPLES

# A code, its tenant, what it is about, and since when: as all who tell of it must say it.
Told = Counter[tuple[str, str | None, str | None, str | None]]


def as_told(entries: Iterable[Mapping[str, Any]]) -> Told:
    return Counter(
        (entry["code"], entry.get("tenant"), entry.get("subject"), entry.get("since"))
        for entry in entries
    )


def in_lines(printed: str) -> Told:
    return as_told(map(json.loads, printed.splitlines()))


def expected(named: Sequence[Named]) -> Told:
    return Counter(
        (each.code.value, each.tenant, each.subject, each.since.isoformat(timespec="milliseconds"))
        for each in named
    )


def in_metrics(text: str) -> Told:
    """Return what the metric says, of which an alert has its `since`."""
    return as_told(
        {
            **{name: word or None for name, word in sample.labels.items()},
            "since": datetime.fromtimestamp(sample.value, UTC).isoformat(timespec="milliseconds"),
        }
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "delivery_attention_since_timestamp_seconds"
    )


async def said(*arguments: str, **environment: str) -> str:
    """Return what a command prints, be something wrong or not."""
    ended = await asyncio.to_thread(delivery, *arguments, **environment)
    assert ended.returncode in (0, 1), ended.stderr
    return ended.stdout


def test_every_finding_is_that_of_a_fault_and_the_examples_draw_every_fault() -> None:
    assert {need for fault in FAULTS for need in fault.needs} == set(Need)
    drawn = {fault.name for seed in EXAMPLES for fault in draw(seed)}
    assert drawn == {fault.name for fault in FAULTS}


@pytest.mark.parametrize("seed", SEEDS, ids="seed={}".format)
async def test_five_faults_of_a_night_are_named_by_all_who_tell_of_trouble_and_nothing_else_is(
    seed: int,
    stack: Stack,
    apart: dict[str, str],
    pool: asyncpg.Pool,
    settings: Settings,
    tmp_path: Path,
) -> None:
    night = Night(pool, settings, stack)
    await happen(night, draw(seed))
    named = night.named
    own = apart | {"DELIVERY_TENANTS": ",".join(TENANTS)}
    header = instance_admin(stack)
    async with (
        running_service(stack, command="web", extra=own) as (_, address),
        aiohttp.ClientSession(address, headers=header, raise_for_status=True) as session,
    ):
        found = (await (await session.get("/attention")).json())["content"]
        assert as_told(found) == expected(named)
        token = header["Authorization"].removeprefix("Bearer ")
        where = {"DELIVERY_URL": address, "DELIVERY_TOKEN": token}
        assert in_lines(await said("status", "--json", **where)) == expected(named)
        printed = await said("status", **where)
        for each in named:
            told = rf"since {re.escape(at(each.since))} \(.+\)  {each.code}$"
            assert re.search(told, printed, re.MULTILINE), printed
        printed = await said("attention", "--json", **{**stack.environment, **own})
        assert in_lines(printed) == expected(named)
        metrics = await (await session.get("/metrics")).text()
    assert in_metrics(metrics) == expected(named)
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    assert await asyncio.to_thread(misfires, promtool, metrics, named, tmp_path) == ""
