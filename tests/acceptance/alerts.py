"""Which alerts fire where `/metrics` says the same at each look: what Prometheus' promtool says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from compose.embedded.stack import ROOT
from tests.acceptance.night import Named

_RULES = ROOT / "compose" / "monitoring" / "alerts.yml"
_NAME = re.compile(r"\bdelivery_\w+")
_LOOKS = 20  # a minute apart: the longest that a rule waits is fifteen
# How busy the machine of the tests is, is no fault of the night.
_LEFT_OUT = {"delivery_event_loop_lag_seconds"}
_PROCESS = {"job": "rs-delivery", "instance": "a"}  # as Prometheus tells those apart that it asks


def rules() -> Sequence[dict[str, Any]]:
    """Return the rules; of what an alert says, since when it is so."""
    read: Any = yaml.safe_load(_RULES.read_text("utf-8"))
    found = []
    for group in read["groups"]:
        for rule in group["rules"]:
            told = {name: text for name, text in rule["annotations"].items() if name == "since"}
            found.append(rule | {"annotations": told})
    return found


def _series(metrics: str, asked: set[str]) -> Iterator[Mapping[str, str]]:
    """Yield what is asked for of the text of `/metrics`, as it stays."""

    def constant(name: str, labels: dict[str, str], value: float) -> Mapping[str, str]:
        told = ",".join(f"{key}={json.dumps(word)}" for key, word in (labels | _PROCESS).items())
        return {"series": f"{name}{{{told}}}", "values": f"{value!r}x{_LOOKS}"}

    yield constant("up", {}, 1.0)
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name in asked - _LEFT_OUT:
                yield constant(sample.name, sample.labels, sample.value)


def _in_time(since: datetime) -> str:
    """Return a time as Prometheus says it, who counts in milliseconds."""
    told = datetime.fromtimestamp(int(since.timestamp() * 1e9) // 10**6 / 1e3, UTC)
    fraction = f".{told.microsecond // 1000:03}".rstrip("0").rstrip(".")
    return f"{told:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def _expected(rule: Mapping[str, Any], named: Sequence[Named]) -> list[dict[str, Any]]:
    return [
        {
            "exp_labels": {**rule["labels"], **each.labels},
            "exp_annotations": {"since": _in_time(each.since)},
        }
        for each in named
        if each.alert == rule["alert"]
    ]


def misfires(promtool: str, metrics: str, named: Sequence[Named], folder: Path) -> str:
    """Return how what fires differs from what is named, a minute after each rule's time.

    Nothing, where it does not. Every rule is asked: what no fault names must not fire.
    """
    known = rules()
    text = json.dumps(known)
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": known}]}))
    tests = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": list(_series(metrics, set(_NAME.findall(text)))),
                "alert_rule_test": [
                    {
                        "eval_time": f"{int(rule.get('for', '0m').removesuffix('m')) + 1}m",
                        "alertname": rule["alert"],
                        "exp_alerts": _expected(rule, named),
                    }
                    for rule in known
                ],
            }
        ],
    }
    (folder / "tests.yml").write_text(json.dumps(tests))
    ended = subprocess.run(
        [promtool, "test", "rules", "tests.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr
