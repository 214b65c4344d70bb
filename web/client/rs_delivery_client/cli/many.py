"""What is done to all deliveries that a filter finds: shown, asked for, and done to those shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import click

from rs_delivery_client.cli.confirm import confirmed
from rs_delivery_client.cli.ends import EXIT_FAILED, Ended, ended, printable, run
from rs_delivery_client.cli.place import Where
from rs_delivery_client.cli.tables import Column, counted, hint, show_table
from rs_delivery_client.errors import ClientError

if TYPE_CHECKING:
    from rs_delivery_client.models import DeliveryFilter
    from rs_delivery_client.operating import Body

_DELIVERIES = ("delivery", "deliveries")
_SHOWN = (Column(title="ID"), Column(title="STATE", least=12), Column(title="CODE", least=12))
_LEFT = (Column(title="ID"), Column(title="STATE", least=8), Column(title="WHY LEFT", least=16))
_ENDED = frozenset({"DONE", "ERROR"})
_LOT = 100  # deliveries that are acted on in a call
_OLDER = "there are older ones, which were not looked at: --until, or a narrower filter, finds them"


@dataclass(kw_only=True)
class _Acted:
    """What became of those that were shown."""

    asked: int
    done: list[Body] = field(default_factory=list)
    left: list[Body] = field(default_factory=list)
    broken: ClientError | None = None  # by which it ended, before all of them were asked for


def all_found(
    where: Where,
    act: Literal["retry", "cancel"],
    wanted: DeliveryFilter,
    *,
    dry_run: bool,
    yes: bool,
    force: bool = False,
    reason: str | None = None,
) -> None:
    """Show what it would be done to, ask, and do it. Raises Ended, Abort, UsageError."""
    looked = run(_look(where, act, wanted, force=force))
    found, left = looked["content"], looked["left"]
    if not (found or left):
        click.echo("no deliveries", err=True)
        return
    if found:
        show_table(_SHOWN, map(_row, found))
    if left:
        show_table(_LEFT, map(_left, left))
    said = f"would {act} {counted(len(found), *_DELIVERIES)}"
    click.echo(f"{said}, and leave {len(left):,}" if left else said, err=True)
    if dry_run or not found:
        if looked.get("more"):
            if not dry_run:
                raise Ended(f"nothing was done; {_OLDER}", EXIT_FAILED)
            click.echo(_OLDER, err=True)
        return
    confirmed(f"{act} {'this one' if len(found) == 1 else f'these {len(found):,}'}?", yes=yes)
    ids = [str(each["id"]) for each in found]
    acted = run(_act(where, act, wanted, ids, force=force, reason=reason))
    _conclude(act, acted, more=bool(looked.get("more")))
    if act == "retry":
        hint(where, "list --active")


async def _look(
    where: Where, act: Literal["retry", "cancel"], wanted: DeliveryFilter, *, force: bool
) -> Body:
    async with where.client() as client:
        return await client.operating.look(act, wanted, force=force)


async def _act(
    where: Where,
    act: Literal["retry", "cancel"],
    wanted: DeliveryFilter,
    ids: Sequence[str],
    **how: Any,
) -> _Acted:
    """Do it by lots, each answered in time; what has waited longest comes last, and goes first.

    Raises ClientError where the first fails.
    """
    acted = _Acted(asked=len(ids))
    async with where.client() as client:
        for end in range(len(ids), 0, -_LOT):
            try:
                lot = await client.operating.act(act, wanted, ids[max(0, end - _LOT) : end], **how)
            except ClientError as error:
                if end == len(ids):
                    raise
                acted.broken = error
                break
            acted.done += lot["content"]
            acted.left += lot["left"]
    return acted


def _row(found: Mapping[str, Any]) -> Sequence[str | None]:
    state = ", ".join(filter(None, (str(found["state"]), found.get("activity"))))
    return str(found["correlationId"]), state, found.get("code")


def _left(left: Mapping[str, Any]) -> Sequence[str | None]:
    return left.get("correlationId") or str(left["id"]), left.get("state"), str(left["why"])


def _conclude(act: str, acted: _Acted, *, more: bool) -> None:
    """Tell how many; raise Ended where some were not done, or not looked at."""
    done, left = acted.done, acted.left
    for each in left:
        name, _, why = _left(each)
        click.echo(printable(f"{name} is left as it is: {why}"), err=True)
    said = f"{len(done):,} of {counted(acted.asked, *_DELIVERIES)} "
    said += "tried again" if act == "retry" else "cancelled"
    completing = sum(each["state"] not in _ENDED for each in done) if act == "cancel" else 0
    if completing:
        said += f", {completing:,} of them just being completed: done if their archives appear"
    if acted.broken is not None:
        end = ended(acted.broken)
        raise Ended(f"{said}; what became of the others is not known: {end.message}", end.exit_code)
    if left or more:
        raise Ended(f"{said}; {_OLDER}" if more else said, EXIT_FAILED)
    click.echo(said, err=True)
