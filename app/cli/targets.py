"""`delivery targets`: how it goes with each target."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import click

from app.cli.options import chosen_tenant
from app.cli.tables import show_all
from app.run.wiring.operations import open_operations
from app.settings import load_settings
from app.views.targets import TargetView

_COLUMNS = ("tenant", "name", "type", "state", "since", "running", "waiting", "lastHour", "last")


@click.command()
@click.option("--tenant", "tenants", multiple=True, help="Only of this one (repeat); default: all.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line.")
def targets(tenants: Sequence[str], as_json: bool) -> None:
    """Tell how it goes with each target: whether it works, fails or is paused, and since when."""
    settings = load_settings()
    wanted = [chosen_tenant(settings, tenant) for tenant in tenants] or list(settings.tenants)

    async def run() -> list[TargetView]:
        async with open_operations(settings) as operations:
            return await operations.target_states.of(wanted, places=True)

    show_all(
        asyncio.run(run()),
        _COLUMNS,
        as_json=as_json,
        what="targets",
        more="`--json` has where each is; `delivery attention` tells what to do",
        row=_row,
    )


def _row(view: TargetView) -> Mapping[str, Any]:
    last = None
    if view.last_bad is not None and view.failures:
        last = " ".join(filter(None, (view.last_bad.code, view.last_bad.cause)))
    elif view.last_good is not None:
        last = f"went well at {view.last_good:%Y-%m-%d %H:%M:%S}Z"
    return {
        **dict.fromkeys(_COLUMNS),
        **view.body(),
        "since": None if view.since is None else f"{view.since:%Y-%m-%d %H:%M:%S}Z",
        "lastHour": f"{view.good_last_hour} well, {view.bad_last_hour} failed",
        "last": last,
    }
