"""Nights that failed once, as small as they became: kept, and played again by the tests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from app.delivery.pauses import PauseScope, Running
from tests.simulation.clients import Wish
from tests.simulation.pauses import PauseStep
from tests.simulation.plan import Ambush, Disaster, Plan, Step

FOLDER = Path(__file__).parent / "found"


def keep(plan: Plan, path: Path) -> None:
    """Write a plan down."""
    path.write_text(json.dumps(dataclasses.asdict(plan), indent=1, sort_keys=True) + "\n")


def read(path: Path) -> Plan:
    """Read what was kept."""
    kept: dict[str, Any] = json.loads(path.read_text())
    return Plan(
        **kept
        | {
            "wishes": tuple(Wish(**wish) for wish in kept["wishes"]),
            "disasters": tuple(Disaster(**disaster) for disaster in kept["disasters"]),
            "ambushes": tuple(Ambush(**ambush) for ambush in kept.get("ambushes", ())),
            "steps": tuple(Step(**step) for step in kept["steps"]),
            "pauses": _pauses(kept.get("pauses")),
            "clocks": tuple(kept["clocks"]),
        }
    )


def _pauses(kept: list[dict[str, Any]] | None) -> tuple[PauseStep, ...] | None:
    if kept is None:
        return None
    return tuple(
        PauseStep(
            **pause | {"scope": PauseScope(pause["scope"]), "running": Running(pause["running"])}
        )
        for pause in kept
    )


def plans() -> dict[str, Plan]:
    """Return all that are kept, by name."""
    return {path.stem: read(path) for path in sorted(FOLDER.glob("*.json"))}
