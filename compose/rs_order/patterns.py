"""A regular expression of names, as a value of a switch or a fault."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


def picks(pattern: str, name: str) -> bool:
    """Return whether a pattern is found in a file's name; an empty one picks none."""
    return bool(pattern) and re.search(pattern, name) is not None
