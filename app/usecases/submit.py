"""Delivery requests arrived: grant each or deny it, once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from app.delivery import outgoing
from app.delivery.formats import AS_FILES
from app.delivery.ingress import DeliveryRequest, IncomingMessage, Opening
from app.delivery.model import Delivery, Denied, Ended
from app.delivery.ports import DeliveryStore, UnitOfWork, Users
from app.delivery.quotas import Over
from app.delivery.requests import parse_request
from app.delivery.states import State, Work
from app.errors import ErrorType, InvalidRequestError, as_cause
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from app.usecases.quotas import let_in, note_waits
from app.waiting.wakeup import Wakeup

log = get_logger(__name__)


async def receive(
    messages: Sequence[IncomingMessage],
    *,
    store: DeliveryStore,
    tenants: ConfiguredTenants,
    users: Users,
    checks: Wakeup,
) -> None:
    """Answer or save requests that arrived, all in one transaction.

    What breaks rules is denied. A delivery whose user is known without asking is granted; others
    are left RECEIVED, `checks` is notified, and `check` asks: no request waits here for rs-admin.
    Those of a tenant in maintenance are left RECEIVED, too, until it is over. So are, held, those
    that a quota has no place for; or they are denied, as their tenant chooses.

    No two of them may have the same tenant and correlation id.
    """
    requests = [(message, await _judge(message)) for message in messages]
    arrived = [message.ingress for message in messages]
    async with store.transaction(locking=[ingress.digest for ingress in arrived]) as tx:
        counted = await tx.record_receipts(arrived)
        openings: list[Opening] = []
        refused: list[IncomingMessage] = []
        for message, request in requests:
            arrived_at = counted.get(message.ingress.id)
            if arrived_at is None:
                refused.append(message)
                _note("request_repeated", message)
                tx.on_commit(metrics.REQUESTS.labels(message.tenant, "repeated").inc)
            elif isinstance(request, InvalidRequestError):
                await _denied(tx, message, ErrorType.INVALID_CONTENT, str(request))
            elif flaws := not_taken(request, arrived_at, tenants=tenants):
                await _denied(tx, message, ErrorType.INVALID_CONTENT, "; ".join(flaws))
            else:
                openings.append(opening(request, arrived_at, tenants=tenants, users=users))
        deliveries, over = await save(tx, openings, tenants=tenants) if openings else ([], {})
        kept = await _wait_or_deny(tx, deliveries, over, tenants=tenants)
        if refused:
            await _tell_again(tx, refused)
    saved = {delivery.id for delivery in deliveries}
    for opened in openings:
        request = opened.request
        if request.id not in saved:
            reason = "a delivery with this correlationId is still active"
            _note("request_ignored", request, reason=reason)
            metrics.REQUESTS.labels(request.tenant, "ignored").inc()
    if any(delivery.work is Work.CHECK for delivery in kept):
        checks.notify()


async def _tell_again(tx: UnitOfWork, refused: Sequence[IncomingMessage]) -> None:
    """Tell how a request was answered that comes again, and was refused as a copy.

    It may not be one: a client that sets no message id has asked for the same again, and RabbitMQ
    has given that twice, as PostgreSQL was away and has only seen the second. It is answered so;
    and who has the answer already is told the same, with the same message id.
    """
    answered = await tx.answered_before(refused)
    for copy in refused:
        told = None
        match answered.get(copy.ingress.id):
            case Ended() as ended:
                told = outgoing.told_again(ended)
            case Denied() as denied:
                told = outgoing.denied_again(copy, denied)
        if told is not None:
            await tx.enqueue(told)


async def _judge(message: IncomingMessage) -> DeliveryRequest | InvalidRequestError:
    """Return the request that a message holds, or which rules it breaks."""
    await asyncio.sleep(0)  # a batch of large ones takes long: leases are renewed meanwhile
    try:
        return parse_request(
            message.body,
            delivery_id=message.ingress.id,
            tenant=message.tenant,
            origin_app=message.origin_app,
            priority=message.priority,
            trace=message.trace,
        )
    except InvalidRequestError as error:
        return error


def not_taken(
    request: DeliveryRequest, at: datetime | None, *, tenants: ConfiguredTenants
) -> list[str]:
    """Return which rules a request breaks that its tenant's settings make, or its time.

    It came in then; None: that is not known yet.
    """
    flaws = (
        unknown_target(request.tenant, request.target, tenants=tenants),
        unnamed(request, tenants=tenants),
        None if at is None else missed(request, at),
    )
    return [flaw for flaw in flaws if flaw is not None]


def unnamed(request: DeliveryRequest, *, tenants: ConfiguredTenants) -> str | None:
    """Return why no archive is called what a request says; None if one is, or it says nothing.

    (The tenant's own name for archives is no rule: of files it says nothing.)
    """
    if not request.archive_template or format_of(request, tenants=tenants) != AS_FILES:
        return None
    return (
        f"delivery.archiveName names an archive, and there is none in the format {AS_FILES}; leave "
        "it out, or choose another format"
    )


def format_of(request: DeliveryRequest, *, tenants: ConfiguredTenants) -> str:
    """Return what a request's files are delivered as: as it says, or its tenant."""
    return request.format or tenants.settings(request.tenant).delivery_format


def unknown_target(tenant: str, name: str, *, tenants: ConfiguredTenants) -> str | None:
    """Return what is wrong with the target that a request of a tenant chooses; None if nothing.

    (One that only another version can use is that version's to judge: its deliveries wait.)
    """
    settings = tenants.settings(tenant)
    if settings.knows(name):
        return None
    known = ", ".join(sorted(settings.names))
    return f"targetDelivery {name[:100]!r} is unknown; there are {known}"


def missed(request: DeliveryRequest, at: datetime) -> str | None:
    """Return why a request that came then comes too late for its deadline; None if it does not."""
    if request.deadline is None or request.deadline > at:
        return None
    return (
        f"delivery.deadline {request.deadline:%FT%TZ} was over when the request came in; ask with "
        "a later one, or without"
    )


def opening(
    request: DeliveryRequest,
    requested_at: datetime | None,
    *,
    tenants: ConfiguredTenants,
    users: Users,
) -> Opening:
    """Return what a request would open, requested then (None: now) by the store's clock."""
    settings = tenants.settings(request.tenant)
    held = settings.quota.limits_requests  # until it is known that there is a place for it
    at_once = (
        not held
        and users.remembers(request.tenant, request.user)
        and not tenants.paused(request.tenant)
    )
    form = format_of(request, tenants=tenants)
    name, prefix = request.archive_template, request.prefix_template
    if form == AS_FILES:
        name = ""
    # Attempts and figures go by the name, of which there are as many as clients think of.
    target = settings.own_name(request.target)
    return Opening(
        request=replace(request, target=target),
        state=State.GRANTED if at_once else State.RECEIVED,
        requested_at=requested_at,
        ttl=settings.request_ttl,
        format=form,
        archive_template=settings.archive_name if name is None else name,
        prefix_template=settings.prefix if prefix is None else prefix,
        held=held,
    )


async def save(
    tx: UnitOfWork,
    openings: Sequence[Opening],
    *,
    tenants: ConfiguredTenants,
) -> tuple[list[Delivery], dict[UUID, Over]]:
    """Save new deliveries, and enqueue what those are told that are granted at once.

    Those whose correlation id is in use by an active one are left out. Of those that a quota has no
    place for, which are held, it is told why, by their ids.
    """
    opened = await tx.open_deliveries(openings)
    deliveries, over = await let_in(tx, opened, tenants=tenants)
    granted = [delivery for delivery in deliveries if delivery.state is State.GRANTED]
    await _granted(tx, granted, tenants=tenants)
    return deliveries, over


async def _wait_or_deny(
    tx: UnitOfWork,
    deliveries: Sequence[Delivery],
    over: Mapping[UUID, Over],
    *,
    tenants: ConfiguredTenants,
) -> list[Delivery]:
    """Deny what is over a quota, or note why it waits; return what is kept."""
    kept, waiting = [], []
    for delivery in deliveries:
        if delivery.id not in over:
            kept.append(delivery)
        elif tenants.settings(delivery.tenant).quota.over_requests == "wait":
            waiting.append(delivery)
        elif await tx.delete_ungranted(delivery):
            why = f"over the quota: {over[delivery.id].words}; ask again later"
            await _denied(tx, delivery, ErrorType.INVALID_CONTENT, why)
    await note_waits(tx, waiting, over)
    return kept + waiting


async def check(
    delivery: Delivery, *, store: DeliveryStore, tenants: ConfiguredTenants, users: Users
) -> None:
    """Ask whether the user of a RECEIVED delivery is known; grant or deny it.

    While that can't be known, RetryableError: an outage delays a request, it does not deny it.
    """
    if await users.known(delivery.tenant, delivery.user):
        async with store.transaction() as tx:
            if await tx.advance(delivery, State.GRANTED):
                await _granted(tx, [delivery], tenants=tenants)
        return
    reason = as_cause(f"order.user {delivery.user} is not a user of tenant {delivery.tenant}")
    async with store.transaction() as tx:
        # Nothing is kept of a request that is denied, but that it was there (the inbox).
        if await tx.delete_ungranted(delivery):
            await _denied(tx, delivery, ErrorType.FORBIDDEN, reason)


async def _granted(
    tx: UnitOfWork, deliveries: Sequence[Delivery], *, tenants: ConfiguredTenants
) -> None:
    owed = []
    for delivery in deliveries:
        limit = tenants.settings(delivery.tenant).order_size_limit_bytes
        owed += [outgoing.granted(delivery), outgoing.order(delivery, size_limit=limit)]
        _note("delivery_granted", delivery, target=delivery.target)
        tx.on_commit(metrics.REQUESTS.labels(delivery.tenant, "granted").inc)
    await tx.enqueue(*owed)


async def _denied(
    tx: UnitOfWork, origin: Delivery | IncomingMessage, error_type: ErrorType, reason: str
) -> None:
    await tx.enqueue(outgoing.denied(origin, error_type, reason))
    request = origin.id if isinstance(origin, Delivery) else origin.ingress.id
    await tx.note_denial(Denied(request=request, error=(error_type.value, reason)))
    _note("delivery_denied", origin, reason=reason)
    tx.on_commit(metrics.REQUESTS.labels(origin.tenant, "denied").inc)


def _note(event: str, origin: Delivery | DeliveryRequest | IncomingMessage, **context: str) -> None:
    log.info(event, tenant=origin.tenant, correlation_id=origin.correlation_id, **context)
