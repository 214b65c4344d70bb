"""The recordings: JSON, sorted, a thing a line, so that a diff tells what changed."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parent / "kept"

_FOUND = """
{name}: what others rely on (peers, rows, scripts, dashboards) is not as it was recorded:
"""
_ADVICE = """
Such a change must be deliberate: peers, workers of the version before and rows that are there must
get along with it. If this one is not meant, undo it. If it is, record it with `make record`, read
the diff of tests/recorded/kept, commit it with the change, and say so in CHANGELOG.md.
"""


def path_of(name: str) -> Path:
    """Return the file of a recording."""
    return KEPT / f"{name}.json"


def kept(name: str) -> Any:
    """Return what was recorded."""
    return json.loads(path_of(name).read_text())


def written(value: Any) -> str:
    """Return a recording as it is kept. Texts of several lines are lists of lines."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def difference(name: str, now: Any) -> str:
    """Return what a developer needs to know where a recording no longer holds; empty if it does."""
    path = path_of(name)
    before = path.read_text() if path.exists() else ""
    after = written(now)
    if before == after:
        return ""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"recorded: {name}", "today", lineterm="", n=4
    )
    return "\n".join([_FOUND.format(name=name), *lines, _ADVICE])


def record(name: str, now: Any) -> bool:
    """Record again; whether that changed anything."""
    changed = bool(difference(name, now))
    if changed:
        KEPT.mkdir(exist_ok=True)
        path_of(name).write_text(written(now))
    return changed
