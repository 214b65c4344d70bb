"""Links to what was delivered: for those who ask for one, and for what a client is told at the end.

A link opens an object for any client that has it. So it is in no row, no log, no trace and no entry
of the audit trail: that tells for whom one was made, and until when it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from app.audit import Actor, AuditRecord, AuditTrail
from app.delivery.marks import marks_of
from app.delivery.object_store import MAX_LINK, LinkAsked
from app.delivery.outgoing import Kind, OutgoingMessage
from app.delivery.states import Status
from app.errors import (
    DeliveryError,
    NoLinkError,
    NotAllowedError,
    NotPossibleError,
    TargetUnavailableError,
)
from app.telemetry.logs import get_logger
from app.usecases.delivered import Delivered, Item
from app.views.deliveries import Tracked
from app.waiting.backoff import Backoff

log = get_logger(__name__)

Publish = Callable[[OutgoingMessage], Awaitable[None]]

_CONCURRENCY = 10  # links to one target, for what is told at the end, that are made at once
_TIMEOUT = 5.0  # seconds that a target has for one, once it is asked
_LINK_TIMEOUT = 15.0  # seconds after which a client is told without, whatever that is waited for
# In which no link to a target is made that was silent: each time, all that is told waits for it.
_REST = Backoff(first=30.0, longest=300.0)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeLink:
    """A link, and what it leads to."""

    url: str = field(repr=False)
    expires: datetime
    item: Item


class _Turns:
    """Whose turn it is to make links to one target, as long as that answers."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._free = asyncio.Semaphore(_CONCURRENCY)
        self._silences = 0  # in a row
        self._rests_until: datetime | None = None

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a turn, in which the target has its time, however long the wait was.

        Raises TargetUnavailableError when it is silent, and while it was silent just now.
        """
        self._check()
        async with self._free:
            self._check()  # it may have been found out meanwhile
            try:
                async with asyncio.timeout(_TIMEOUT) as asking:
                    yield
            except TimeoutError as error:
                if not asking.expired():
                    raise
                self._rest()
                raise TargetUnavailableError(f"its target was silent for {_TIMEOUT:g} s") from error
            self._silences = 0

    @property
    def _rests(self) -> bool:
        return self._rests_until is not None and self._clock() < self._rests_until

    def _rest(self) -> None:
        if not self._rests:  # those who had a turn at the same time found out the same
            self._rests_until = self._clock() + timedelta(seconds=_REST.pause(self._silences))
            self._silences += 1

    def _check(self) -> None:
        if self._rests and self._rests_until is not None:
            raise TargetUnavailableError(
                f"its target was silent for {_TIMEOUT:g} s: no link to it is made before "
                f"{_told(self._rests_until)}"
            )


@dataclass(frozen=True, kw_only=True)
class Links:
    """Makes links. What `instead` says is told where a store makes none."""

    delivered: Delivered
    instead: str
    clock: Callable[[], datetime] = field(default=_now)

    async def make(
        self,
        actor: Actor,
        tracked: Tracked,
        *,
        trail: AuditTrail,
        path: str | None = None,
        seconds: int | None = None,
    ) -> MadeLink:
        """Make a link to what has a path (see `Delivered.find`), and note that in the trail.

        It holds for `seconds`, no longer than `link_ttl`, nor than what it leads to stays, nor
        than any store takes (MAX_LINK). Raises
        NotAllowedError where the tenant has none, NotPossibleError, UnknownDeliveryError,
        DeliveredGoneError.
        """
        longest = self.delivered.link_ttl(tracked.delivery.tenant)
        if not longest:
            raise NotAllowedError(
                f"tenant {tracked.delivery.tenant} has no links: its setting link_ttl is 0; an "
                "administrator may set it to the hours for which they shall hold"
            )
        item = await self.delivered.find(tracked, path)
        most = int(longest.total_seconds())
        made = await self._made(tracked, item, most if seconds is None else min(seconds, most))
        await trail.record(
            AuditRecord(
                actor=actor,
                action="link",
                subject=f"delivery {tracked.delivery.correlation_id}",
                before=None,
                after={
                    "path": path or item.name,
                    "expires": _told(made.expires),
                },
            )
        )
        log.info(
            "link_made",
            **tracked.delivery.log_context,
            actor=actor.name,
            role=actor.role,
            object=item.key,
            expires=_told(made.expires),
        )
        return made

    def _end_of(self, tracked: Tracked) -> datetime | None:
        """Return when what is linked is removed; None: it stays. Of a report, no client is told."""
        if tracked.told.expires is not None:
            return datetime.fromisoformat(tracked.told.expires)
        stays = self.delivered.stays(tracked.delivery.tenant)
        if tracked.told.report_url is None or tracked.finished_at is None or not stays:
            return None
        return tracked.finished_at + stays

    async def _made(self, tracked: Tracked, item: Item, seconds: int) -> MadeLink:
        now = self.clock()
        seconds = min(seconds, int(MAX_LINK.total_seconds()))
        ends = self._end_of(tracked)
        if ends is not None:
            # After that the place may hold another user's: a link names a place, and no object.
            seconds = max(1, min(seconds, int((ends - now).total_seconds())))
        asked = LinkAsked(
            at=now,
            seconds=seconds,
            name=item.name,
            media_type=item.media_type,
            marks=marks_of(tracked.delivery),
        )
        linking = self.delivered.objects.link(item.target, item.key, asked)
        try:
            url = await self.delivered.asked(item.target, linking)
        except NoLinkError as error:
            raise NotPossibleError(f"{error}; {self.instead}") from error
        return MadeLink(url=url, expires=asked.until, item=item)

    def told_by(self, publish: Publish) -> Publish:
        """Return what publishes, and tells a link where something is done and its tenant has them.

        It is made right before, each time: what is told again, or late, has a link that holds. A
        client is told without one where none can be made now, rather than later. Each target has
        turns of its own: one that is slow takes the links of no other's deliveries.
        """
        turns: defaultdict[tuple[str, str], _Turns] = defaultdict(lambda: _Turns(self.clock))

        async def publish_with_link(owed: OutgoingMessage) -> None:
            done = owed.kind is Kind.RESPONSE and owed.body.get("status") == Status.DONE.value
            if done and self.delivered.tenants.works_for(owed.tenant):
                longest = self.delivered.link_ttl(owed.tenant)
                if longest:
                    owed = await self._with_link(owed, longest, turns)
            await publish(owed)

        return publish_with_link

    async def _with_link(
        self,
        owed: OutgoingMessage,
        longest: timedelta,
        turns: Mapping[tuple[str, str], _Turns],
    ) -> OutgoingMessage:
        try:
            async with asyncio.timeout(_LINK_TIMEOUT):
                tracked = await self.delivered.tracking.one(owed.tenant, owed.delivery_id)
                if tracked is None:
                    return owed
                async with turns[owed.tenant, tracked.delivery.target].taken():
                    item = await self.delivered.find(tracked, None)
                    made = await self._made(tracked, item, int(longest.total_seconds()))
        except (DeliveryError, TimeoutError) as error:
            cause = str(error) or f"it was not made within {_LINK_TIMEOUT:g} s"
            # Of a store that makes none, it is no news.
            tell = log.info if isinstance(error, NotPossibleError) else log.warning
            tell(
                "link_not_made",
                tenant=owed.tenant,
                correlation_id=owed.correlation_id,
                cause=cause,
                consequence="its client is told DONE without one; it may ask for one over HTTP",
            )
            return owed
        except Exception:  # whatever it was: what is done must be told
            log.exception("link_not_made", tenant=owed.tenant, correlation_id=owed.correlation_id)
            return owed
        told = {"httpUrl": made.url, "httpUrlExpires": _told(made.expires)}
        return replace(owed, body=owed.body | told)


def _told(at: datetime) -> str:
    return at.isoformat("T", "seconds")
