"""`rs-delivery setting`: the settings of a tenant; each change is shown before it is made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

import click

from rs_delivery_client.cli.completion import SETTING
from rs_delivery_client.cli.confirm import confirmed, yes_option
from rs_delivery_client.cli.differences import show_differences
from rs_delivery_client.cli.ends import EXIT_FAILED, Ended, printable, run
from rs_delivery_client.cli.fields import SETTING as SETTING_FIELDS
from rs_delivery_client.cli.fields import JsonCommand, fields_option
from rs_delivery_client.cli.place import Where, place_option
from rs_delivery_client.cli.tables import Column, hint, show_json, show_table
from rs_delivery_client.cli.target import tell_checks

if TYPE_CHECKING:
    from rs_delivery_client.operating import Body, Setting

_COLUMNS = (
    Column(title="SETTING"),
    Column(title="VALUE", least=20),
    Column(title="", least=9),
)
# What the service shows in the place of a secret; sent back, it keeps the secret.
_MASK = "*******"
# By these the service knows a secret; what it has not been sent yet is masked here by the same.
_SECRETS = frozenset({"secret", "previous_secret", "password", "sas", "key", "credentials"})


@click.command("list", cls=JsonCommand)
@place_option
@fields_option(SETTING_FIELDS)
def list_(where: Where, fields: Sequence[str] | None) -> None:
    """List the settings of your tenant."""
    client = where.client()

    async def ask() -> list[Body]:
        async with client:
            return await client.operating.settings()

    found = run(ask())
    if fields is not None:
        show_json(found, fields)
        return
    show_table(_COLUMNS, [_row(setting) for setting in found])
    hint(where, "setting get NAME", "setting set NAME VALUE")


def _row(setting: Body) -> Sequence[str]:
    is_default = setting.get("value") == setting.get("defaultValue")
    return str(setting["name"]), _encoded(setting.get("value")), "(default)" * is_default


def _encoded(value: Any) -> str:
    """Return a value on a line, as `setting set` takes it."""
    return json.dumps(value, ensure_ascii=False)


def _one(where: Where, name: str) -> Setting:
    client = where.client()

    async def ask() -> Setting:
        async with client:
            return await client.operating.setting(name)

    return run(ask())


@click.command(cls=JsonCommand)
@click.argument("name", type=SETTING)
@place_option
@fields_option(SETTING_FIELDS)
def get(name: str, where: Where, fields: Sequence[str] | None) -> None:
    """Print the value of a setting, as JSON.

    Secrets in it are masked; `setting set` keeps what is masked.
    """
    setting = _one(where, name)
    if fields is not None:
        show_json([setting.raw], fields)
        return
    for line in _lines(setting.value):
        click.echo(printable(line))


@click.command("set")
@click.argument("name", type=SETTING)
@click.argument("value", required=False)
@click.option(
    "--file",
    type=click.File("rb"),
    help="Take the value, as JSON, from this file; - is standard input.",
)
@click.option(
    "--check", is_flag=True, help="Try the targets that it has a part in; exit code 1 for a flaw."
)
@click.option("--dry-run", is_flag=True, help="Change nothing: only tell what would change.")
@place_option
def set_(
    name: str,
    value: str | None,
    file: IO[bytes] | None,
    check: bool,
    dry_run: bool,
    where: Where,
) -> None:
    """Set NAME to VALUE (JSON, or a plain text), or to a file's.

    What changes is printed as a diff. It is refused (exit code 5) where another client has changed
    the setting meanwhile. A secret in VALUE would be seen by other users of this machine: use
    --file.
    """
    wanted = _value(value, file)
    client = where.client()

    async def change() -> Setting | None:
        async with client:
            setting = await client.operating.setting(name)
            differs = _tell_diff(name, setting.value, wanted)
            how: Literal["false", "true", "only"] = "true" if check else "false"
            if dry_run:
                how = "only"
            if (dry_run and not check) or not (differs or check):
                return None
            return await client.operating.change(setting, wanted, check=how)

    changed = run(change())
    if dry_run:
        click.echo("nothing was changed", err=True)
    elif changed is None:
        click.echo(f"{name} has this value already", err=True)
    else:
        click.echo(f"{name} is set", err=True)
        hint(where, f"setting reset {shlex.quote(name)}")
    flawed = tell_checks(changed.checks, as_json=False) if changed is not None else []
    if flawed:
        raise Ended(f"{', '.join(flawed)}: not all that a delivery needs is there", EXIT_FAILED)


@click.command()
@click.argument("name", type=SETTING)
@click.option("--dry-run", is_flag=True, help="Change nothing: only tell what would change.")
@yes_option
@place_option
def reset(name: str, dry_run: bool, yes: bool, where: Where) -> None:
    """Put a setting back to its default.

    What changes is printed as a diff, and asked for at a terminal; elsewhere it takes --yes.
    """
    setting = _one(where, name)
    _tell_diff(name, setting.value, setting.default)
    if dry_run:
        click.echo("nothing was changed", err=True)
        return
    confirmed(f"put {name} back to its default?", yes=yes)
    client = where.client()

    async def ask() -> Setting:
        async with client:
            return await client.operating.reset(setting)

    run(ask())
    click.echo(f"{name} has its default", err=True)


def _value(value: str | None, file: IO[bytes] | None) -> Any:
    """Return the value that a call names. Raises UsageError."""
    if (value is None) == (file is None):
        raise click.UsageError("give VALUE, or --file")
    if file is not None:
        try:
            return json.loads(file.read())
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"{file.name} is not JSON: {error}") from None
    text = value or ""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()


def _tell_diff(name: str, before: Any, after: Any) -> bool:
    """Print what changes, with secrets masked; return whether something does."""
    if before == after:
        return False
    if not show_differences(name, _lines(before), _lines(_masked(after))):
        click.echo(f"{name}: a secret")
    return True


def _lines(value: Any) -> list[str]:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True).splitlines()


def _masked(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        name: _MASK if name in _secrets_of(value) and isinstance(inner, str) else _masked(inner)
        for name, inner in value.items()
    }


def _secrets_of(value: dict[str, Any]) -> frozenset[str]:
    """Return the names of secrets in an object: where there is a `secret`, `key` is its name."""
    return _SECRETS - {"key"} if "secret" in value else _SECRETS
