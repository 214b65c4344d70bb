"""Loads `queries.sql`: named blocks, so that SQL is read, linted and explained as SQL."""

from __future__ import annotations

import re
from importlib.resources import files

from app.delivery.states import State

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_WORD = re.compile(r"\{(\w+)\}")


def load_queries(text: str, **words: str) -> dict[str, str]:
    """Split a file of `-- name: x` blocks into its statements, with words put in for `{word}`.

    Raises ValueError on a name that is there twice, and on a word that is not given.
    """
    parts = _NAME.split(text)
    names = parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a query is named twice: {sorted(names)}")
    blocks = parts[2::2]
    unknown = {word for block in blocks for word in _WORD.findall(block)} - words.keys()
    if unknown:
        raise ValueError(f"queries have words that stand for nothing: {sorted(unknown)}")
    filled = (_WORD.sub(lambda found: words[found[1]], block).strip() for block in blocks)
    return dict(zip(names, filled, strict=True))


# Literals, not parameters: PostgreSQL uses a partial index (`WHERE state NOT IN ('DONE', …)`) only
# for a query that says the same.
_ENDED = ", ".join(f"'{state}'" for state in State if state.ended)

QUERIES = load_queries(
    files("app.store").joinpath("queries.sql").read_text(encoding="utf-8"), ended=_ENDED
)
