"""Formats of archives: each is a file here, and an entry of `FORMATS`."""

from __future__ import annotations

from app.errors import RetryableError
from sinks.formats.archive_format import ArchiveFormat
from sinks.formats.zip import Zip

FORMATS: tuple[ArchiveFormat, ...] = (Zip(),)
DEFAULT = FORMATS[0]  # what archives are planned as


def format_of(archive_name: str) -> ArchiveFormat:
    """Return the format that an archive was planned as, which its name tells.

    By the name, and not by what is planned today: a delivery may have been planned before. Raises
    RetryableError for a name of none of these: a worker of another version may know it.
    """
    for known_format in FORMATS:
        if archive_name.endswith(known_format.suffix):
            return known_format
    known = ", ".join(known_format.suffix for known_format in FORMATS)
    raise RetryableError(
        f"{archive_name} is of no format that this worker knows ({known}): one of the version that "
        "planned it can make it"
    )
