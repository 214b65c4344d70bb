"""What a client may ask its files to be delivered as (contract, section 6): `delivery.format`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

AS_FILES = "files"  # no archive: plain objects, and a manifest of them
# Those that this version makes, each by one of `sinks.formats`, or as they are.
FORMATS: tuple[str, ...] = ("zip", "tar", "tar.zst", AS_FILES)
DEFAULT_FORMAT = FORMATS[0]
# Where the format chooses for each file, it is stored unless its sample shrinks below so much of
# itself: what gains less costs several times as much of the processor for each byte that is spared
# (docs/performance.md).
DEFAULT_THRESHOLD = 0.9


def _made(name: str) -> str:
    """Refuse what this version does not make."""
    if name not in FORMATS:
        *others, last = FORMATS
        raise ValueError(
            f"must be {', '.join(others)} or {last}; {name[:100]!r} is not a format this version "
            "makes"
        )
    return name


# A word, and no enum: one that a later version has written in a row or a setting can be read.
FormatName = Annotated[str, AfterValidator(_made), Field(json_schema_extra={"enum": list(FORMATS)})]
