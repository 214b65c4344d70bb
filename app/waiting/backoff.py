"""How long to pause between two tries: the one place where pauses grow.

What PostgreSQL postpones row by row (messages of the outbox, events that count as lost) doubles in
the statement that postpones it, since each row has its own count.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenacity import RetryCallState

_MAX_DOUBLINGS = 1000  # so many still fit into a float; the longest pause is reached long before


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """Pauses in seconds, each twice the one before, up to the longest."""

    first: float  # seconds, after the first failure
    longest: float  # seconds

    def pause(self, failures: int, asked: float | None = None) -> float:
        """Return the pause after so many failures before the last one.

        `asked` are the seconds that the other side asked for: it is never asked again before.
        """
        grown = self.first * 2.0 ** min(failures, _MAX_DOUBLINGS)
        return max(min(grown, self.longest), asked or 0.0)

    def jittered(self, failures: int) -> float:
        """Return between half of the pause and the whole of it, drawn each time.

        For where many processes fail at the same moment, so that they don't come back at the same
        moment. Where one asks on behalf of all that wait, the plain pause is as good.
        """
        return self.pause(failures) * random.uniform(0.5, 1)  # noqa: S311 - no secret

    def pauses(self) -> Iterator[float]:
        """Iterate over the pauses after the first failure, the second, and so on, without end."""
        return map(self.pause, itertools.count())

    def between_attempts(self, state: RetryCallState) -> float:
        """Return the pause before the next attempt, as tenacity asks for it (`wait=`)."""
        return self.pause(state.attempt_number - 1)
