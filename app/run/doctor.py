"""Looks at all that the service depends on; leaves nothing changed, and stops at no problem."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, product

from app.delivery.pauses import Pause
from app.delivery.targets import Probe, Target, TargetCheck
from app.errors import UNFORESEEN, ConfigurationError, DeliveryError
from app.run.wiring.database import connected
from app.run.wiring.formats import memory_lack_of
from app.run.wiring.targets import check_stores, open_trial
from app.run.wiring.tenants import unread_tenants
from app.settings import Settings
from app.store.checkup import check_postgresql
from app.tenants.places import shared
from app.tenants.registry import ConfiguredTenants
from app.tenants.secret_rules import has_keys, require_sign_in, weaknesses
from app.views.attention import CATALOGUE, AttentionView, Need, Trouble, strangers_merged
from app.views.deliveries import Depth, Filter, OverdueContents, Overview, PlacesHeld, Tracking
from app.views.findings import Finding, bad, good
from app.views.webhooks import webhooks_found
from sinks.pipeline.digest import BUILD_ADVICE, without_checkpoints
from streams.operators.checkup import check_kafka, check_progress, check_rabbitmq, check_rs_order
from streams.operators.identity import check_identity_provider
from web.certificate import certificate_of

_ERROR_WINDOW = timedelta(hours=1)
_RENEWED_LONG_BEFORE = 14  # days: what renews by itself has done it by then
_PROBE_CONCURRENCY = 8  # targets at once
# Of what needs an operator: what no check here tells of.
_LOOKED_AT = {
    Need.TRANSFERS_FAIL,
    Need.WORKER_SILENT,
    Need.STATE_STUCK,
    Need.QUOTA_AWAITED,
    Need.DEAD_LETTER,
    Need.MAINTENANCE_FORGOTTEN,
}


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Give findings as they come."""
    for finding in chain(check_keys(settings), check_certificate(settings, datetime.now(UTC))):
        yield finding
    schema_good = True
    async for finding in check_postgresql(settings):
        schema_good &= finding.ok or finding.check not in ("certificates", "reachable", "schema")
        yield finding
    for check in (check_rabbitmq, check_kafka, check_rs_order, check_identity_provider):
        async for finding in check(settings):
            yield finding
    tenants = unread_tenants(settings)
    if schema_good:
        async for finding in _on_database(settings, tenants):
            yield finding
        told = [name for name in settings.tenants if tenants.progress_events(name)]
        async for finding in check_progress(settings, told):
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


