"""`/deliveries/…/events`: deliveries as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from app.audit import Actor
from app.delivery.progress import Progress
from app.delivery.states import State
from app.errors import UnknownDeliveryError
from app.views.deliveries import Change, Changes, Filter, Tracked, Tracking
from app.views.stalls import ReportOf
from app.waiting.slices import in_slices
from web import schemas
from web.api.deliveries import WhichQuery, choose, find, own_only
from web.endpoint import ACTOR, READERS, USERS, Endpoint
from web.feed import (
    Feed,
    Frame,
    Subscriber,
    expired_frame,
    mark_frame,
    progress_frame,
    reload_frame,
    step_frame,
)
from web.guard.errors import EXPIRED, NotSignedInError
from web.guard.permits import PERMIT

_CLOSE_TIMEOUT = 5.0  # seconds for a client to take what is said last
_RECONNECT_DELAY = 2000  # milliseconds before a client comes again
_MAX_TRANSFERRING = 500  # of a user at once, whose progress is told from the beginning
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, kw_only=True)
class StreamLimits:
    """How long a stream is, and how much is told on it."""

    duration: float = 3600.0  # seconds that it lasts, if its token does
    replayed: int = 1000  # steps that a reader who was away is told, at most; the rest it looks up
    ping_interval: float = 15.0  # seconds between comments: proxies close one that is silent


class EventsApi:
    """The handlers."""

    def __init__(
        self,
        feed: Feed,
        tracking: Tracking,
        changes: Changes,
        progress: ReportOf,
        *,
        limits: StreamLimits | None = None,
    ) -> None:
        self._feed = feed
        self._tracking = tracking
        self._changes = changes
        self._progress = progress
        self._limits = limits or StreamLimits()

    async def one(self, request: web.Request) -> web.StreamResponse:
        """Stream what happens to a delivery until it has ended, after what has happened."""
        actor, last = request[ACTOR], _last_event(request)
        until = _end(actor, self._limits.duration)
        delivery = choose(request, await find(request, self._tracking)).delivery
        async with self._feed.watching(actor.tenant, delivery.id) as subscriber:
            now = await self._tracking.one(actor.tenant, delivery.id)
            if now is None:
                raise UnknownDeliveryError(f"{delivery} is not kept any more")
            steps = await self._tracking.steps(delivery.id)
            missed = [step for step in steps if step.id > (last or 0)]
            if now.ended and not missed:
                # It has heard everything: a browser that comes again for ever stops at this.
                return web.Response(status=204)
            most = self._limits.replayed
            steps_told = [Change(step=step, tracked=now) for step in missed[:most]]
            told = await in_slices(step_frame, steps_told)
            if len(missed) > most:
                told.append(reload_frame(missed[-1].id, last=now.ended))
            told += _current(now, self._progress(now.delivery))
            known = {step.id for step in steps}.__contains__
            stream = _Stream(request, subscriber, known, self._limits, ends=True)
            return await stream.write(told, until)

    async def all(self, request: web.Request) -> web.StreamResponse:
        """Stream what happens to the tenant's deliveries from now, or from the last event, on.

        A user who sees only their own hears of those alone.
        """
        actor, last = request[ACTOR], _last_event(request)
        until = _end(actor, self._limits.duration)
        async with self._feed.watching(actor.tenant, user=own_only(actor)) as subscriber:
            subscriber.transferring |= await self._transferring(subscriber)
            if last is None:
                told = [mark_frame(await self._mark(subscriber))]
            else:
                told = await self._missed(subscriber, last)
            known = {frame.id for frame in told}.__contains__
            stream = _Stream(request, subscriber, known, self._limits, ends=False)
            return await stream.write(told, until)

    async def _missed(self, subscriber: Subscriber, last: int) -> list[Frame]:
        most = self._limits.replayed
        changes = await self._changes.replay(
            subscriber.tenant, last, limit=most + 1, user=subscriber.user
        )
        told = await in_slices(step_frame, changes[:most])
        if len(changes) > most:
            mark = max(told[-1].id, await self._mark(subscriber))
            told.append(reload_frame(mark, last=False))
        return told

    async def _mark(self, subscriber: Subscriber) -> int:
        """Return the number of the newest step that one may hear of, when the stream begins.

        The newest of all would tell a user how much happens to others.
        """
        if subscriber.user is None:
            return subscriber.since
        return await self._changes.last_of(
            subscriber.tenant, subscriber.user, until=subscriber.since
        )

    async def _transferring(self, subscriber: Subscriber) -> set[UUID]:
        """Return the user's deliveries whose transfers are under way when the stream begins.

        Of the others, a step that is told comes first.
        """
        if subscriber.user is None:
            return set()
        # Not by its checks: to those, no name means any.
        own = {"user": subscriber.user, "states": [State.TRANSFERRING]}
        wanted = Filter().model_copy(update=own)
        found = await self._tracking.browse(
            [subscriber.tenant], wanted, before=None, limit=_MAX_TRANSFERRING
        )
        return {tracked.delivery.id for tracked in found}

    async def release(self, _site: web.Application) -> None:
        """Let all streams end: they would hold up a server that stops."""
        self._feed.release()

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
                "description": "Events `state` and `content` (with ids), and `progress`, as they "
                "happen; `reload` when more was missed than is told, `expired` when the token ends "
                "it.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        }
        errors = schemas.errors(401, 403, 429, 503)
        return [
            Endpoint(
                method="GET",
                path="/deliveries/events",
                operation="followDeliveries",
                handler=self.all,
                summary="What happens to the tenant's deliveries, as a stream; a REGISTERED_USER "
                "hears of their own",
                tag="events",
                roles=USERS | READERS,
                stream=True,
                parameters=(last,),
                responses=stream | errors,
            ),
            Endpoint(
                method="GET",
                path="/deliveries/{correlation_id}/events",
                operation="followDelivery",
                handler=self.one,
                summary="What happens to a delivery, as a stream; ends with it",
                tag="events",
                roles=USERS | READERS,
                stream=True,
                parameters=(schemas.path("correlation_id", "Correlation id."), last),
                query=WhichQuery,
                responses=stream
                | {204: {"description": "It has ended, and all of it was heard."}}
                | schemas.errors(404)
                | errors,
            ),
        ]


def _last_event(request: web.Request) -> int | None:
    """Return the number that a reader heard last; 0: there was none when its stream began."""
    given = request.headers.get("Last-Event-ID", "")
    return int(given) if _NUMBER.fullmatch(given) else None


def _current(tracked: Tracked, progress: Progress | None) -> list[Frame]:
    delivery = tracked.delivery
    if tracked.ended or delivery.parked or progress is None or progress.attempt != delivery.attempt:
        return []
    return [progress_frame(progress)]


def _end(actor: Actor, duration: float) -> float:
    """Return when a stream must end: with the token, at the latest. Raises NotSignedInError."""
    now = time.time()
    if actor.expires is None:
        return now + duration
    if actor.expires <= now:  # what is granted to clocks that differ is too short for a stream
        raise NotSignedInError(EXPIRED)
    return min(actor.expires, now + duration)


def _end_now(limit: asyncio.Timeout) -> None:
    if not limit.expired():  # else its own time was over in this very turn
        limit.reschedule(asyncio.get_running_loop().time())


class _Stream:
    """Writes what is told, then what happens; no step twice. With `ends`, up to the last one."""

    def __init__(
        self,
        request: web.Request,
        subscriber: Subscriber,
        known: Callable[[int], bool],
        limits: StreamLimits,
        *,
        ends: bool,
    ) -> None:
        self._request = request
        self._watcher = subscriber
        self._known = known
        self._limits = limits
        self._ends = ends

    async def write(self, told: list[Frame], until: float) -> web.StreamResponse:
        """Write until it ends, the client is gone, or the time is over."""
        actor, permit = self._request[ACTOR], self._request[PERMIT]
        ping = self._limits.ping_interval
        async with sse_response(self._request, ping_interval=ping) as response:
            self._watcher.disconnect = self._disconnect
            self._watcher.gone = self._gone
            # A client that is gone is noticed by the next comment, though nothing else happens.
            connected = asyncio.create_task(response.wait())
            connected.add_done_callback(lambda _: self._watcher.close())
            # At the end, or when it is too slow, the client comes again, with the last id.
            with contextlib.suppress(ConnectionResetError):
                try:
                    async with asyncio.timeout(until - time.time()) as limit:
                        permit.ends_by(partial(_end_now, limit))
                        try:
                            await self._follow(response, told)
                        finally:
                            permit.ends_by(lambda: None)
                except TimeoutError:
                    why = EXPIRED if actor.expires is not None and actor.expires <= until else None
                    if permit.withdrawn is not None:
                        why = permit.withdrawn if permit.signed_out else None
                    await self._part(response, expired_frame(why) if why is not None else None)
        return response

    async def _follow(self, response: EventSourceResponse, told: list[Frame]) -> None:
        await response.write(f"retry: {_RECONNECT_DELAY}\r\n\r\n".encode())
        batch: list[Frame] | None = told
        while batch is not None:
            if batch:
                await response.write(b"".join([frame.data for frame in batch]))
            if self._ends and any(frame.last for frame in batch):
                return
            batch = await self._watcher.frames()
            if batch is not None and any(frame.id and self._known(frame.id) for frame in batch):
                batch = [frame for frame in batch if not frame.id or not self._known(frame.id)]

    async def _part(self, response: EventSourceResponse, frame: Frame | None) -> None:
        """Say why it ends; a client that takes nothing does not hold it up."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await response.write(b": end\r\n\r\n" if frame is None else frame.data)
        except TimeoutError:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    def _gone(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()
