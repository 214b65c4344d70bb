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

from app.delivery.states import State, Work
from app.errors import ErrorType
from app.run.series import make_series
from app.settings import Settings
from app.telemetry import metrics
from app.views.deliveries import Depth, Owed
from streams.channels import ORDER_RESPONSES, REQUESTS
from streams.kafka.topics import Topics
from web.api.metrics import DatabaseCollector

MONITORING = Path(__file__).resolve().parents[2] / "compose" / "monitoring"
OPERATING = "docs/operating.md"
NAME = re.compile(r"\b((?:delivery|http)_[a-z0-9_]+)")


def known() -> set[str]:
    database = DatabaseCollector()
    database.up = True
    database.depths = [Depth(tenant="t", state=State.TRANSFERRING, deliveries=1, oldest=1)]
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
    assert asked or re.search(r"process_|up\{job=", expression)


def test_alerts_and_dashboard_are_about_the_job_that_is_scraped() -> None:
    scraped: Any = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in scraped["scrape_configs"]}
    named = {
        job for expression in expressions() for job in re.findall(r'job="([^"]+)"', expression)
    }
    assert named == jobs


def test_prometheus_scrapes_the_port_that_the_service_shows_its_figures_on() -> None:
    compose: Any = yaml.safe_load((MONITORING.parent / "docker-compose.yml").read_text())
    port = compose["services"]["delivery"]["environment"]["DELIVERY_METRICS_PORT"]
    scraped: Any = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert scraped["scrape_configs"][0]["static_configs"] == [{"targets": [f"delivery:{port}"]}]


def test_a_counter_of_an_alert_exists_before_it_first_counts() -> None:
    """Of a series that appears with its first count, `increase()` does not see that count."""
    settings = Settings(tenants=("t1", "t2"), kafka_topic_prefix="p.")
    make_series(settings)

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, labels)

    for queue in (REQUESTS.queue.name, ORDER_RESPONSES.queue.name):
        assert value("delivery_messages_buried_total", queue=queue) is not None
    for topic in Topics(prefix="p.").consumed:
        assert value("delivery_events_dead_lettered_total", topic=topic) == 0
    for tenant in ("t1", "t2"):
        for error_type in ErrorType:
            labels = {"tenant": tenant, "state": "ERROR", "error_type": error_type.value}
            assert value("delivery_finished_total", **labels) == 0
        assert value("delivery_requests_total", tenant=tenant, outcome="denied") == 0
    for work in Work:
        assert value("delivery_lease_takeovers_total", work=work.value) is not None


def test_every_alert_says_what_to_do() -> None:
    rules: Any = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["description"].strip(), rule["alert"]


INCIDENT = ("What it means", "How to see it", "What to do", "Is anything lost", "It is over when")


def test_every_alert_leads_to_its_incident_which_says_all() -> None:
    rules: Any = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    page = (MONITORING.parents[1] / "docs" / "incidents.md").read_text("utf-8")
    _, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    incidents = {section.partition("\n")[0]: section for section in sections}
    assert list(incidents) == [rule["alert"] for rule in alerts]
    for rule in alerts:
        name = rule["alert"]
        assert rule["annotations"]["runbook_url"] == f"docs/incidents.md#{name.lower()}"
        assert tuple(re.findall(r"^- \*\*(.+?)\*\*: ", incidents[name], re.MULTILINE)) == INCIDENT


@pytest.mark.parametrize("state", [state for state in State if not state.ended])
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


def test_deliveries_are_counted_by_the_labels_that_an_operator_has_named() -> None:
    make_series(Settings(tenants=("labelled",), metric_labels=("known", "unused")))
    metrics.ended("labelled", "DONE", labels=("known", "another"))

    def counted(label: str) -> float | None:
        return REGISTRY.get_sample_value(
            "delivery_labelled_finished_total",
            {"tenant": "labelled", "label": label, "state": "DONE"},
        )

    assert (counted("known"), counted("unused"), counted("another")) == (1, 0, None)
