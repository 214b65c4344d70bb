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

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "compose" / "monitoring"
METRICS = ROOT / "tests" / "recorded" / "kept" / "metrics.json"
INDEX = ROOT / "web" / "assets" / "console" / "index.html"
CONSOLE = re.compile(r'href="([^"]+)"')
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


def dashboard() -> Any:
    return json.loads((MONITORING / "dashboards" / "rs-delivery.json").read_text("utf-8"))


def panels() -> list[Any]:
    """Return the panels of the dashboard, but for the headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def shown() -> list[str]:
    """Return what the dashboard asks for."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def expressions() -> list[str]:
    rules: Any = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    return shown() + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_metrics_that_there_are(expression: str) -> None:
    assert metrics.BUILD
    asked = set(NAME.findall(expression))
    assert asked <= known()
    assert asked or re.search(r"process_|up\{job=", expression)


def labels_of(name: str) -> set[str]:
    """Return the labels of a metric, without those that Prometheus adds."""
    kept: Any = json.loads(METRICS.read_text("utf-8"))
    return set(kept[re.sub("_(total|bucket)$", "", name)]["labels"])


@pytest.mark.parametrize("expression", shown())
def test_a_panel_shows_what_is_of_the_tenants_and_targets_that_are_chosen(expression: str) -> None:
    for name, chosen in re.findall(r"((?:delivery|http)_[a-z0-9_]+)(?:\{([^}]*)\})?", expression):
        assert re.search(r'\btenant=~"\$tenant\|?"', chosen) or "tenant" not in labels_of(name)
        assert 'target=~"$target"' in chosen or "target" not in labels_of(name)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_leads_to_the_console(panel: Any) -> None:
    assert re.search(r"\w.*[.)]$", panel["description"])
    pages = {address.rpartition("#")[2] for address in CONSOLE.findall(INDEX.read_text("utf-8"))}
    for link in panel["links"]:
        console, _, page = link["url"].partition("/console#")
        assert console == "${console}"
        assert page in pages
    assert panel["links"]


def test_panels_lie_beside_each_other_and_are_told_apart() -> None:
    placed = dashboard()["panels"]
    assert len({panel["id"] for panel in placed}) == len(placed)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in placed)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23


def test_promtool_understands_what_the_dashboard_asks_for(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    chosen = {"$tenant": "one|two", "$target": ".*", "$__rate_interval": "5m"}
    rules = []
    for number, expression in enumerate(shown()):
        asked = re.sub("|".join(map(re.escape, chosen)), lambda found: chosen[found[0]], expression)
        rules.append({"record": f"panel:{number}", "expr": asked})
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    ended = subprocess.run(
        [promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


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


# Of findings that have no alert: an operator wants it so.
WANTED = ["Paused", "Maintenance"]


def test_every_alert_leads_to_its_incident_which_says_all() -> None:
    rules: Any = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    page = (MONITORING.parents[1] / "docs" / "incidents.md").read_text("utf-8")
    _, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    incidents = {section.partition("\n")[0]: section for section in sections}
    assert list(incidents) == [rule["alert"] for rule in alerts] + WANTED
    for rule in alerts:
        link = f"docs/incidents.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link
    for section in incidents.values():
        assert len(re.findall(r"^\*\*Tonight\*\*: ", section, re.MULTILINE)) == 1
        assert tuple(re.findall(r"^- \*\*(.+?)\*\*: ", section, re.MULTILINE)) == INCIDENT


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
