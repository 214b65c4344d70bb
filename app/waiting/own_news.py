"""What a process has committed is told to itself, while the line that tells it to all is cut."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

About = TypeVar("About", bound=Hashable)


class OwnNews(Generic[About]):
    """Tells one listener of this process what its own commits are about, while that one wants it.

    While its line is there, it does not: what comes by both would be looked for twice.
    """

    def __init__(self) -> None:
        self._listener: Callable[[frozenset[About]], object] | None = None

    def listen(self, told: Callable[[frozenset[About]], object]) -> None:
        """Call `told` at each commit from now on."""
        self._listener = told

    def stop_listening(self) -> None:
        """Call nothing from now on."""
        self._listener = None

    def tell(self, about: frozenset[About]) -> None:
        """Pass on what a commit was about."""
        if self._listener is not None:
            self._listener(about)
