"""How long to wait between tries, and how often to try."""

from __future__ import annotations

import random
from dataclasses import dataclass

MAX_TOLD = 300.0  # seconds that a server may ask for


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """Grow from try to try, and differ from client to client."""

    first: float = 0.5  # seconds
    most: float = 30.0
    tries: int = 8  # in a row without anything gained

    def before(self, number: int, told: float | None = None) -> float:
        """Return the seconds before another try; `told` is what a server asked for."""
        longest = min(self.most, self.first * 2.0 ** min(number - 1, 16))
        drawn = longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret hangs on it
        return drawn if told is None else max(drawn, min(told, MAX_TOLD))


def seconds_of(retry_after: str | None) -> float | None:
    """Return the seconds that a header Retry-After asks for; None: a date, or none."""
    if retry_after and retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:6])
    return None
