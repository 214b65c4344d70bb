"""Events go to webhooks: what is due to one, sent side by side; what comes of it, noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from app.delivery.webhooks import (
    GIVEN_UP_AFTER,
    Answer,
    Claim,
    OwedEvent,
    Post,
    Round,
    Webhook,
    WebhookOutbox,
    WebhookSender,
)
from app.telemetry import metrics
from app.telemetry.logs import get_logger

log = get_logger(__name__)

_ROUND = 20  # events of a claim
# Seconds of a round after which no further event begins: one that takes each event slowly holds its
# place no longer than one that takes none, and its claim lasts.
_ROUND_TIME = 5.0
_CONCURRENCY = 4  # events under way to one webhook
_MAX_ASKED = timedelta(hours=6)  # that a webhook may have itself left alone


@dataclass(frozen=True, kw_only=True)
class Courier:
    """Sends to one webhook at a time; several rounds may run side by side, in many workers.

    A crash between an answer and its note sends an event again, with the same id.
    """

    outbox: WebhookOutbox
    webhooks: Callable[[], Iterable[Webhook]]  # of all tenants, that can be sent to
    sender: WebhookSender
    given_up_after: timedelta = GIVEN_UP_AFTER
    clock: Callable[[], float] = time.monotonic

    async def claim(
        self, *, steady: bool = False, has_room: Callable[[Webhook], bool] = lambda _: True
    ) -> Claim | None:
        """Take a webhook that something is due to, of those that there is room for.

        With `steady`, none that fails.
        """
        known = [webhook for webhook in self.webhooks() if webhook.usable and has_room(webhook)]
        return await self.outbox.claim(known, limit=_ROUND, steady=steady) if known else None

    async def serve(self, claim: Claim, *, stopping: Callable[[], bool] = lambda: False) -> Round:
        """Send what a claim gave, and give it back.

        After one that is not taken no other begins, nor once the round has lasted long, nor while
        this process stops. Raises StoreUnavailableError: then the claim runs out, and what was not
        noted is sent again.
        """
        course = _Course(claim=claim)
        async with self.sender.to(claim.webhook) as post:
            waiting, ends = iter(claim.due), self.clock() + _ROUND_TIME

            async def work() -> None:
                for owed in waiting:
                    if course.done.failure is not None or stopping() or self.clock() > ends:
                        return
                    course.note(await self._send(claim.webhook, owed, post))

            async with asyncio.TaskGroup() as group:
                for _ in range(min(_CONCURRENCY, len(claim.due))):
                    group.create_task(work())
        await self.outbox.release(claim, course.done, given_up_after=self.given_up_after)
        _tell(claim, course.done)
        return course.done

    async def _send(self, webhook: Webhook, owed: OwedEvent, post: Post) -> Answer:
        event = owed.event
        answer = await post(event, owed.happened_at)
        told = {
            "tenant": webhook.tenant,
            "webhook": webhook.name,
            "type": event.type,
            "correlation_id": event.correlation_id,
            "message_id": str(event.id),
        }
        if answer.taken:
            await self.outbox.sent(owed)
            metrics.WEBHOOK_EVENTS.labels(webhook.tenant, "taken").inc()
            log.debug("webhook_event_sent", **told)
            return answer
        dead = await self.outbox.failed(owed, answer.flaw, given_up_after=self.given_up_after)
        metrics.WEBHOOK_EVENTS.labels(webhook.tenant, "dead" if dead else "failed").inc()
        if dead:
            log.error(
                "webhook_event_dead",
                **told,
                cause=answer.flaw,
                advice=f"mend the webhook, then POST /webhooks/{webhook.name}/resend",
            )
        return answer


@dataclass
class _Course:
    """What came of a claim until now."""

    claim: Claim
    done: Round = field(default_factory=Round)

    def note(self, answer: Answer) -> None:
        """Add what came of one event."""
        if answer.taken:
            self.done = replace(self.done, sent=self.done.sent + 1)
            return
        asked = min(answer.retry_after or timedelta(), _MAX_ASKED)
        self.done = replace(
            self.done,
            failure=answer.flaw,
            pause=max(asked, self.done.pause or timedelta()),
            throttles=self.done.throttles or answer.throttles,
            gone=self.done.gone or answer.gone,
        )


def _tell(claim: Claim, done: Round) -> None:
    """Log when a webhook begins to fail, and when it takes events again."""
    webhook = claim.webhook
    told = {"tenant": webhook.tenant, "webhook": webhook.name}
    if done.gone:
        log.error(
            "webhook_gone",
            **told,
            cause=done.failure,
            consequence="nothing is sent there any more; what was owed is dead",
            advice=f"change its url, or POST /webhooks/{webhook.name}/test once it is back",
        )
    elif done.failure is not None and not claim.failing:
        log.warning(
            "webhook_failed", **told, cause=done.failure, consequence="it is tried again later"
        )
    elif done.sent and claim.failing:
        log.info("webhook_takes_events_again", **told)
