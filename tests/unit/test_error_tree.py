"""The tree that `app.errors` draws is that of its classes."""

from __future__ import annotations

import re

from app import errors
from app.errors import DeliveryError


def drawn() -> list[tuple[int, str]]:
    """Return depth and name of each class of the drawing, in its order."""
    lines = (errors.__doc__ or "").splitlines()
    tree = lines[lines.index("DeliveryError") :]
    found = [re.match(r"((?:[│├└ ][─ ]{3})*)(\w+)", line) for line in tree]
    return [(len(line[1]) // 4, line[2]) for line in found if line]


def below(error: type[DeliveryError], depth: int = 0) -> list[tuple[int, str]]:
    """Return depth and name of an error of this service and of all under it."""
    own = [child for child in error.__subclasses__() if child.__module__ == errors.__name__]
    return [
        (depth, error.__name__),
        *(line for child in own for line in below(child, depth + 1)),
    ]


def parents(tree: list[tuple[int, str]]) -> dict[str, str | None]:
    """Return what each class is under."""
    path: list[str] = []
    found: dict[str, str | None] = {}
    for depth, name in tree:
        assert name not in found
        del path[depth:]
        found[name] = path[-1] if path else None
        path.append(name)
    return found


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    assert parents(drawn()) == parents(below(DeliveryError))
