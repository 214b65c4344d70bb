"""The group that archives are given to."""

from __future__ import annotations

import grp

from app.errors import TargetRefusedError
from sinks.stores.file.target import FileTarget


def group_id(target: FileTarget) -> int:
    """Return the number of a target's group. Raises TargetRefusedError: there is none."""
    assert target.group is not None  # noqa: S101 - it is asked for where one is set
    if target.group.isdecimal():
        return int(target.group)
    try:
        return grp.getgrnam(target.group).gr_gid
    except KeyError as error:
        raise TargetRefusedError(
            f"{target}: this worker knows no group {target.group!r}: correct `group`, or give its "
            "number"
        ) from error
