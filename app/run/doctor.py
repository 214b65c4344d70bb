"""Looks at all that the service depends on; leaves nothing changed, and stops at no problem."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, product

from app.delivery.targets import Probe, Target, TargetCheck
from app.errors import UNFORESEEN, DeliveryError
from app.run.wiring.database import connected
from app.run.wiring.formats import memory_lack_of
from app.run.wiring.targets import check_stores, open_trial
from app.run.wiring.tenants import unread_tenants
from app.settings import Settings
from app.store.checkup import check_postgresql
from app.tenants.places import shared
from app.tenants.registry import ConfiguredTenants
from app.tenants.secret_rules import weaknesses
from app.views.deliveries import Depth, Filter, OverdueContents, Overview, PlacesHeld, Tracking
from app.views.findings import Finding, bad, good
from app.views.webhooks import webhooks_found
from sinks.pipeline.digest import BUILD_ADVICE, without_checkpoints
from streams.operators.checkup import check_kafka, check_rabbitmq, check_rs_order

_ERROR_WINDOW = timedelta(hours=1)
_OVERDUE_LONG = 21600.0  # seconds that a content stays longer than it was told
_HELD_LONG = 3600.0  # seconds that rs-order does not say whether a place is free
_PARKED_LONG = 10800.0  # seconds that an archive waits for a suborder before it is told
_PROBE_CONCURRENCY = 8  # targets at once


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Give findings as they come."""
    for finding in check_keys(settings):
        yield finding
    schema_good = True
    async for finding in check_postgresql(settings):
        schema_good &= finding.ok or finding.check not in ("certificates", "reachable", "schema")
        yield finding
    async for finding in check_rabbitmq(settings):
        yield finding
    async for finding in check_kafka(settings):
        yield finding
    async for finding in check_rs_order(settings):
        yield finding
    tenants = unread_tenants(settings)
    if schema_good:
        async for finding in _on_database(settings, tenants):
            yield finding
    async for finding in check_targets(settings, tenants):
        yield finding
    yield check_checkpoints()
    yield check_memory(settings)


def check_memory(settings: Settings) -> Finding:
    """Look whether archives of every format can be made in the memory that is set."""
    lack = memory_lack_of(settings)
    if lack is None:
        return good("transfers", "memory", "enough for an archive of each format")
    cause, _, advice = lack.partition(": ")
    return bad("transfers", "memory", f"{cause}; a worker would not start", advice)


def check_checkpoints() -> Finding:
    """Look whether transfers from this installation can be gone on with."""
    flaw = without_checkpoints()
    if flaw is None:
        return good("transfers", "checkpoints", "a transfer that breaks off can be gone on with")
    return bad(
        "transfers",
        "checkpoints",
        f"no checkpoints: {flaw}; a transfer that breaks off begins again from its first file, "
        "and an archive that waits for a suborder keeps its worker's memory",
        BUILD_ADVICE,
    )


def check_keys(settings: Settings) -> list[Finding]:
    """Look at keys and secrets: what seals, what signs, what is weak."""
    found = []
    if settings.secret_keys:
        found.append(good("keys", "secret keys", f"{len(settings.secret_keys)} set"))
    else:
        found.append(
            bad(
                "keys",
                "secret keys",
                "DELIVERY_SECRET_KEYS is not set: tenants' secrets can't be sealed",
                "make a key with `delivery make-key`, keep it safe, give it to every process",
            )
        )
    if settings.development:
        warning = (
            "DELIVERY_DEVELOPMENT is on: weak secrets are accepted; for trying things out only"
        )
        found.append(good("keys", "development", warning))
    for weak in weaknesses(settings):
        if settings.development:
            found.append(good("keys", weak.setting, weak.what))
        else:
            found.append(bad("keys", weak.setting, weak.what, weak.advice))
    if settings.jwt_public_key and not settings.jwt_secret.get_secret_value():
        summary = "tokens are checked with an RSA key; those of a shared secret are refused"
        found.append(good("keys", "sign-in", summary))
    elif settings.jwt_secret.get_secret_value():
        found.append(good("keys", "sign-in", "tokens of callers can be checked"))
    elif settings.rs_order_token_secret.get_secret_value():
        found.append(good("keys", "sign-in", "tokens are checked with rs-order's secret"))
    else:
        found.append(
            bad(
                "keys",
                "sign-in",
                "no user can sign in to the HTTP API",
                "set DELIVERY_JWT_SECRET or DELIVERY_JWT_PUBLIC_KEY",
            )
        )
    return found


