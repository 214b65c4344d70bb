"""Whether who asked for what lasts, a stream or a download, may still have it."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


class Permit:
    """Holds until it is withdrawn; then what it was given for ends."""

    def __init__(self) -> None:
        self.withdrawn: str | None = None  # why, in words
        self.signed_out = False  # whether that is as the token is good no more
        self._end: Callable[[], object] = lambda: None

    def withdraw(self, why: str, *, signed_out: bool) -> None:
        """End what it was given for."""
        self.withdrawn, self.signed_out = why, signed_out
        self._end()

    def ends_by(self, end: Callable[[], object]) -> None:
        """Have this be called when it is withdrawn, or at once where it is."""
        self._end = end
        if self.withdrawn is not None:
            end()


PERMIT: web.RequestKey[Permit] = web.RequestKey("permit", Permit)
