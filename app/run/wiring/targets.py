"""The object stores of the tenants: those of all kinds, opened, checked and tried."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Container, Iterable, Mapping, Sequence

from prometheus_client import Gauge

from app.delivery.targets import Probe, Target
from app.run.wiring.kinds import STORES
from app.settings import Settings
from app.telemetry.metrics import TARGET_UP
from app.views.findings import Finding
from sinks.stores.kinds import Stores


@contextlib.asynccontextmanager
async def _open_stores(
    settings: Settings, *, up: Gauge | None = None, without: Container[str] = ()
) -> AsyncIterator[Stores]:
    async with contextlib.AsyncExitStack() as stack:
        yield Stores(
            {
                store.targets.kind: await stack.enter_async_context(store.open(settings, up))
                for store in STORES
                if store.targets.kind not in without
            }
        )


@contextlib.asynccontextmanager
async def open_targets(
    settings: Settings, *, in_use: Callable[[], Iterable[Target]]
) -> AsyncIterator[Stores]:
    """Open what delivers; `in_use` gives the targets that tenants have now.

    Raises ConfigurationError where `check_stores` has findings.
    """
    async with _open_stores(settings, up=TARGET_UP) as stores:
        stores.serve(in_use)
        yield stores


def check_stores(settings: Settings) -> Mapping[str, Sequence[Finding]]:
    """Return what stores can't be opened with, by the kinds whose targets can't be tried then."""
    found = {store.targets.kind: list(store.check(settings)) for store in STORES}
    return {kind: findings for kind, findings in found.items() if findings}


@contextlib.asynccontextmanager
async def open_trial(settings: Settings, *, without: Container[str]) -> AsyncIterator[Probe]:
    """Open what tries each right that deliveries need at a target, for an operator.

    `without` are the kinds that can't be opened: those of `check_stores`.
    """
    async with _open_stores(settings, without=without) as stores:
        yield stores.examine
