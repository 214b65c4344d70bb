"""What is said of objects that are read bit by bit, by stores of every kind."""

from __future__ import annotations

from app.delivery.targets import Target
from app.errors import NoLinkError, ObjectGoneError, TargetUnavailableError


def no_links(target: Target) -> NoLinkError:
    """Return the error of a store that makes no links to what is there."""
    return NoLinkError(f"{target} makes no links: {target.kind} knows none")


def gone(target: Target, key: str, etag: str) -> ObjectGoneError:
    """Return the error of an object that is not the one which is read."""
    return ObjectGoneError(f"{key} in {target} is not there any more, or not {etag}")


def cut_short(target: Target, key: str) -> TargetUnavailableError:
    """Return the error of bytes that did not come as they were asked for."""
    return TargetUnavailableError(f"{target} gave other bytes of {key} than it was asked for")


def whole_of(target: Target, key: str, length: int, pieces: list[bytes]) -> list[bytes]:
    """Return pieces that have so many bytes together. Raises TargetUnavailableError."""
    if sum(map(len, pieces)) != length:
        raise cut_short(target, key)
    return pieces
