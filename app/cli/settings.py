"""`delivery settings`: what the REST API does, from a shell; on the database or on a server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp
import click
from rich.console import Console
from rich.table import Table

from app.audit import Actor, AuditTrail
from app.cli.options import chosen_tenant
from app.cli.who import caller
from app.codes import Code
from app.errors import DeliveryError
from app.network.https import connector_of, trust
from app.network.https import said as in_words
from app.run.wiring.database import open_database
from app.run.wiring.tenants import ConfigurationParts, open_configuration
from app.settings import load_settings
from app.tenants import config_file as configuration_file
from app.tenants.values import Setting

T = TypeVar("T")


class ChangeRefusedError(DeliveryError):
    """What was asked for is not done."""

    code = Code.INVALID_SETTING


class Backend(Protocol):
    """Where the settings are."""

    async def listing(self) -> list[dict[str, Any]]:
        """Return the settings: name, description, value, defaultValue."""

    async def put(self, name: str, value: Any) -> None:
        """Change a setting."""

    async def reset(self, name: str) -> None:
        """Put a setting back to its default."""

    async def export(self) -> Any:
        """Return the configuration file."""

    async def take(self, content: bytes) -> list[dict[str, Any]]:
        """Import a configuration file; return the reports of modules that have errors."""


@dataclass(frozen=True, kw_only=True)
class _OnDatabase:
    parts: ConfigurationParts
    audit: AuditTrail
    actor: Actor

    async def listing(self) -> list[dict[str, Any]]:
        return [_plain(setting) for setting in self.parts.configure.listing(self.actor.tenant)]

    async def put(self, name: str, value: Any) -> None:
        await self.parts.configure.put(self.actor, name, value)

    async def reset(self, name: str) -> None:
        await self.parts.configure.reset(self.actor, name)

    async def export(self) -> Any:
        content = configuration_file.export(self.parts.configure, self.actor.tenant)
        await self.audit.record(configuration_file.exported(self.actor))
        return content

    async def take(self, content: bytes) -> list[dict[str, Any]]:
        try:
            decoded = json.loads(content)
        except ValueError as error:
            raise ChangeRefusedError(f"the file is not JSON: {error}") from None
        reports = await configuration_file.import_file(
            self.parts.configure, self.parts.store, self.actor, decoded
        )
        return [report.body() for report in reports if report.errors]


def _plain(setting: Setting) -> dict[str, Any]:
    return {
        "name": setting.name,
        "description": setting.description,
        "value": setting.value,
        "defaultValue": setting.default,
    }


@dataclass(frozen=True, kw_only=True)
class _OnServer:
    session: aiohttp.ClientSession
    url: str

    async def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            async with self.session.request(method, self.url + path, **arguments) as answer:
                text = await answer.text()
                if answer.status == 401 and "Authorization" not in self.session.headers:
                    raise ChangeRefusedError(
                        f"{self.url} needs a token: --token, or DELIVERY_TOKEN"
                    )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ChangeRefusedError(f"{self.url} does not answer ({in_words(error)})") from None
        try:
            body = json.loads(text) if text else None
        except ValueError:
            raise ChangeRefusedError(
                f"{self.url} is not this service: it answers no JSON"
            ) from None
        if answer.status >= 400 and answer.status != 409:
            said = body if isinstance(body, dict) else {}
            raise ChangeRefusedError(
                str(said.get("message", f"{self.url} answers {answer.status}"))
            )
        return body

    async def listing(self) -> list[dict[str, Any]]:
        return [item["content"] for item in await self._ask("GET", "/settings")]

    async def put(self, name: str, value: Any) -> None:
        await self._ask("PUT", f"/settings/{name}", json={"name": name, "value": value})

    async def reset(self, name: str) -> None:
        await self._ask("DELETE", f"/settings/{name}")

    async def export(self) -> Any:
        return await self._ask("GET", "/microservice/configuration")

    async def take(self, content: bytes) -> list[dict[str, Any]]:
        form = aiohttp.FormData()
        form.add_field("file", content, filename=configuration_file.FILE_NAME)
        return await self._ask("POST", "/microservice/configuration", data=form) or []


@dataclass(frozen=True, kw_only=True)
class Where:
    """What the options of the group say."""

    tenant: str | None
    url: str | None
    token: str | None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Backend]:
        """Connect."""
        if self.url is not None:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            timeout = aiohttp.ClientTimeout(total=60)
            connector = connector_of(trust(load_settings().http_ca))
            async with aiohttp.ClientSession(
                connector=connector, headers=headers, timeout=timeout
            ) as session:
                yield _OnServer(session=session, url=self.url.rstrip("/"))
            return
        settings = load_settings()
        tenant = chosen_tenant(settings, self.tenant)
        async with open_database(settings) as database:
            yield _OnDatabase(
                parts=await open_configuration(settings, database.pool),
                audit=database.audit,
                actor=caller(tenant),
            )

    def run(self, do: Callable[[Backend], Awaitable[T]]) -> T:
        """Connect, and do it."""

        async def main() -> T:
            async with self.open() as backend:
                return await do(backend)

        return asyncio.run(main())


@click.group()
@click.option("--tenant", help="Whose; default: the first of DELIVERY_TENANTS.")
@click.option("--url", help="Ask the server at this address, and not the database.")
@click.option(
    "--token", envvar="DELIVERY_TOKEN", help="With --url: its tenant is whose. Or DELIVERY_TOKEN."
)
@click.pass_context
def settings(
    context: click.Context, tenant: str | None, url: str | None, token: str | None
) -> None:
    """Show and change the settings of a tenant; workers take them up at once."""
    if url is not None and tenant is not None:
        raise click.UsageError("with --url, the tenant is that of the token; leave out --tenant")
    context.obj = Where(tenant=tenant, url=url, token=token)


@settings.command("get")
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def get(where: Where, names: tuple[str, ...], as_json: bool) -> None:
    """Show all settings, or those NAMES."""
    listing = where.run(lambda backend: backend.listing())
    unknown = set(names) - {item["name"] for item in listing}
    if unknown:
        known = ", ".join(item["name"] for item in listing)
        raise click.UsageError(
            f"there is no setting {', '.join(sorted(unknown))}; there are {known}"
        )
    shown = [item for item in listing if not names or item["name"] in names]
    if as_json:
        for item in shown:
            click.echo(json.dumps(item, ensure_ascii=False))
        return
    table = Table(box=None, header_style="bold")
    for column in ("name", "value", ""):
        table.add_column(column, overflow="fold")
    for item in shown:
        is_default = item["value"] == item["defaultValue"]
        table.add_row(
            item["name"],
            json.dumps(item["value"], ensure_ascii=False),
            "(default)" if is_default else "",
        )
    Console(markup=False, highlight=False).print(table)


@settings.command("set")
@click.argument("name")
@click.argument("value")
@click.pass_obj
def set_(where: Where, name: str, value: str) -> None:
    """Set NAME to VALUE: JSON, or a plain text; - reads it from standard input.

    A secret in VALUE would be seen by other users of this machine: use -.
    """
    text = sys.stdin.read() if value == "-" else value
    try:
        decoded = json.loads(text)
    except ValueError:
        decoded = text.strip()
    where.run(lambda backend: backend.put(name, decoded))
    click.echo(f"{name} is set")


@settings.command("reset")
@click.argument("name")
@click.pass_obj
def reset(where: Where, name: str) -> None:
    """Put NAME back to its default."""
    where.run(lambda backend: backend.reset(name))
    click.echo(f"{name} has its default")


@settings.command("export")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@click.pass_obj
def export(where: Where, file: Path) -> None:
    """Write all settings to FILE, as REGARDS does; secrets are masked."""
    text = json.dumps(where.run(lambda backend: backend.export()), indent=2, ensure_ascii=False)
    if str(file) == "-":
        click.echo(text)
        return
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"can't write {file}: {error.strerror}") from None


@settings.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.pass_obj
def import_(where: Where, file: Path) -> None:
    """Set what FILE names, a file of this command or of REGARDS."""
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise click.UsageError(f"can't read {file}: {error.strerror}") from None
    reports = where.run(lambda backend: backend.take(content))
    refused = [line for report in reports for line in report["importErrors"]]
    if not refused:
        click.echo("all of it was taken")
        return
    click.echo("\n".join(refused), err=True)
    partly = not all(report["onlyErrors"] for report in reports)
    raise ChangeRefusedError(
        "a part was taken, the above was not" if partly else "nothing was taken"
    )
