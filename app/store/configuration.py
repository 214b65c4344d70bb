"""What tenants set, maintenance, pauses and the audit trail in PostgreSQL. Secrets are sealed."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from app.audit import Actor, AuditRecord
from app.delivery.maintenance import Maintenance
from app.delivery.pauses import Pause, PauseScope, PauseSubject, Running
from app.errors import SecretUnreadableError
from app.store.audit import record
from app.store.later import LaterKinds
from app.store.listening import listening
from app.store.pool import translate_errors
from app.store.sql import load
from app.tenants.masks import with_secrets
from app.tenants.values import Configuration, StoredValue
from app.tenants.vault import Vault

SQL = load(__name__)

_CHANNEL = "delivery_configuration"
# Words that this version knows.
_SCOPES = frozenset(scope.value for scope in PauseScope)
_RUNNING = frozenset(running.value for running in Running)


class _Change:
    """See `app.tenants.ports.ConfigurationChange`."""

    def __init__(
        self,
        connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record],
        vault: Vault,
        *,
        tenant: str,
        values: dict[str, StoredValue],
    ) -> None:
        self._connection = connection
        self._vault = vault
        self._tenant = tenant
        self.values = values

    async def set(self, name: str, value: Any, *, deployment_key: bool = False) -> StoredValue:
        sealed = with_secrets(value, self._vault.seal)
        version = await self._connection.fetchval(
            *SQL["set_setting"](
                tenant=self._tenant, name=name, value=sealed, deployment_key=deployment_key
            )
        )
        self.values[name] = StoredValue(value=value, version=version, deployment_key=deployment_key)
        return self.values[name]

    async def refer(self, name: str) -> None:
        await self._connection.execute(*SQL["refer_setting"](tenant=self._tenant, name=name))
        self.values[name] = replace(self.values[name], deployment_key=True)

    async def reset(self, name: str) -> None:
        await self._connection.execute(*SQL["reset_setting"](tenant=self._tenant, name=name))
        self.values.pop(name, None)

    async def maintain(
        self,
        *,
        active: bool,
        enabled_by: str | None = None,
        reason: str | None = None,
        until: datetime | None = None,
    ) -> Maintenance:
        before = await self._connection.fetchrow(*SQL["maintenance"](tenant=self._tenant))
        row = await self._connection.fetchrow(
            *SQL["maintain"](
                tenant=self._tenant,
                active=active,
                enabled_by=enabled_by,
                reason=reason,
                until=until,
            )
        )
        assert row is not None  # noqa: S101 - an upsert returns its row
        if before is not None and before["active"] and not active:
            await self._connection.execute(*SQL["restart_waiting"](tenant=self._tenant))
        return Maintenance(**row)

    async def pause(
        self,
        subject: PauseSubject,
        *,
        reason: str,
        running: Running,
        paused_by: str,
        until: datetime | None = None,
        lasts: timedelta | None = None,
    ) -> Pause:
        row = await self._connection.fetchrow(
            *SQL["pause"](
                scope=subject.scope.value,
                tenant=subject.tenant,
                name=subject.name,
                reason=reason,
                running=running.value,
                paused_by=paused_by,
                until=until,
                lasts=lasts,
            )
        )
        assert row is not None  # noqa: S101 - an upsert returns its row
        return _pause(row)

    async def resume(self, subject: PauseSubject) -> Pause | None:
        row = await self._connection.fetchrow(
            *SQL["resume"](scope=subject.scope.value, tenant=subject.tenant, name=subject.name)
        )
        return None if row is None else _pause(row)

    async def audit(self, done: AuditRecord) -> None:
        await record(self._connection, done)


def _stored(row: asyncpg.Record, value: Any) -> StoredValue:
    return StoredValue(value=value, version=row["version"], deployment_key=row["deployment_key"])


def _maintained(row: asyncpg.Record) -> tuple[str, Maintenance]:
    """Return a tenant, and its maintenance."""
    said = dict(row)
    return said.pop("tenant"), Maintenance(**said)


def _pause(row: asyncpg.Record) -> Pause:
    return Pause(
        subject=PauseSubject(
            scope=PauseScope(row["scope"]), tenant=row["tenant"], name=row["name"]
        ),
        reason=row["reason"],
        running=Running(row["running"]) if row["running"] in _RUNNING else Running.FINISH,
        paused_by=row["paused_by"],
        since=row["since"],
        until=row["until"],
        left=row["left"],
    )


class _Opening:
    """Opens the secrets of one value, and notes why one of them can't be read."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.why = ""

    def open(self, sealed: str) -> Any:
        """Return a secret; None if no key opens it."""
        try:
            return self._vault.open(sealed)
        except SecretUnreadableError as error:
            self.why = str(error)
            return None


