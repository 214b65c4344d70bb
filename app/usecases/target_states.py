"""Each target of a tenant: how it goes with it, whether it is paused, what needs an operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.delivery.targets import DEFAULT_TARGET, Target
from app.tenants.places import place_of
from app.tenants.registry import ConfiguredTenants
from app.views.attention import AttentionView, Need, Trouble, Troubles
from app.views.pauses import PauseView
from app.views.targets import FailureView, TargetSeen, TargetsSeen, TargetState, TargetView


@dataclass(frozen=True, kw_only=True)
class TargetStates:
    """What is known of targets. Nothing is written for it, and no target is asked."""

    seen: TargetsSeen
    troubles: Troubles
    tenants: ConfiguredTenants

    async def of(self, tenants: Sequence[str], *, places: bool) -> list[TargetView]:
        """Return the targets of some tenants; with `places`, where they are.

        Those that are set, and those that something waits for though they are not any more.
        """
        seen = {(each.tenant, each.name): each for each in await self.seen.targets(tenants)}
        troubles = {
            (trouble.tenant, trouble.subject): trouble
            for trouble in await self.troubles.troubles(tenants)
            if trouble.code is Need.TRANSFERS_FAIL
        }
        shown = []
        for tenant in tenants:
            set_here = self._targets(tenant)
            for name in [*set_here, *self._others(tenant, seen)]:
                known = seen.get((tenant, name)) or _unseen(tenant, name)
                target = set_here.get(name)
                if name not in set_here and self.tenants.settings(tenant).knows(name):
                    target = set_here[DEFAULT_TARGET]  # any name means it, where no other is set
                view = self._shown(known, target, troubles.get((tenant, name)), places=places)
                shown.append(view)
        return shown

    def _targets(self, tenant: str) -> dict[str, Target | None]:
        """Return those that are set; None: this version does not understand it."""
        settings = self.tenants.settings(tenant)
        not_understood = dict.fromkeys(settings.not_understood)
        return {DEFAULT_TARGET: settings.target, **settings.targets, **not_understood}

    def _others(self, tenant: str, seen: dict[tuple[str, str], TargetSeen]) -> list[str]:
        """Return further names that requests chose, and that are still of interest."""
        known = self.tenants.settings(tenant).names
        return [
            name
            for (whose, name), each in seen.items()
            if whose == tenant
            and name not in known
            and (each.running or each.waiting or each.good or each.bad)
        ]

    def _shown(
        self, seen: TargetSeen, target: Target | None, trouble: Trouble | None, *, places: bool
    ) -> TargetView:
        pause = self.tenants.pauses.of_target(seen.tenant, seen.name)
        state, since = TargetState.UNUSED, None
        if pause is not None:
            state, since = TargetState.PAUSED, pause.since
        elif seen.failing_since is not None:
            state, since = TargetState.FAILS, seen.failing_since
        elif seen.last_good is not None:
            state = TargetState.WORKS
        failure = None
        if seen.last_bad is not None:
            failure = FailureView(at=seen.last_bad, code=seen.code, cause=seen.cause)
        return TargetView(
            tenant=seen.tenant,
            name=seen.name,
            type=None if target is None else target.kind,
            place=place_of(target) if places and target is not None else None,
            state=state,
            since=since,
            failures=seen.failures,
            last_good=seen.last_good,
            last_bad=failure,
            running=seen.running,
            waiting=seen.waiting,
            good_last_hour=seen.good,
            bad_last_hour=seen.bad,
            pause=None if pause is None else PauseView.of(pause),
            attention=None if trouble is None else AttentionView.of(trouble),
        )


def _unseen(tenant: str, name: str) -> TargetSeen:
    return TargetSeen(
        tenant=tenant,
        name=name,
        running=0,
        waiting=0,
        last_good=None,
        last_bad=None,
        code=None,
        cause=None,
        failing_since=None,
        failures=0,
        good=0,
        bad=0,
    )
