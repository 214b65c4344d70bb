"""A member of an archive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class Member:
    """What an archive has under a name."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    blocks: Iterator[bytes]  # what is in it, unpacked; to be read before the next member
    why: str = ""  # it is no file that can be read, in words
