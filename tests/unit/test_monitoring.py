"""Dashboard and alerts speak of metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from app import metrics
from app.model import State
from app.tracking import Depth, Owed
from web.metrics import _Database

MONITORING = Path(__file__).resolve().parents[2] / "compose" / "monitoring"
NAME = re.compile(r"\b(delivery_[a-z0-9_]+)")


def known() -> set[str]:
    database = _Database()
    database.up = True
    database.depths = [Depth(tenant="t", state=State.READY, deliveries=1, oldest=1)]
    database.owed = [Owed(lane="l", messages=1, oldest=1)]
    families = [*REGISTRY.collect(), *database.collect()]
    names = set()
    for family in families:
        names |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    return names


def expressions() -> list[str]:
    dashboard = json.loads((MONITORING / "dashboards" / "rs-delivery.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules: Any = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    return shown + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_metrics_that_there_are(expression: str) -> None:
    assert metrics.BUILD
    asked = set(NAME.findall(expression))
    assert asked <= known()
    assert asked or "process_" in expression


def test_every_alert_says_what_to_do() -> None:
    rules: Any = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["description"].strip(), rule["alert"]


@pytest.mark.parametrize(
    "state", [state for state in State if state not in (State.DONE, State.ERROR)]
)
def test_every_state_before_the_end_has_a_limit_of_its_own(state: State) -> None:
    rules: Any = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    (stuck,) = [
        rule
        for group in rules["groups"]
        for rule in group["rules"]
        if rule["alert"] == "DeliveryStateStuck"
    ]
    asked = rf'delivery_active_oldest_seconds{{state="{state.value}"}}\) > \d+'
    assert re.search(asked, stuck["expr"])


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
    ids=["check", "test"],
)
def test_promtool_accepts_the_rules(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    ended = subprocess.run(
        [promtool, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
