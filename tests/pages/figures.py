"""What an operator watches: metrics, alerts, events of the log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from tests.pages.markdown import sentence, table
from tests.recorded.source import Source
from tests.recorded.today import figures as today
from web.api.metrics import DatabaseCollector

_ROOT = Path(__file__).resolve().parents[2]
_ALERTS = _ROOT / "compose" / "monitoring" / "alerts.yml"


def rules() -> Iterator[dict[str, Any]]:
    """Iterate over the alert rules, as Prometheus is given them."""
    for group in yaml.safe_load(_ALERTS.read_text("utf-8"))["groups"]:
        yield from group["rules"]


def metrics(*, of_database: bool) -> str:
    """Return a table of the metrics of a process, or of those of the database."""
    database = DatabaseCollector()
    database.up = True
    in_database = {family.name: family.documentation for family in database.collect()}
    known = {
        family.name: family.documentation
        for collector in set(REGISTRY._collector_to_names)  # noqa: SLF001 - nothing else has all
        if isinstance(collector, MetricWrapperBase)
        for family in collector.describe()
    }
    meanings = in_database if of_database else known
    return table(
        ("metric", "type", "labels", "meaning"),
        (
            (
                f"`{name}{'_total' if described['type'] == 'counter' else ''}`",
                described["type"],
                ", ".join(f"`{label}`" for label in described["labels"]),
                sentence(meanings[name]),
            )
            for name, described in sorted(today.metrics().items())
            if (name in in_database) is of_database
        ),
    )


def alerts() -> str:
    """Return a table of the alerts."""
    return table(
        ("alert", "severity", "for", "when"),
        (
            (
                f"[{rule['alert']}](incidents.md#{rule['alert'].lower()})",
                rule["labels"]["severity"],
                rule.get("for", "at once"),
                f"`{' '.join(rule['expr'].split())}`",
            )
            for rule in rules()
        ),
    )


def log_events() -> str:
    """Return a table of the events of the log; those that are explained lead to where."""
    operating = (_ROOT / "docs" / "operating.md").read_text("utf-8")
    source = Source(_ROOT / folder for folder in ("app", "streams", "sinks", "web"))
    keys = source.log_keys()
    return table(
        ("event", "level", "fields", "explained"),
        (
            (
                f"`{event}`",
                ", ".join(levels),
                ", ".join(f"`{key}`" for key in keys[event] if key != "exc_info"),
                _explained(event, operating),
            )
            for event, levels in sorted(source.log_events().items())
            if "{}" not in event
        ),
    )


def _explained(event: str, page: str) -> str:
    """Return a link to the part of a page that has the event in a table, or names it."""
    for pattern in (rf"^\|[^|\n]*`{event}`", rf"`{event}`"):
        if found := re.search(pattern, page, re.MULTILINE):
            headings = re.findall(r"^#{2,3} (.+)$", page[: found.start()], re.MULTILINE)
            slug = re.sub(r"[^\w\- ]", "", headings[-1].lower()).replace(" ", "-")
            return f"[{headings[-1]}](operating.md#{slug})"
    return ""