async def _on_database(settings: Settings, tenants: ConfiguredTenants) -> AsyncIterator[Finding]:
    """Look at workers and outcomes, and read what the tenants have set."""
    try:
        async with connected(settings, size=2, start_timeout=5) as database:
            yield await _workers(database.tracking)
            yield await _lately(database.tracking, database.tracking, settings)
            yield parked(await database.tracking.depths())
            yield places(await database.tracking.places_held())
            yield contents(await database.tracking.contents_overdue())
            for finding in webhooks_found(await database.webhooks.seen(settings.tenants)):
                yield finding
            if settings.secret_keys:
                tenants.apply(await database.tenant_settings().read())
    except DeliveryError as error:
        yield bad("tenants", "settings", str(error), "see what is said of PostgreSQL")


async def _workers(overview: Overview) -> Finding:
    workers = await overview.workers()
    alive = [worker for worker in workers if worker.alive]
    if not alive:
        return bad("workers", "alive", "no worker is there", "start `delivery worker`")
    summary = ", ".join(
        f"{worker.id} ({worker.version}, {worker.running}/{worker.slots})" for worker in alive
    )
    gone = len(workers) - len(alive)
    if len({worker.version for worker in alive}) > 1:
        return bad("workers", "alive", f"of several versions: {summary}", "finish the upgrade")
    return good("workers", "alive", summary + (f"; {gone} died within a day" if gone else ""))


async def _lately(overview: Overview, tracking: Tracking, settings: Settings) -> Finding:
    since = datetime.now(UTC) - _ERROR_WINDOW
    outcomes = await overview.outcomes(settings.tenants, since=since)
    errors = sum(outcome.deliveries for outcome in outcomes if outcome.error_type is not None)
    total = sum(outcome.deliveries for outcome in outcomes)
    stuck = await tracking.browse(settings.tenants, Filter(text=UNFORESEEN), before=None, limit=1)
    summary = f"{errors} of {total} deliveries ended in ERROR within an hour"
    if errors * 2 > total:
        advice = "`delivery list --state ERROR` tells each cause"
        return bad("deliveries", "outcomes", summary, advice)
    if stuck:
        name = stuck[0].delivery.correlation_id
        return bad(
            "deliveries", "faults", f"{name} met an unforeseen fault", f"`delivery show {name}`"
        )
    return good("deliveries", "outcomes", summary)


def parked(depths: Sequence[Depth]) -> Finding:
    """Report how many archives wait for the next suborder of their order, and for how long."""
    check = "suborders"
    waiting = sum(depth.parked for depth in depths)
    if not waiting:
        return good("deliveries", check, "no archive waits for a further suborder")
    tenant, longest = max(((d.tenant, d.oldest_parked) for d in depths), key=lambda one: one[1])
    archives = "archive waits" if waiting == 1 else "archives wait"
    summary = (
        f"{waiting} half-made {archives} for rs-order to make a further suborder available, one "
        f"of tenant {tenant} for {longest / 60:.0f} minutes"
    )
    if longest <= _PARKED_LONG:
        return good("deliveries", check, summary)
    return bad(
        "deliveries",
        check,
        summary,
        f"`delivery list --state TRANSFERRING --tenant {tenant}` tells which; see at rs-order "
        "whether it restores their orders, and what keeps their users' places "
        '(docs/operating.md, "Why does a delivery wait?")',
    )


def places(held: Sequence[PlacesHeld]) -> Finding:
    """Report how many orders may keep a place at rs-order although all of them is delivered."""
    check = "places"
    count = sum(one.places for one in held)
    if not count:
        return good("deliveries", check, "no delivered order may keep its user's place at rs-order")
    tenant, oldest = max(((one.tenant, one.oldest) for one in held), key=lambda one: one[1])
    orders = "order may keep its user's place" if count == 1 else "orders may keep users' places"
    summary = (
        f"{count} delivered {orders} at rs-order, one of tenant {tenant} for {oldest / 60:.0f} "
        "minutes"
    )
    if oldest <= _HELD_LONG:
        return good("deliveries", check, summary)
    return bad(
        "deliveries",
        check,
        summary,
        "rs-order does not say whether it still waits for their users, who may have to wait for "
        "further orders; `place_not_freed` in the log has the delivery, its order and the cause: "
        "see that rs-order answers `GET /user/orders/{id}`, or cancel the order there",
    )


