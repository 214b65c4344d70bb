"""What must wait: for a target that does not answer, for the end of a pause. It says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from app.codes import Code
from app.delivery.pauses import Pauses
from app.delivery.ports import DeliveryStore
from app.delivery.targets import DEFAULT_TARGET, Blocked, Target, TargetTrouble
from app.tenants.registry import ConfiguredTenants

_BATCH_SIZE = 1000  # deliveries in one statement


@dataclass(frozen=True, kw_only=True)
class TargetsAway:
    """What the tenants' targets are, beside what is known of their servers, and of pauses."""

    tenants: ConfiguredTenants
    trouble: Callable[[Target], TargetTrouble | None]
    store: DeliveryStore
    _recorded: set[tuple[str, str]] = field(default_factory=set)  # tenant, cause

    def blocked(self) -> Blocked:
        """Return what must not be claimed now."""
        blocked: list[str] = []
        spared: list[tuple[str, str]] = []
        for tenant in self.tenants.worked_for:
            if self._pauses.of_tenant(tenant) is not None:
                blocked.append(tenant)
                continue
            targets = self._targets(tenant)
            good = [
                name
                for name, target in targets.items()
                if self.trouble(target) is None and self._pauses.of_target(tenant, name) is None
            ]
            if len(good) < len(targets):
                blocked.append(tenant)
                spared += [(tenant, name) for name in good]
        return Blocked(tenants=tuple(blocked), spared=tuple(spared))

    @property
    def _pauses(self) -> Pauses:
        return self.tenants.pauses

    async def record_waits(self) -> None:
        """Record the cause at deliveries that wait; clear it where it holds no longer."""
        waits = {wait for tenant in self.tenants.worked_for for wait in self._waits(tenant)}
        for tenant, cause, name, code in waits:
            self._recorded.add((tenant, cause))
            noted = _BATCH_SIZE
            while noted == _BATCH_SIZE:
                noted = await self.store.record_wait(
                    tenant, name, cause, limit=_BATCH_SIZE, code=code
                )
        for tenant, cause in self._recorded - {(tenant, cause) for tenant, cause, _, _ in waits}:
            while await self.store.clear_wait(tenant, cause, limit=_BATCH_SIZE) == _BATCH_SIZE:
                pass
            self._recorded.discard((tenant, cause))

    def _waits(self, tenant: str) -> Iterator[tuple[str, str, str | None, Code]]:
        """Give tenant, cause, the target that waits, and the code of the cause.

        None: each target does. A pause counts first.
        """
        if (pause := self._pauses.of_tenant(tenant)) is not None:
            yield tenant, pause.cause, None, Code.PAUSED
            return
        targets = self._targets(tenant)
        for name, target in targets.items():
            concerned = None if len(targets) == 1 else name
            if (pause := self._pauses.of_target(tenant, name)) is not None:
                yield tenant, pause.cause, concerned, Code.PAUSED
            elif (trouble := self.trouble(target)) is not None:
                yield tenant, _cause(trouble), concerned, Code.TARGET_AWAY

    def _targets(self, tenant: str) -> Mapping[str, Target]:
        settings = self.tenants.settings(tenant)
        return {**settings.targets, DEFAULT_TARGET: settings.target}


def _cause(trouble: TargetTrouble) -> str:
    """Return the same words for all workers that have this trouble, whenever they met it."""
    return (
        f"the {trouble.kind} server {trouble.server} does not answer, or only with errors; no "
        "transfer to it begins until it does, and it is asked at least once a minute"
    )