def check_certificate(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Look whether the certificate of the HTTP server can be used, and for how long."""
    try:
        certificate = certificate_of(
            certificate=settings.web_tls_certificate, key=settings.web_tls_key
        )
    except ConfigurationError as error:
        advice = "correct the files: a process goes on with what it has read, but does not start"
        yield bad("web", "certificate", str(error), advice)
        return
    if certificate is None:
        return
    left = (certificate.expires - now).days
    until = f"good until {certificate.expires:%Y-%m-%d}"
    if left >= _RENEWED_LONG_BEFORE:
        yield good("web", "certificate", f"{until}, {left} days from now")
        return
    what = "has expired" if left < 0 else f"expires in {left} days"
    advice = "renew it, and send SIGHUP to each process that has an HTTP server"
    yield bad("web", "certificate", f"{what} ({until})", advice)


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
    try:
        require_sign_in(settings)
    except ConfigurationError as error:
        cause, _, advice = str(error).partition(": ")
        found.append(bad("keys", "passwords", f"{cause}; the HTTP server does not start", advice))
    if settings.oidc_issuer and not has_keys(settings):
        summary = "tokens of the identity provider alone are taken; those of a shared secret not"
        found.append(good("keys", "sign-in", summary))
    elif settings.jwt_public_key and not settings.jwt_secret.get_secret_value():
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
                "set DELIVERY_JWT_SECRET, DELIVERY_JWT_PUBLIC_KEY or DELIVERY_OIDC_ISSUER",
            )
        )
    return found


async def _on_database(settings: Settings, tenants: ConfiguredTenants) -> AsyncIterator[Finding]:
    """Look at workers and outcomes, and read what the tenants have set."""
    try:
        async with connected(settings, size=2, start_timeout=5) as database:
            yield await _workers(database.tracking)
            found, tracking = await database.attention.troubles(None), database.tracking
            troubles = strangers_merged(found, settings.tenants)
            for finding in chain(noticed(troubles), owed(troubles)):
                yield finding
            yield await _lately(tracking, tracking, settings)
            for finding in chain(
                parked(await tracking.depths(), troubles),
                places(await tracking.places_held(), troubles),
                contents(await tracking.contents_overdue(), troubles),
                webhooks_found(await database.webhooks.seen(settings.tenants)),
            ):
                yield finding
            if settings.secret_keys:
                tenants.apply(await database.tenant_settings().read())
                yield paused(tenants.pauses.all())
    except DeliveryError as error:
        yield bad("tenants", "settings", str(error), "see what is said of PostgreSQL")


async def _workers(overview: Overview) -> Finding:
    workers = await overview.workers()
    alive = [worker for worker in workers if worker.alive]
    if not alive:
        known = CATALOGUE[Need.NO_WORKER]
        return bad("workers", "alive", known.sentence, known.advice)
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


def noticed(troubles: Sequence[Trouble]) -> list[Finding]:
    """Report what needs an operator now, in the words of the catalogue; what else is told, once."""
    found = [
        _problem("attention", trouble.code.value, trouble)
        for trouble in troubles
        if trouble.code in _LOOKED_AT
    ]
    return found or [good("attention", "now", "no target fails, and no delivery is stuck")]


def _problem(part: str, check: str, trouble: Trouble) -> Finding:
    """Say of one what `GET /attention` says of it."""
    view = AttentionView.of(trouble)
    tenant = "" if view.tenant is None else f"tenant {view.tenant}: "
    since = "" if view.since is None else f", since {view.since:%Y-%m-%d %H:%M:%S}Z"
    cause = "" if view.cause is None else f"; last cause: {view.cause}"
    return bad(part, check, f"{tenant}{view.sentence}{since}{cause}", view.advice)


def _unless(
    troubles: Sequence[Trouble], need: Need, part: str, check: str, otherwise: str
) -> list[Finding]:
    """Report what needs an operator by a check of its own; `otherwise` where nothing does."""
    found = [_problem(part, check, trouble) for trouble in troubles if trouble.code is need]
    return found or [good(part, check, otherwise)]


def paused(pauses: Sequence[Pause]) -> Finding:
    """Tell what waits for the end of a pause: no fault, and what explains much."""
    causes = "; ".join(pause.cause for pause in pauses)
    return good("deliveries", "pauses", causes or "nothing is paused")


def owed(troubles: Sequence[Trouble]) -> list[Finding]:
    """Report which messages no broker has taken for long."""
    fine = "nothing is owed for long"
    return _unless(troubles, Need.MESSAGE_OWED, "postgresql", "owed", fine)


def _counted(what: str, found: Sequence[tuple[int, float]], *, otherwise: str) -> str:
    """Say how many there are, and for how long the first; `found` are numbers, and seconds."""
    count = sum(number for number, _ in found)
    if not count:
        return otherwise
    longest = max(seconds for _, seconds in found)
    return f"{what}: {count}, the first for {longest / 60:.0f} minutes"


def parked(depths: Sequence[Depth], troubles: Sequence[Trouble]) -> list[Finding]:
    """Report which archives wait long for the next suborder of their order; else how many wait."""
    fine = _counted(
        "half-made archives that wait for the next suborder of their order",
        [(depth.parked, depth.oldest_parked) for depth in depths],
        otherwise="no archive waits for a further suborder",
    )
    return _unless(troubles, Need.SUBORDER_AWAITED, "deliveries", "suborders", fine)


def places(held: Sequence[PlacesHeld], troubles: Sequence[Trouble]) -> list[Finding]:
    """Report which orders have long kept a place at rs-order although all of them is delivered."""
    fine = _counted(
        "delivered orders that may keep their users' places at rs-order",
        [(kept.places, kept.oldest) for kept in held],
        otherwise="no delivered order may keep its user's place at rs-order",
    )
    return _unless(troubles, Need.PLACE_HELD, "deliveries", "places", fine)


def contents(overdue: Sequence[OverdueContents], troubles: Sequence[Trouble]) -> list[Finding]:
    """Report what of what was delivered stays hours after its end; else what is to be removed."""
    fine = _counted(
        "deliveries whose content is to be removed by now",
        [(target.contents, target.oldest) for target in overdue],
        otherwise="all that is to be removed from targets is removed",
    )
    return _unless(troubles, Need.CONTENT_OVERDUE, "deliveries", "retention", fine)


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
            # As its administrators want it; one that should be over is among what is noticed.
            yield good("tenants", f"{tenant} maintenance", "it is in maintenance: requests wait")
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
