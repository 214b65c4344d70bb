"""`/deliveries/…/events`: deliveries as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable

from aiohttp import web
from aiohttp_sse import sse_response

from app.model import Progress
from app.tracking import Change, Changes, Tracked, Tracking
from web import schemas
from web.deliveries import Find, find
from web.endpoint import ACTOR, OPERATORS, USERS, Endpoint
from web.feed import Feed, Frame, Watcher, progress_frame, state_frame

_LONGEST = 3600.0  # seconds that a stream lasts: then the token is looked at again
_REPLAYED = 10_000  # steps that a reader who was away is told, at most; the rest is in the list
_PAGE = 1000
_PING = 15.0  # seconds between comments: proxies close a stream that is silent
_RETRY = 2000  # milliseconds before a client comes again
_NUMBER = re.compile(r"[0-9]{1,18}")


class EventsApi:
    """The handlers."""

    def __init__(self, feed: Feed, tracking: Tracking, changes: Changes, progress: Find) -> None:
        self._feed = feed
        self._tracking = tracking
        self._changes = changes
        self._progress = progress

    async def one(self, request: web.Request) -> web.StreamResponse:
        """Tell what happens to a delivery until it has ended, after what has happened."""
        actor = request[ACTOR]
        name = request.match_info["correlation_id"]
        async with self._feed.watching(actor.tenant, name) as watcher:
            newest = (await find(request, self._tracking))[0]
            last = _last_event(request)
            told = await self._told(newest, last)
            if newest.ended and not told:
                # It has heard everything: a browser that comes again for ever stops at this.
                return web.Response(status=204)
            now = self._progress(actor.tenant, newest.delivery.correlation_id)
            frames = [*told, *_current(newest, now)]
            heard = max((frame.id for frame in told), default=last)
            return await _stream(request, watcher, frames, lambda step: step <= heard, ends=True)

    async def _told(self, newest: Tracked, last: int) -> list[Frame]:
        steps = await self._tracking.steps(newest.delivery.id)
        return [state_frame(Change(step=step, tracked=newest)) for step in steps if step.id > last]

    async def all(self, request: web.Request) -> web.StreamResponse:
        """Tell what happens to the tenant's deliveries from now, or from the last event, on."""
        actor = request[ACTOR]
        async with self._feed.watching(actor.tenant) as watcher:
            last = _last_event(request)
            told = await self._missed(actor.tenant, last) if last else []
            replayed = {frame.id for frame in told}
            return await _stream(request, watcher, told, replayed.__contains__, ends=False)

    async def _missed(self, tenant: str, last: int) -> list[Frame]:
        frames: dict[int, Frame] = {}
        while len(frames) < _REPLAYED:
            changes = await self._changes.replay(tenant, last, limit=_PAGE)
            frames |= {change.step.id: state_frame(change) for change in changes}
            if len(changes) < _PAGE:
                break
            last = changes[-1].step.id
        return list(frames.values())

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        last = {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The last event that was heard: what came after it is told first.",
            "schema": {"type": "integer"},
        }
        stream = {
            200: {
                "description": "Events `state` (with ids) and `progress`, as they happen.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        }
        errors = schemas.errors(401, 403, 429, 503)
        return [
            Endpoint(
                method="GET",
                path="/deliveries/events",
                handler=self.all,
                summary="What happens to the tenant's deliveries, as a stream",
                tag="events",
                roles=OPERATORS,
                stream=True,
                parameters=(last,),
                responses=stream | errors,
            ),
            Endpoint(
                method="GET",
                path="/deliveries/{correlation_id}/events",
                handler=self.one,
                summary="What happens to a delivery, as a stream; ends with it",
                tag="events",
                roles=USERS,
                stream=True,
                parameters=(schemas.path("correlation_id", "Correlation id."), last),
                responses=stream
                | {204: {"description": "It has ended, and all of it was heard."}}
                | schemas.errors(404)
                | errors,
            ),
        ]


def _last_event(request: web.Request) -> int:
    given = request.headers.get("Last-Event-ID", "")
    return int(given) if _NUMBER.fullmatch(given) else 0


def _current(tracked: Tracked, progress: Progress | None) -> list[Frame]:
    if tracked.ended or progress is None or progress.attempt != tracked.delivery.attempt:
        return []
    return [progress_frame(progress)]


async def _stream(
    request: web.Request,
    watcher: Watcher,
    told: list[Frame],
    known: Callable[[int], bool],
    *,
    ends: bool,
) -> web.StreamResponse:
    """Write what is told, then what happens; no step twice. With `ends`, up to the last one."""
    batch: list[Frame] | None = told
    async with sse_response(request, ping_interval=_PING) as response:
        watcher.cut = _cutter(request)
        # A client that is gone is noticed by the next comment, though nothing else happens.
        connected = asyncio.create_task(response.wait())
        connected.add_done_callback(lambda _: watcher.let_go())
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            # At the end, or when it is too slow, the client comes again, with the last id.
            async with asyncio.timeout(_LONGEST):
                await response.write(f"retry: {_RETRY}\r\n\r\n".encode())
                while batch is not None:
                    if batch:
                        await response.write(b"".join([frame.data for frame in batch]))
                    if ends and any(frame.last for frame in batch):
                        break
                    batch = await watcher.frames()
                    if batch is not None and any(frame.id and known(frame.id) for frame in batch):
                        batch = [frame for frame in batch if not frame.id or not known(frame.id)]
    return response


def _cutter(request: web.Request) -> Callable[[], object]:
    def cut() -> None:
        if request.transport is not None:
            request.transport.abort()

    return cut
