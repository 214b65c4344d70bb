"""The documentation hangs together, as a site and where it is read on a forge."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TEXTS = [
    *sorted(DOCS.glob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "web" / "client" / "README.md",
]
KINDS = ("Tutorials", "How to", "Reference", "Explanation")
# What a text elsewhere calls a part of a page by: docs/operating.md, "Reload".
NAMED = re.compile(r'docs/([a-z-]+\.md), "([^"]+)"')


def _tokens(path: Path) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text("utf-8")):
        yield token
        yield from token.children or ()


@cache
def _headings(path: Path) -> tuple[str, ...]:
    tokens = list(_tokens(path))
    return tuple(
        "".join(child.content for child in inner.children or ())
        for token, inner in itertools.pairwise(tokens)
        if token.type == "heading_open"
    )


def _anchors(path: Path) -> set[str]:
    """Return the anchors of a page, as forges and MyST make them."""
    slugs: Counter[str] = Counter()
    anchors = set()
    for heading in _headings(path):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        anchors.add(f"{slug}-{slugs[slug]}" if slugs[slug] else slug)
        slugs[slug] += 1
    return anchors


def _links(path: Path) -> Iterator[str]:
    for token in _tokens(path):
        for name in ("href", "src"):
            to = str(token.attrs.get(name, ""))
            if to and not re.match(r"[a-z]+:", to):
                yield to


def _contents() -> dict[str, list[str]]:
    """Return the pages of the table of contents, by the kind that each is of."""
    text = (DOCS / "index.md").read_text("utf-8")
    blocks = re.findall(r"^```\{toctree\}\n:caption: (.+)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    return {
        caption: [line for line in lines.split("\n") if line and line[0] != ":"]
        for caption, lines in blocks
    }


def test_the_table_of_contents_has_the_four_kinds() -> None:
    assert tuple(_contents()) == KINDS
    assert all(_contents().values())


def test_each_page_is_in_the_table_of_contents_once() -> None:
    listed = Counter(page for pages in _contents().values() for page in pages)
    assert listed == Counter(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_broken(path: Path) -> None:
    broken = []
    for link in _links(path):
        name, _, anchor = link.partition("#")
        to = (path.parent / name).resolve() if name else path
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in _anchors(to)):
            broken.append(link)
    assert not broken


def test_what_the_program_says_of_a_page_is_there() -> None:
    said = [
        (path, page, " ".join(heading.split()))
        for folder in ("app", "streams", "sinks", "web", "compose")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".js", ".yml"}
        for page, heading in NAMED.findall(path.read_text("utf-8"))
    ]
    assert said
    for path, page, heading in said:
        assert heading.removesuffix(",") in _headings(DOCS / page), path