class PostgresConfiguration:
    """See `app.tenants.ports.ConfigurationStore`."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault
        self._later_scopes = LaterKinds("pauses", consequence="this process does not keep to them")
        self._later_words = LaterKinds(
            "pauses, in what becomes of what runs,", consequence="here it goes on to its end"
        )

    async def read(self) -> Configuration:
        """Return what all tenants have set."""
        with translate_errors():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                rows = await connection.fetch(*SQL["settings"]())
                paused = await connection.fetch(*SQL["paused"]())
                pauses = await connection.fetch(*SQL["pauses"]())
        settings: dict[str, dict[str, StoredValue]] = defaultdict(dict)
        unreadable: dict[str, str] = {}
        for row in rows:
            value, why = self._opened(row["value"])
            settings[row["tenant"]][row["name"]] = _stored(row, value)
            if why:
                unreadable[row["tenant"]] = f"{row['name']}: {why}"
        return Configuration(
            settings=dict(settings),
            paused=dict(map(_maintained, paused)),
            unreadable=unreadable,
            pauses=tuple(self._known(pauses)),
        )

    def _known(self, rows: Sequence[asyncpg.Record]) -> Iterator[Pause]:
        """Yield pauses as far as this version knows them; what it does not know is told once."""
        self._later_scopes.warn(row["scope"] for row in rows if row["scope"] not in _SCOPES)
        self._later_words.warn(row["running"] for row in rows if row["running"] not in _RUNNING)
        yield from (_pause(row) for row in rows if row["scope"] in _SCOPES)

    def _opened(self, value: Any) -> tuple[Any, str]:
        """Return a value with its secrets, and why one of them (None then) can't be read."""
        opening = _Opening(self._vault)
        return with_secrets(value, opening.open), opening.why

    @contextlib.asynccontextmanager
    async def change(self, tenant: str) -> AsyncIterator[_Change]:
        """Lock a tenant's settings. Raises StoreUnavailableError; then nothing was changed."""
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(*SQL["lock_configuration"](tenant=tenant))
                rows = await connection.fetch(*SQL["settings_of"](tenant=tenant))
                values = {row["name"]: _stored(row, self._opened(row["value"])[0]) for row in rows}
                yield _Change(connection, self._vault, tenant=tenant, values=values)

    async def maintenance(self, tenant: str) -> Maintenance | None:
        """Return whether the tenant is in maintenance; None if it never was."""
        with translate_errors():
            row = await self._pool.fetchrow(*SQL["maintenance"](tenant=tenant))
        return Maintenance(**row) if row else None

    async def reseal(self, actor: Actor) -> int:
        """Seal every secret with the first key; return how many values changed.

        Raises SecretUnreadableError when one can't be opened; then nothing has changed.
        """
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(*SQL["sealed_settings"]())
                changed = 0
                for row in rows:
                    try:
                        value = with_secrets(row["value"], self._vault.reseal)
                    except SecretUnreadableError as error:
                        raise SecretUnreadableError(
                            f"{row['name']} of tenant {row['tenant']}: {error}"
                        ) from None
                    if value != row["value"]:
                        changed += 1
                        await connection.execute(
                            *SQL["resealed_setting"](
                                tenant=row["tenant"], name=row["name"], value=value
                            )
                        )
                for row in await connection.fetch(*SQL["sealed_uploads"]()):
                    # One that no key opens is of no use any more, and must not hold this up.
                    with contextlib.suppress(SecretUnreadableError):
                        sealed = self._vault.reseal(row["upload_target"])
                        await connection.execute(
                            *SQL["resealed_upload"](id=row["id"], target=sealed)
                        )
                        changed += 1
                for row in await connection.fetch(*SQL["sealed_tails"]()):
                    with contextlib.suppress(SecretUnreadableError):
                        sealed = self._vault.reseal(row["target"])
                        await connection.execute(
                            *SQL["resealed_tail"](
                                id=row["delivery_id"], key=row["key"], target=sealed
                            )
                        )
                        changed += 1
                done = AuditRecord(
                    actor=actor,
                    action="rotate keys",
                    subject="stored secrets",
                    before=None,
                    after=f"{changed} sealed with the first key",
                )
                await record(connection, done)
                return changed

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Give what waits for the next change.

        It raises StoreUnavailableError once the line is cut: changes may have been missed then.
        """
        async with listening(self._pool, _CHANNEL) as heard:

            async def changed() -> None:
                await heard()

            yield changed