def contents(overdue: Sequence[OverdueContents]) -> Finding:
    """Report how much of what was delivered is to be removed by now, and why it is not."""
    check = "retention"
    count = sum(target.contents for target in overdue)
    if not count:
        return good("deliveries", check, "all that is to be removed from targets is removed")
    first = max(overdue, key=lambda one: one.oldest)
    deliveries = "delivery" if count == 1 else "deliveries"
    summary = (
        f"the content of {count} {deliveries} is still to be removed, of one of tenant "
        f"{first.tenant} for {first.oldest / 60:.0f} minutes"
    )
    if first.oldest <= _OVERDUE_LONG:
        return good("deliveries", check, summary)
    return bad(
        "deliveries",
        check,
        f"{summary}: {first.cause or 'it was not tried yet'}",
        "`content_not_removed` in the log names each delivery and its cause; mend that, and "
        "`delivery remove` tries it again at once",
    )


async def check_targets(settings: Settings, tenants: ConfiguredTenants) -> AsyncIterator[Finding]:
    """Look which object stores can be opened here, and try what is set of those."""
    unusable = check_stores(settings)
    for finding in chain.from_iterable(unusable.values()):
        yield finding
    async for finding in _targets(settings, tenants, without=unusable):
        yield finding


async def _targets(
    settings: Settings, tenants: ConfiguredTenants, *, without: Container[str]
) -> AsyncIterator[Finding]:
    """Try every target; those of the static settings where nothing else is known.

    `without` are kinds whose stores can't be opened.
    """
    names: dict[Target, list[str]] = {}
    for tenant in settings.tenants:
        if tenant in tenants.unreadable():
            yield bad(
                "keys",
                f"secrets of {tenant}",
                tenants.unreadable()[tenant],
                "put the key that sealed them into DELIVERY_SECRET_KEYS, or set them again",
            )
            continue
        if tenants.paused(tenant):
            yield bad(
                "tenants",
                f"{tenant} maintenance",
                "it is in maintenance: its requests wait",
                f"PUT /maintenance/{tenant}/disable ends it",
            )
        own = tenants.settings(tenant)
        for name, target in {"default": own.target, **own.targets}.items():
            if target.kind not in without:
                names.setdefault(target, []).append(f"{tenant} {name}")
    for finding in _places(settings, tenants):
        yield finding
    async for target, steps in _probed(names, settings, without=without):
        for name, step in product(names[target], steps):
            check = f"{name}: {step.check}"
            if step.ok:
                yield good(target.kind, check, step.note or str(target))
            else:
                yield bad(target.kind, check, step.message, "`delivery settings` changes targets")


def _places(settings: Settings, tenants: ConfiguredTenants) -> Iterator[Finding]:
    """Look for tenants whose archives may replace each other's, and for borrowed keys."""
    known = [(name, tenants.settings(name)) for name in settings.tenants]
    for place, whose in shared(known).items():
        yield bad(
            "tenants",
            "place of their own",
            f"{', '.join(whose)} deliver to the same place, {place}: with the same correlation id, "
            "one can't deliver while the other's archive is there",
            "give each a bucket or a prefix of its own: {tenant} in DELIVERY_DELIVERY_BUCKET or "
            "DELIVERY_DELIVERY_PREFIX, or `delivery settings`",
        )
    for tenant, (endpoint, bucket) in tenants.borrowing().items():
        yield bad(
            "tenants",
            f"S3 key of {tenant}",
            f"it uses the deployment's own S3 key for bucket {bucket} at {endpoint}, which it "
            "chose itself when nothing forbade it",
            "give its s3_server a key of its own, or put delivery_bucket back to its default; "
            "DELIVERY_TENANTS_CHOOSE_BUCKETS allows it to all tenants",
        )


async def _probed(
    targets: Iterable[Target], settings: Settings, *, without: Container[str]
) -> AsyncIterator[tuple[Target, list[TargetCheck]]]:
    """Probe targets side by side, each once; give them in order: a silent one delays no other."""
    turns = asyncio.Semaphore(_PROBE_CONCURRENCY)

    async def probe(attempt: Probe, target: Target) -> list[TargetCheck]:
        async with turns:
            return await attempt(target)

    async with open_trial(settings, without=without) as attempt:
        tasks = [(target, asyncio.create_task(probe(attempt, target))) for target in targets]
        try:
            for target, task in tasks:
                yield target, await task
        finally:
            for _, task in tasks:
                task.cancel()
            await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
