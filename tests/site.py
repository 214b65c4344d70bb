"""What `make docs` has built can be read without a line to anywhere, and searched.

Sphinx itself looks for broken links, and for pages in no table of contents.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

# What a browser fetches by itself, and where its address stands.
_FETCHED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
    "video": "src",
}


class _Page(HTMLParser):
    """The addresses that a page has fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs).get(_FETCHED.get(tag, ""))
        if found:
            self.fetched.append(found)


def flaws(site: Path) -> list[str]:
    """Return what is wrong with a built site, a line each."""
    found = []
    for path in sorted(site.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text("utf-8"))
        for address in page.fetched:
            if address.startswith(("http:", "https:", "//")):
                found.append(f"{path.name} fetches {address}")
            elif not (path.parent / address.partition("?")[0].partition("#")[0]).exists():
                found.append(f"{path.name} has no {address}")
    found += [
        f"{path.name} fetches from another server"
        for path in sorted(site.rglob("*.css"))
        if re.search(r"url\(['\"]?(https?:|//)", path.read_text("utf-8"))
    ]
    if not (site / "searchindex.js").exists():
        found.append("there is nothing to search in: searchindex.js")
    return found


if __name__ == "__main__":
    wrong = flaws(Path(sys.argv[1]))
    for line in wrong:
        sys.stderr.write(f"docs: {line}\n")
    sys.exit(bool(wrong))
