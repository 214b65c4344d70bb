"""What a page of the console loads is little, also over a slow line."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

ASSETS = Path(__file__).resolve().parents[2] / "web" / "assets" / "console"
APP = (ASSETS / "app.js").read_text("utf-8")
PAGES = re.findall(r'import\("\./([\w.-]+)"\)', APP)
BUDGET = 30_000  # bytes, compressed; Settings, with its forms, is the largest


def loaded(page: str) -> set[str]:
    """Return the files that are loaded where a page is shown first, and not later, by a name."""
    found: set[str] = set()
    pending = {"index.html", "console.css", "icon.svg", "app.js", page}
    while pending:
        name = pending.pop()
        found.add(name)
        ways = r"from " if name == "app.js" else r"(?:from |import\()"
        text = (ASSETS / name).read_text("utf-8")
        pending |= set(re.findall(ways + r'"\./([\w.-]+)"', text)) - found
    return found


def test_the_pages_are_found() -> None:
    assert {"overview.js", "targets.js", "list.js", "help.js"} <= set(PAGES)
    assert {"dom.js", "chart.js", "attention.js", "standing.js"} <= loaded("overview.js")
    assert "stanzas.js" in loaded("help.js")
    assert "stanzas.js" not in loaded("list.js") | loaded("mine.js")


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_loads_is_within_the_budget(page: str) -> None:
    sizes = {
        name: len(gzip.compress((ASSETS / name).read_bytes(), mtime=0)) for name in loaded(page)
    }
    assert sum(sizes.values()) < BUDGET, sizes
