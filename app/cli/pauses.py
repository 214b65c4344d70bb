"""`delivery pause`, `resume`, `pauses` and `delivery worker drain`, for all workers there are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import click

from app.audit import INSTANCE
from app.cli.options import MOMENT, SPAN, chosen_tenant, named_tenant, tenant_option
from app.cli.tables import show_all
from app.cli.who import caller
from app.delivery.pauses import Pause, PauseScope, PauseSubject, Running
from app.run.wiring.operations import open_operations
from app.settings import Settings, load_settings
from app.usecases.pausing import Pausing
from app.views.pauses import PauseView

_WAIT_INTERVAL = 1.0  # seconds between looks at what a worker still has


def _pausing(command: Callable[..., None]) -> Callable[..., None]:
    """Add what each pause is given."""
    options: Iterable[Callable[..., Callable[..., None]]] = (
        click.option(
            "--reason", required=True, help="Told at deliveries that wait, in log and audit trail."
        ),
        click.option("--until", type=MOMENT, help="When it ends; left out: when resumed."),
        click.option("--for", "lasts", type=SPAN, help="How long it lasts, such as 30m, 2h or 1d."),
        click.option(
            "--stop/--finish",
            "stops",
            default=None,
            help="What runs stops where it is gone on with later, or may finish.",
        ),
    )
    for option in options:
        command = option(command)
    return command


@click.group()
def pause() -> None:
    """Let no transfer of a tenant, to a target or of all tenants begin; or drain a worker."""


@pause.command("tenant")
@tenant_option
@_pausing
def pause_tenant(tenant: str | None, **given: Any) -> None:
    """Pause the transfers of a tenant; what runs may finish."""
    settings = load_settings()
    name = chosen_tenant(settings, tenant)
    _pause(settings, PauseSubject(scope=PauseScope.TENANT, tenant=name), **given)


@pause.command("target")
@click.argument("target")
@tenant_option
@_pausing
def pause_target(target: str, tenant: str | None, **given: Any) -> None:
    """Pause the transfers of a tenant to TARGET; what runs may finish."""
    settings = load_settings()
    name = chosen_tenant(settings, tenant)
    subject = PauseSubject(scope=PauseScope.TARGET, tenant=name, name=target)
    _pause(settings, subject, **given)


@pause.command("worker")
@click.argument("worker")
@_pausing
def pause_worker(worker: str, **given: Any) -> None:
    """Drain WORKER: it begins nothing, and hands over what it has, unless that may finish."""
    _pause(load_settings(), PauseSubject(scope=PauseScope.WORKER, name=worker), **given)


@pause.command("instance")
@_pausing
def pause_instance(**given: Any) -> None:
    """Pause the transfers of all tenants; what runs may finish."""
    _pause(load_settings(), PauseSubject(scope=PauseScope.INSTANCE), **given)


@click.group()
def resume() -> None:
    """End a pause: what waited begins, and what stopped goes on."""


@resume.command("tenant")
@tenant_option
def resume_tenant(tenant: str | None) -> None:
    """Resume the transfers of a tenant."""
    settings = load_settings()
    name = named_tenant(settings, tenant)
    _resume(settings, PauseSubject(scope=PauseScope.TENANT, tenant=name))


@resume.command("target")
@click.argument("target")
@tenant_option
def resume_target(target: str, tenant: str | None) -> None:
    """Resume the transfers of a tenant to TARGET."""
    settings = load_settings()
    name = named_tenant(settings, tenant)
    _resume(settings, PauseSubject(scope=PauseScope.TARGET, tenant=name, name=target))


@resume.command("worker")
@click.argument("worker")
def resume_worker(worker: str) -> None:
    """Let WORKER work again."""
    _resume(load_settings(), PauseSubject(scope=PauseScope.WORKER, name=worker))


@resume.command("instance")
def resume_instance() -> None:
    """Resume the transfers of all tenants, but for those that are paused by themselves."""
    _resume(load_settings(), PauseSubject(scope=PauseScope.INSTANCE))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def pauses(as_json: bool) -> None:
    """List what is paused: by whom, since when, until when, and why."""

    async def run(pausing: Pausing) -> list[PauseView]:
        return [PauseView.of(found) for found in pausing.all()]

    show_all(
        _on_database(load_settings(), run),
        ("scope", "tenant", "name", "running", "since", "until", "pausedBy", "reason"),
        as_json=as_json,
        what="pauses",
        more="`delivery resume` ends one",
        row=lambda view: dict.fromkeys(("tenant", "name", "until")) | view.body(),
    )


@click.command()
@click.argument("worker")
@_pausing
@click.option("--wait", is_flag=True, help="Return when it has no transfer any more.")
def drain(worker: str, wait: bool, **given: Any) -> None:
    """Have WORKER begin nothing, and hand over what it has; `delivery resume worker` ends it."""
    settings = load_settings()
    _pause(settings, PauseSubject(scope=PauseScope.WORKER, name=worker), **given)
    if not wait:
        return

    async def run(pausing: Pausing) -> None:
        told = None
        while running := await pausing.running_on(worker):
            if running != told:
                click.echo(f"{running} transfers are under way", err=True)
            told = running
            await asyncio.sleep(_WAIT_INTERVAL)
        click.echo(f"worker {worker} has no transfer under way")

    _on_database(settings, run)


def _pause(
    settings: Settings,
    subject: PauseSubject,
    *,
    reason: str,
    until: datetime | None,
    lasts: timedelta | None,
    stops: bool | None,
) -> None:
    running = None if stops is None else Running.STOP if stops else Running.FINISH
    actor = caller(subject.tenant or INSTANCE)

    async def run(pausing: Pausing) -> Pause:
        return await pausing.pause(
            actor, subject, reason=reason, running=running, until=until, lasts=lasts
        )

    begun = _on_database(settings, run)
    click.echo(f"{begun.cause} ({_RUNNING[begun.running]})")


_RUNNING = {
    Running.FINISH: "what runs may finish",
    Running.STOP: "what runs stops, and goes on where it stopped",
}


def _resume(settings: Settings, subject: PauseSubject) -> None:
    actor = caller(subject.tenant or INSTANCE)
    _on_database(settings, lambda pausing: pausing.resume(actor, subject))
    verb = "is" if subject.scope is PauseScope.WORKER else "are"
    click.echo(f"{subject} {verb} resumed")


def _on_database(settings: Settings, act: Callable[[Pausing], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with open_operations(settings) as operations:
            return await act(operations.pausing)

    return asyncio.run(run())
