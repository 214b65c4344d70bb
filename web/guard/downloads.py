"""How many downloads a process has under way, and how each ends before its file does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from aiohttp import web

from app.audit import Actor
from app.telemetry.metrics import CONTENT_DOWNLOADS


class Downloads:
    """Lets `most` be under way at once: of these `per_tenant`, and `per_user`; 0 lets none."""

    def __init__(self, most: int, *, per_tenant: int = 10, per_user: int = 2) -> None:
        self._most = most
        self._per_tenant = per_tenant
        self._per_user = per_user
        self._running: dict[int, tuple[web.Request, Actor]] = {}  # requests have no hash

    def __len__(self) -> int:
        return len(self._running)

    @property
    def on(self) -> bool:
        """Whether there are any."""
        return self._most > 0

    @contextlib.contextmanager
    def taken(self, request: web.Request, actor: Actor) -> Iterator[str | None]:
        """Have a place within the block: give None, or what is full where there is none."""
        full = self._full(actor)
        if full is not None:
            yield full
            return
        self._running[id(request)] = request, actor
        CONTENT_DOWNLOADS.inc()
        try:
            yield None
        finally:
            del self._running[id(request)]
            CONTENT_DOWNLOADS.dec()

    def _full(self, actor: Actor) -> str | None:
        others = [other for _, other in self._running.values()]
        running = [other for other in others if other.tenant == actor.tenant]
        if sum(other.name == actor.name for other in running) >= self._per_user:
            return "too many downloads of yours are under way; let one end first"
        if len(running) >= self._per_tenant:
            return "too many downloads of your tenant are under way; come again later"
        if len(self._running) >= self._most:
            return "too many downloads are under way here; come again later"
        return None

    async def release(self, _site: web.Application) -> None:
        """Break all off: they would hold up a server that stops. A client goes on by a range."""
        for request, _ in [*self._running.values()]:
            if request.transport is not None:
                request.transport.abort()
