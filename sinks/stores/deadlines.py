"""What calls of stores may take, in seconds."""

from __future__ import annotations

CALL_TIMEOUT = 30.0  # from a call's first try to its last byte
# In which a completion is asked for after it was noted that it may be: with its own deadline, less
# than the time after which others take it for decided (`app.usecases.transfer`).
COMPLETION_WINDOW = 45.0
_PART_TIMEOUT = 120.0  # and what its bytes take at the slowest pace
_MIN_RATE = 256 * 1024  # bytes a second


def for_part(size: int) -> float:
    """Return how long a part of so many bytes may take."""
    return _PART_TIMEOUT + size // _MIN_RATE
