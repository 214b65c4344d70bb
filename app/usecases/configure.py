"""Tenants change their settings: checked, stored, noted in the audit trail, at once in effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app import catalogue
from app.configuration import Actor, Done, Maintenance, Setting
from app.errors import SettingChangedError
from app.logs import get_logger
from app.model import TenantSettings
from app.ports import ConfigurationChange, ConfigurationStore
from app.tenants import ConfiguredTenants

log = get_logger(__name__)


class Configure:
    """What can be done to a tenant's configuration."""

    def __init__(self, store: ConfigurationStore, tenants: ConfiguredTenants) -> None:
        self._store = store
        self._tenants = tenants

    def serves(self, tenant: str) -> bool:
        """Whether the tenant is one of those that are served."""
        return self._tenants.known(tenant)

    async def refresh(self) -> None:
        """Take in what the store holds. Raises StoreUnavailableError; then nothing changes."""
        self._tenants.apply(await self._store.read())

    def listing(self, tenant: str, names: Sequence[str] = ()) -> list[Setting]:
        """Return the tenant's settings, or those of them that are named."""
        return [
            setting
            for setting in self._tenants.listing(tenant)
            if not names or setting.name in names
        ]

    def setting(self, tenant: str, name: str) -> Setting:
        """Return one setting. Raises UnknownSettingError."""
        catalogue.definition_of(name)
        (found,) = self.listing(tenant, [name])
        return found

    async def parsed(self, tenant: str, name: str, value: Any) -> Any:
        """Return a value as it would be stored, without storing it; it may hold a secret.

        Raises UnknownSettingError, InvalidSettingError.
        """
        async with self._store.change(tenant) as change:
            return catalogue.parse(name, value, current=self._current(change, name))

    async def resolved(self, tenant: str, values: Mapping[str, Any]) -> TenantSettings:
        """Return what the tenant's settings mean, with these values in place of those stored."""
        async with self._store.change(tenant) as change:
            return catalogue.resolve(
                {
                    name: values.get(name, self._current(change, name))
                    for name in catalogue.DEFINITIONS
                }
            )

    async def put(
        self, actor: Actor, name: str, value: Any, *, versions: Sequence[int] | None = None
    ) -> Setting:
        """Set a value.

        With `versions`, only if it has one of them now. Raises UnknownSettingError,
        InvalidSettingError with every reason, SettingChangedError.
        """
        catalogue.definition_of(name)
        async with self._store.change(actor.tenant) as change:
            _expect(change, name, versions)
            done = await self.set(change, actor, name, value)
        await self.take_effect(done)
        return self._tenants.shown(name, change.values.get(name))

    async def reset(
        self, actor: Actor, name: str, *, versions: Sequence[int] | None = None
    ) -> Setting:
        """Put a setting back to its default. Raises like `put`."""
        catalogue.definition_of(name)
        async with self._store.change(actor.tenant) as change:
            _expect(change, name, versions)
            done = await self.unset(change, actor, name)
        await self.take_effect(*done)
        return self._tenants.shown(name, change.values.get(name))

    async def set(self, change: ConfigurationChange, actor: Actor, name: str, value: Any) -> Done:
        """Set a value as a part of a change. Raises like `put`; then nothing of it is done."""
        catalogue.definition_of(name)
        current = self._current(change, name)
        parsed = catalogue.parse(name, value, current=current)
        await change.set(name, parsed)
        other = not catalogue.same_secrets(current, parsed)
        done = Done(
            actor=actor,
            action="set, with another secret" if other else "set",
            subject=name,
            before=catalogue.masked(current),
            after=catalogue.masked(parsed),
        )
        await change.note(done)
        return done

    async def unset(self, change: ConfigurationChange, actor: Actor, name: str) -> list[Done]:
        """Put a setting back to its default as a part of a change; return what that changed."""
        if name not in change.values:
            return []
        done = Done(
            actor=actor,
            action="reset",
            subject=name,
            before=catalogue.masked(self._current(change, name)),
            after=catalogue.masked(self._tenants.default(name)),
        )
        await change.reset(name)
        await change.note(done)
        return [done]

    async def take_effect(self, *done: Done) -> None:
        """Make what was committed hold here, and log it; the store tells other processes."""
        for change in done:
            log.info(
                "configuration_changed",
                tenant=change.actor.tenant,
                actor=change.actor.name,
                role=change.actor.role,
                action=change.action,
                subject=change.subject,
                before=change.before,
                after=change.after,
            )
        await self.refresh()

    async def maintain(self, actor: Actor, *, active: bool) -> Maintenance:
        """Put the tenant into maintenance, or take it out."""
        before = await self._store.maintenance(actor.tenant)
        was = before is not None and before.active
        async with self._store.change(actor.tenant) as change:
            maintenance = await change.maintain(active=active)
            done = Done(actor=actor, action="set", subject="maintenance", before=was, after=active)
            await change.note(done)
        await self.take_effect(done)
        return maintenance

    async def maintenance(self, tenant: str) -> Maintenance | None:
        """Return whether the tenant is in maintenance; None if it never was."""
        return await self._store.maintenance(tenant)

    def _current(self, change: ConfigurationChange, name: str) -> Any:
        stored = change.values.get(name)
        return self._tenants.default(name) if stored is None else stored.value


def _expect(change: ConfigurationChange, name: str, versions: Sequence[int] | None) -> None:
    version = change.values[name].version if name in change.values else 0
    if versions is not None and version not in versions:
        raise SettingChangedError(
            f"{name} was changed by somebody else meanwhile; read it again, then decide"
        )
