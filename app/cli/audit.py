"""`delivery audit`: who changed what."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime

import click

from app.audit import AuditEntry
from app.cli.options import MOMENT
from app.cli.tables import show_all
from app.run.wiring.database import open_database
from app.settings import load_settings
from app.views.audit import AuditEntryView, csv_head, csv_lines, json_lines

_TABLE_SIZE = 50  # entries of a table
_PAGE_SIZE = 1000  # entries read at once
_NEWEST = 2**63 - 1
_COLUMNS = ("at", "tenant", "actor", "role", "action", "subject", "change")


@click.command()
@click.option("--tenant", help="Only of this one (`instance`: of none); default: of all.")
@click.option("--since", type=MOMENT, help="Only entries from this time on, as in 2026-01-31.")
@click.option("--until", type=MOMENT, help="Only entries before this time.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"Entries at most; default: {_TABLE_SIZE}, or all with --csv and --json.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values, with a head.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def audit(
    tenant: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Tell who changed what, the newest first."""
    if as_csv and as_json:
        raise click.UsageError("give --csv or --json, not both")
    settings = load_settings()
    if limit is None:
        limit = _NEWEST if as_csv or as_json else _TABLE_SIZE
    table: list[AuditEntry] = []

    async def read(take: Callable[[Sequence[AuditEntry]], object]) -> None:
        left, before = limit, _NEWEST
        async with open_database(settings) as database:
            while left > 0:
                size = min(left, _PAGE_SIZE)
                page = await database.audit.entries(
                    tenant, before=before, limit=size, since=since, until=until
                )
                take(page)
                if len(page) < size:
                    return
                left, before = left - size, page[-1].id

    if as_csv:
        sys.stdout.write(csv_head())
        asyncio.run(read(lambda page: sys.stdout.write(csv_lines(page))))
    elif as_json:
        asyncio.run(read(lambda page: sys.stdout.write(json_lines(page))))
    else:
        asyncio.run(read(table.extend))
        show_all(
            [AuditEntryView.of(entry) for entry in table],
            _COLUMNS,
            as_json=False,
            what="changes",
            more="--csv or --json tells all of them, whole",
            row=_row,
        )


def _row(entry: AuditEntryView) -> dict[str, object]:
    shown = entry.body()
    before, after = (
        "-" if shown[name] is None else json.dumps(shown[name], ensure_ascii=False)
        for name in ("before", "after")
    )
    return {
        **shown,
        "at": entry.at.isoformat(" ", timespec="seconds"),
        "change": f"{before} → {after}",
    }
