"""What a process knows of the tenants' settings is what was stored last."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from app.delivery.targets import DEFAULT_TARGET
from app.errors import SecretUnreadableError, TargetUnavailableError
from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.tenants.configure import Configure
from app.tenants.ports import ConfigurationStore
from app.tenants.registry import ConfiguredTenants
from app.tenants.values import Configuration, StoredValue


def holding(ttl: int) -> Configuration:
    return Configuration(
        settings={"t": {"request_ttl": StoredValue(value=ttl, version=ttl)}},
        paused={},
        unreadable={},
    )


class Store:
    """Its first answer is late."""

    def __init__(self) -> None:
        self.stored = 1
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()

    async def read(self) -> Configuration:
        found = holding(self.stored)
        if not self.asked.is_set():
            self.asked.set()
            await self.answers.wait()
        return found


async def test_an_earlier_read_does_not_replace_a_later_one() -> None:
    """Two changes at once, or a change and the news of another: the older must not stay.

    Nor does the one wait for the other.
    """
    store: Any = Store()
    tenants = ConfiguredTenants(Settings(tenants=("t",)), KINDS)
    first, second = (Configure(cast("ConfigurationStore", store), tenants) for _ in range(2))
    early = asyncio.create_task(first.refresh())
    await store.asked.wait()
    store.stored = 2
    async with asyncio.timeout(30):
        await second.refresh()  # the first look may wait for a connection, without a limit
    assert tenants.settings("t").request_ttl.total_seconds() == 2 * 3600
    store.answers.set()
    await early
    assert tenants.settings("t").request_ttl.total_seconds() == 2 * 3600


def test_a_target_of_a_later_version_waits_and_stops_no_other() -> None:
    """While versions are mixed, one tenant's setting must not end what delivers for all."""
    tenants = ConfiguredTenants(Settings(tenants=("one", "other")), KINDS)
    later = {"far": {"type": "from-tomorrow", "place": "x"}}
    stored = {"delivery_targets": StoredValue(value=later, version=1)}
    tenants.apply(Configuration(settings={"one": stored}))
    settings = tenants.settings("one")
    assert settings.target_named(DEFAULT_TARGET) == settings.target
    assert settings.knows("far")
    with pytest.raises(TargetUnavailableError, match=r"far.*from-tomorrow.*finish the upgrade"):
        settings.target_named("far")
    # There are targets, so that no other name means the default.
    assert not settings.knows("near")
    assert settings.target_named("near") is None
    assert tenants.settings("other").knows("near")


def test_a_setting_of_a_later_version_is_passed_over() -> None:
    tenants = ConfiguredTenants(Settings(tenants=("one",)), KINDS)
    stored = {
        "from_tomorrow": StoredValue(value=1, version=1),
        "request_ttl": StoredValue(value=7, version=2),
    }
    tenants.apply(Configuration(settings={"one": stored}))
    assert tenants.settings("one").request_ttl.total_seconds() == 7 * 3600
    assert "from_tomorrow" not in [setting.name for setting in tenants.listing("one")]


def test_a_field_of_a_quota_of_a_later_version_is_passed_over() -> None:
    tenants = ConfiguredTenants(Settings(tenants=("one",)), KINDS)
    quota = {
        "tenant": {"active": 3, "requests_per_minute": 0, "bytes_per_day": 0, "files_per_day": 9},
        "user": {"active": 1, "requests_per_minute": 0, "bytes_per_day": 0},
        "over_requests": "wait",
        "over_bytes": "wait",
        "over_files": "wait",
    }
    tenants.apply(Configuration(settings={"one": {"quota": StoredValue(value=quota, version=1)}}))
    of_one = tenants.settings("one").quota
    assert (of_one.tenant.active, of_one.user.active) == (3, 1)


def test_secrets_that_cannot_be_read_are_counted_and_their_tenants_not_named() -> None:
    tenants = ConfiguredTenants(Settings(tenants=("one", "other")), KINDS)
    tenants.check_all_secrets()
    tenants.apply(Configuration(unreadable={"other": "no key fits"}))
    with pytest.raises(SecretUnreadableError, match="secrets of 1 tenants") as raised:
        tenants.check_all_secrets()
    assert "other" not in str(raised.value)
