"""Loads `queries.sql`: named blocks, so that SQL is read, linted and explained as SQL."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load_queries(text: str) -> dict[str, str]:
    """Split a file of `-- name: x` blocks into its statements. Raises ValueError on a repeat."""
    parts = _NAME.split(text)
    names = parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a query is named twice: {sorted(names)}")
    return dict(zip(names, (block.strip() for block in parts[2::2]), strict=True))


QUERIES = load_queries(files("app.store").joinpath("queries.sql").read_text(encoding="utf-8"))
