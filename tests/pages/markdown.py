"""How what is known is written down."""

from __future__ import annotations

from collections.abc import Iterable


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; what is in a cell is one line, and ends no cell."""
    lines = [list(heads), *(list(map(_cell, row)) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def sentence(text: str) -> str:
    """Return a text that ends as a sentence does."""
    text = " ".join(text.split())
    return text if not text or text.endswith((".", "?", "!", ":")) else f"{text}."
