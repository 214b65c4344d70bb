"""Letters that are mended: they don't go back as they came, by a command that knows of no mend."""

from __future__ import annotations

from collections.abc import Iterable

from app.errors import NotPossibleError
from app.views.dead_letters import KeptLetter


def refuse_mended(letters: Iterable[KeptLetter]) -> None:
    """Raise NotPossibleError where one of these is mended; nothing is done yet."""
    for kept in letters:
        if kept.mend is not None:
            raise NotPossibleError(
                f"it is mended: `delivery dead-letters requeue {kept.letter.id}` puts it back so; "
                "nothing was done"
            )
