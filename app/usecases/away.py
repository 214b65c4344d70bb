"""Targets that don't answer: their deliveries are not claimed, and say what they wait for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.delivery.ports import DeliveryStore
from app.delivery.targets import DEFAULT_TARGET, Blocked, Target, TargetTrouble
from app.tenants.registry import ConfiguredTenants

_BATCH_SIZE = 1000  # deliveries in one statement


@dataclass(frozen=True, kw_only=True)
class TargetsAway:
    """What the tenants' targets are, beside what is known of their servers."""

    names: Sequence[str]  # of the tenants
    tenants: ConfiguredTenants
    trouble: Callable[[Target], TargetTrouble | None]
    store: DeliveryStore
    _recorded: set[tuple[str, str]] = field(default_factory=set)  # tenant, cause

    def blocked(self) -> Blocked:
        """Return what must not be claimed now."""
        blocked: list[str] = []
        spared: list[tuple[str, str]] = []
        for tenant in self.names:
            targets = self._targets(tenant)
            good = [name for name, target in targets.items() if self.trouble(target) is None]
            if len(good) < len(targets):
                blocked.append(tenant)
                spared += [(tenant, name) for name in good]
        return Blocked(tenants=tuple(blocked), spared=tuple(spared))

    async def record_waits(self) -> None:
        """Record the cause at deliveries that wait; clear it where it holds no longer."""
        troubles = {
            (tenant, _cause(trouble), None if len(targets) == 1 else name)
            for tenant in self.names
            for targets in [self._targets(tenant)]
            for name, target in targets.items()
            if (trouble := self.trouble(target)) is not None
        }
        for tenant, cause, name in troubles:
            self._recorded.add((tenant, cause))
            while (
                await self.store.record_wait(tenant, name, cause, limit=_BATCH_SIZE) == _BATCH_SIZE
            ):
                pass
        for tenant, cause in self._recorded - {(tenant, cause) for tenant, cause, _ in troubles}:
            while await self.store.clear_wait(tenant, cause, limit=_BATCH_SIZE) == _BATCH_SIZE:
                pass
            self._recorded.discard((tenant, cause))

    def _targets(self, tenant: str) -> Mapping[str, Target]:
        settings = self.tenants.settings(tenant)
        return {**settings.targets, DEFAULT_TARGET: settings.target}


def _cause(trouble: TargetTrouble) -> str:
    """Return the same words for all workers that have this trouble, whenever they met it."""
    return (
        f"the {trouble.kind} server {trouble.server} does not answer, or only with errors; no "
        "transfer to it begins until it does, and it is asked at least once a minute"
    )
