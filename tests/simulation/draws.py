"""Every choice of a night is drawn from its seed, by each party from a stream of its own.

What one party draws more or less does not change what the others draw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random


@dataclass
class Draws:
    """The streams of one seed."""

    seed: int
    _streams: dict[str, Random] = field(default_factory=dict)

    def of(self, party: str) -> Random:
        """Return a party's stream."""
        if party not in self._streams:
            self._streams[party] = Random(f"{self.seed}/{party}")
        return self._streams[party]
