"""Tenants change their settings: checked, stored, noted in the audit trail, at once in effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from app.audit import Actor, AuditRecord
from app.delivery.maintenance import Maintenance
from app.delivery.pauses import MAX_PAUSE
from app.encoding import is_plain
from app.errors import InvalidRequestError, InvalidSettingError, SettingChangedError
from app.telemetry.logs import get_logger
from app.tenants.definitions import Definitions
from app.tenants.deployment_key import PLACE, S3_SERVER
from app.tenants.masks import noted, same_secrets
from app.tenants.ports import ConfigurationChange, ConfigurationStore
from app.tenants.registry import ConfiguredTenants
from app.tenants.values import Setting, TenantSettings

log = get_logger(__name__)

_SHOWN = timedelta(seconds=1)  # a time is shown without what is less
MAX_REASON = 300  # characters of what is said of a maintenance


class SharedKeyError(InvalidSettingError):
    """The deployment's S3 key would be used where the operator does not allow it."""


class Configure:
    """What can be done to a tenant's configuration."""

    def __init__(self, store: ConfigurationStore, tenants: ConfiguredTenants) -> None:
        self._store = store
        self._tenants = tenants

    @property
    def definitions(self) -> Definitions:
        """What is known of each setting."""
        return self._tenants.definitions

    def serves(self, tenant: str) -> bool:
        """Whether the tenant is one of those that are served."""
        return self._tenants.known(tenant)

    async def refresh(self) -> None:
        """Take in what the store holds. Raises StoreUnavailableError; then nothing changes.

        What was read earlier is not taken in later. Every change that is committed is followed by a
        look of its own, which begins after it.
        """
        look = self._tenants.look()
        self._tenants.apply(await self._store.read(), look=look)

    def listing(self, tenant: str, names: Sequence[str] = ()) -> list[Setting]:
        """Return the tenant's settings, or those of them that are named."""
        return [
            setting
            for setting in self._tenants.listing(tenant)
            if not names or setting.name in names
        ]

    def setting(self, tenant: str, name: str) -> Setting:
        """Return one setting. Raises UnknownSettingError."""
        self.definitions.of(name)
        (found,) = self.listing(tenant, [name])
        return found

    async def trying(
        self, actor: Actor, name: str, *values: Any
    ) -> tuple[TenantSettings, TenantSettings]:
        """Return what the tenant's settings mean, and what they would mean with another value.

        Noted in the audit trail: an actor who has a place tried makes this service connect to it.
        Raises UnknownSettingError, InvalidSettingError.
        """
        async with self._store.change(actor.tenant) as change:
            own = self._tenants.values_of(actor.tenant, change.values)
            tried = self._current(change, actor.tenant, name)
            changed = own
            for value in values:
                tried = self._parsed(change, actor.tenant, name, value)
                changed = own | {name: tried}
            done = AuditRecord(
                actor=actor,
                action="try",
                subject=name,
                before=None,
                after=noted(tried),
            )
            await change.audit(done)
        _log(done)
        return (
            self._tenants.resolved(actor.tenant, own),
            self._tenants.resolved(actor.tenant, changed),
        )

    async def put(
        self, actor: Actor, name: str, value: Any, *, versions: Sequence[int] | None = None
    ) -> Setting:
        """Set a value.

        With `versions`, only if it has one of them now. Raises UnknownSettingError,
        InvalidSettingError with every reason, SettingChangedError.
        """
        self.definitions.of(name)
        async with self._store.change(actor.tenant) as change:
            _expect(change, name, versions)
            done = await self.set(change, actor, name, value)
        await self.take_effect(done)
        return self._tenants.shown(actor.tenant, name, change.values.get(name))

    async def reset(
        self, actor: Actor, name: str, *, versions: Sequence[int] | None = None
    ) -> Setting:
        """Put a setting back to its default. Raises like `put`."""
        self.definitions.of(name)
        async with self._store.change(actor.tenant) as change:
            _expect(change, name, versions)
            done = await self.unset(change, actor, name)
        await self.take_effect(*done)
        return self._tenants.shown(actor.tenant, name, change.values.get(name))

    async def set(
        self, change: ConfigurationChange, actor: Actor, name: str, value: Any
    ) -> AuditRecord:
        """Set a value as a part of a change. Raises like `put`; then nothing of it is done."""
        self.definitions.of(name)
        current = self._current(change, actor.tenant, name)
        parsed = self._parsed(change, actor.tenant, name, value)
        copied = self._tenants.copies_key(actor.tenant, name, parsed)
        await change.set(name, parsed, deployment_key=copied)
        other = not same_secrets(current, parsed)
        done = AuditRecord(
            actor=actor,
            action="set, with another secret" if other else "set",
            subject=name,
            before=noted(current),
            after=noted(parsed),
        )
        await change.audit(done)
        return done

    async def unset(
        self, change: ConfigurationChange, actor: Actor, name: str
    ) -> list[AuditRecord]:
        """Put a setting back to its default as a part of a change; return what that changed.

        Raises InvalidSettingError; then nothing of it is done.
        """
        if name not in change.values:
            return []
        own = self._tenants.values_of(actor.tenant, change.values)
        self._check_place(
            actor.tenant, name, own, {known: own[known] for known in own if known != name}
        )
        done = AuditRecord(
            actor=actor,
            action="reset",
            subject=name,
            before=noted(self._current(change, actor.tenant, name)),
            after=noted(self._tenants.defaults(actor.tenant)[name]),
        )
        await change.reset(name)
        await change.audit(done)
        return [done]

    async def refer_to_the_deployments_key(self) -> None:
        """Have tenants whose S3 server has a copy of the deployment's key go with it.

        Asked with the key that was there when they copied it, before another is taken in. Versions
        before this one kept nothing but the copy. Raises StoreUnavailableError.
        """
        name, found = S3_SERVER, self._tenants.copying()
        for tenant in found:
            async with self._store.change(tenant) as change:
                stored = change.values.get(name)
                if stored is not None and self._tenants.copies_key(tenant, name, stored.value):
                    await change.refer(name)
                    log.info("deployment_key_referred", tenant=tenant)
        if found:
            await self.refresh()

    async def take_effect(self, *done: AuditRecord) -> None:
        """Make what was committed hold here, and log it; the store tells other processes."""
        for change in done:
            _log(change)
        await self.refresh()

    async def enable_maintenance(
        self, actor: Actor, *, reason: str | None = None, until: datetime | None = None
    ) -> Maintenance:
        """Put the tenant into maintenance, or say something else of the one that it is in.

        It lasts until it is disabled; `until` is when it should be. Raises InvalidRequestError.
        """
        reason = (reason or "").strip() or None
        known = await self._store.maintenance(actor.tenant)
        # What was announced may be over by now, and something else is to be said.
        announced = known.until if known is not None and known.active else None
        stays = until is not None and announced is not None and abs(until - announced) < _SHOWN
        flaws = list(_flaws(reason, None if stays else until))
        if flaws:
            raise InvalidRequestError(flaws)
        return await self._maintain(
            actor, active=True, enabled_by=actor.name, reason=reason, until=until
        )

    async def keep_maintenance(self, actor: Actor) -> Maintenance:
        """Put the tenant into maintenance; one that it is in goes on, with what is said of it."""
        found = await self._store.maintenance(actor.tenant)
        if found is not None and found.active:
            return found
        return await self.enable_maintenance(actor)

    async def disable_maintenance(self, actor: Actor) -> Maintenance:
        """Take the tenant out of maintenance."""
        return await self._maintain(actor, active=False)

    async def _maintain(self, actor: Actor, *, active: bool, **said: Any) -> Maintenance:
        before = await self._store.maintenance(actor.tenant)
        async with self._store.change(actor.tenant) as change:
            maintenance = await change.maintain(active=active, **said)
            done = AuditRecord(
                actor=actor,
                action="set",
                subject="maintenance",
                before=_noted(before),
                after=_noted(maintenance),
            )
            await change.audit(done)
        await self.take_effect(done)
        return maintenance

    async def maintenance(self, tenant: str) -> Maintenance | None:
        """Return whether the tenant is in maintenance; None if it never was."""
        return await self._store.maintenance(tenant)

    def _current(self, change: ConfigurationChange, tenant: str, name: str) -> Any:
        return self._tenants.value_of(tenant, name, change.values.get(name))

    def _parsed(self, change: ConfigurationChange, tenant: str, name: str, value: Any) -> Any:
        parsed = self.definitions.parse(
            name,
            value,
            current=self._current(change, tenant, name),
            settings=self._tenants.static.of_tenant(tenant),
        )
        own = self._tenants.values_of(tenant, change.values)
        self._check_place(tenant, name, own, own | {name: parsed})
        return parsed

    def _check_place(
        self, tenant: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        """Raise SharedKeyError if the deployment's S3 key would be used at a place of the tenant's.

        Where it is used so already, it may stay: that was set when nothing forbade it.
        """
        place = self._tenants.borrowed(tenant, after)
        if name not in PLACE or place in (None, self._tenants.borrowed(tenant, before)):
            return
        # Elsewhere, the tenant has sent the deployment's secret itself: it was not kept for there.
        if not self._tenants.static.allowed_hosts.is_own(place[0]):
            return
        reason = (
            f"{name}: the deployment's own S3 key would be used for a bucket that it is not for; "
            "give s3_server a key of the tenant's own, or leave delivery_bucket at its default (or "
            "ask the operator to set DELIVERY_TENANTS_CHOOSE_BUCKETS)"
        )
        raise SharedKeyError([reason])


def _flaws(reason: str | None, until: datetime | None) -> Iterator[str]:
    if reason is not None and (len(reason) > MAX_REASON or not is_plain(reason)):
        yield f"reason: without control characters, of at most {MAX_REASON} characters"
    now = datetime.now(UTC)
    if until is not None and until <= now:
        yield f"until: {until} is over by now"
    elif until is not None and until > now + MAX_PAUSE:
        yield f"until: {until} is more than ten years away"


def _noted(maintenance: Maintenance | None) -> Any:
    """Return whether it is on; and where something is said of it, that."""
    if maintenance is None or not (maintenance.reason or maintenance.until):
        return maintenance is not None and maintenance.active
    until = maintenance.until
    return {
        "active": maintenance.active,
        "reason": maintenance.reason,
        "until": None if until is None else until.isoformat(),
    }


def _log(change: AuditRecord) -> None:
    log.info(
        "configuration_changed" if change.action != "try" else "configuration_tried",
        tenant=change.actor.tenant,
        actor=change.actor.name,
        role=change.actor.role,
        action=change.action,
        subject=change.subject,
        before=change.before,
        after=change.after,
    )


def _expect(change: ConfigurationChange, name: str, versions: Sequence[int] | None) -> None:
    version = change.values[name].version if name in change.values else 0
    if versions is not None and version not in versions:
        raise SettingChangedError(
            f"{name} was changed by another client meanwhile; read it again, then decide"
        )
