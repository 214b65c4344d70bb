"""The catalogue of what needs an operator: whole, in words, and as the alerts have it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
import yaml

from app.run.doctor import noticed
from app.views.attention import CATALOGUE, STUCK, AttentionView, Need, Trouble
from compose.embedded.stack import ROOT

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ALERTS = yaml.safe_load((ROOT / "compose/monitoring/alerts.yml").read_text("utf-8"))
RULES = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}


def make_trouble(code: Need) -> Trouble:
    return Trouble(code=code, tenant="t", subject="READY", since=NOON, count=3, cause="why")


@pytest.mark.parametrize("code", Need)
def test_each_finding_is_in_the_catalogue_and_names_an_alert_that_there_is(code: Need) -> None:
    known = CATALOGUE[code]
    view = AttentionView.of(make_trouble(code))
    assert "{" not in re.sub(r"/user/orders/\{id\}", "", view.sentence + view.advice)
    assert (view.severity == "notice") == (known.alert is None)
    assert known.alert is None or known.alert in RULES


@pytest.mark.parametrize("code", [Need.TRANSFERS_FAIL, Need.WORKER_SILENT])
def test_an_alert_for_a_finding_alone_says_it_in_the_words_of_the_catalogue(code: Need) -> None:
    known = CATALOGUE[code]
    assert known.alert is not None
    rule = RULES[known.alert]
    assert f'delivery_attention{{code="{code.value}"}}' in rule["expr"]
    labels = {"tenant": "{{ $labels.tenant }}", "subject": "{{ $labels.subject }}"}
    told = rule["annotations"]
    summary = told["summary"].removeprefix("{{ $labels.tenant }}: ")
    assert summary == known.sentence.format(**labels, count="{{ $value }}")
    assert told["description"] == known.advice.format(**labels)


@pytest.mark.parametrize("code", [code for code in Need if CATALOGUE[code].alert])
def test_the_alert_of_a_finding_says_since_when_as_the_finding_does(code: Need) -> None:
    rule = RULES[CATALOGUE[code].alert]
    asked = f"delivery_attention_since_timestamp_seconds{{code='{code.value}'"
    assert asked in rule["annotations"]["since"]


def test_what_is_stuck_is_told_by_the_limits_of_the_alert() -> None:
    found = re.findall(
        r'state="(\w+)"\}\) > (\d+)', RULES[CATALOGUE[Need.STATE_STUCK].alert]["expr"]
    )
    assert {state.value: str(int(age.total_seconds())) for state, age in STUCK.items()} == dict(
        found
    )


@pytest.mark.parametrize("need", [Need.STATE_STUCK, Need.QUOTA_AWAITED, Need.DEAD_LETTER])
def test_what_matters_most_is_told_by_doctor_in_the_same_words(need: Need) -> None:
    (fine,) = noticed([make_trouble(Need.PAUSED)])
    assert fine.ok
    (found,) = noticed([make_trouble(need)])
    view = AttentionView.of(make_trouble(need))
    assert not found.ok
    assert found.check == need
    assert (
        found.message == f"tenant t: {view.sentence}, since 2026-01-31 12:00:00Z; last cause: why"
    )
    assert found.advice == view.advice
