"""The short version of `make chaos`. A seed that ever failed stays in the list."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from compose.embedded.stack import ROOT
from tests.chaos.plan import FAULTS, draw


def test_a_seed_draws_the_same_course_again_and_every_fault_once() -> None:
    plan = draw(seed=7, deliveries=30, seconds=60)
    assert plan == draw(seed=7, deliveries=30, seconds=60)
    assert plan != draw(seed=8, deliveries=30, seconds=60)
    assert {step.fault for step in plan.steps} == set(FAULTS)
    assert len({ask.correlation_id for ask in plan.asks}) == 30


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [20261124])
def test_nothing_is_lost_doubled_wrong_or_left_behind(seed: int, tmp_path: Path) -> None:
    """A process of its own, since it takes a stack of its own."""
    command = [sys.executable, "-m", "tests.chaos", "--deliveries", "40", "--seconds", "35"]
    logs = tmp_path / "logs"
    done = subprocess.run(
        [*command, "--seed", str(seed), "--logs", logs],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    told = f"{done.stdout}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, told + (logs.read_text()[-20_000:] if logs.exists() else "")
    faults = re.search(r"faults injected +(\d+)", done.stdout)
    assert faults is not None
    assert int(faults[1]) >= len(FAULTS) - 2, told
