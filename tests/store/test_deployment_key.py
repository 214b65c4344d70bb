"""A tenant whose S3 server has a copy of the deployment's key goes with it when it changes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.tenants.configure import Configure, SharedKeyError
from app.tenants.masks import MASK
from app.tenants.registry import ConfiguredTenants
from compose.embedded.stack import TENANT
from tests.builders import make_actor
from tests.deliveries import Deliveries
from tests.targets import s3_of

ACTOR = make_actor(name="admin", tenant=TENANT)
OLD = Settings(
    tenants=(TENANT,),
    s3_endpoint="https://s3.example.org:9000",
    s3_key="old-key",
    s3_secret=SecretStr("old-secret"),
    delivery_prefix="of-{tenant}",
    tenants_choose_buckets=False,
)
NEW = OLD.model_copy(update={"s3_key": "new-key", "s3_secret": SecretStr("new-secret")})


class Process:
    """What a process knows of the tenants, by its own static settings."""

    def __init__(self, deliveries: Deliveries, settings: Settings) -> None:
        self.store = deliveries.configuration
        self.tenants = ConfiguredTenants(settings, KINDS)
        self.configure = Configure(self.store, self.tenants)

    async def start(self) -> Process:
        await self.configure.refresh()
        await self.configure.refer_to_the_deployments_key()
        return self

    @property
    def signs_with(self) -> tuple[str, str]:
        target = s3_of(self.tenants.settings(TENANT).target)
        return target.key, target.secret

    @property
    def prefix(self) -> str:
        return self.tenants.settings(TENANT).target.prefix

    def shown(self) -> dict[str, Any]:
        value = self.configure.setting(TENANT, "s3_server").value
        assert isinstance(value, dict)
        return value


async def test_a_kept_secret_is_the_deployments_whatever_that_becomes(
    deliveries: Deliveries,
) -> None:
    old = await Process(deliveries, OLD).start()
    await old.configure.put(ACTOR, "s3_server", old.shown() | {"region": "elsewhere"})
    stored = (await old.store.read()).settings[TENANT]["s3_server"]
    assert stored.value["secret"] == "old-secret"  # for workers of the version before
    new = await Process(deliveries, NEW).start()
    for process, key, secret in ((old, "old-key", "old-secret"), (new, "new-key", "new-secret")):
        assert process.signs_with == (key, secret)
        assert process.shown() == {**stored.value, "key": key, "secret": MASK}
        assert process.prefix == f"of-{TENANT}/"
        with pytest.raises(SharedKeyError):
            await process.configure.put(ACTOR, "delivery_bucket", "of-another-tenant")
    assert s3_of(new.tenants.settings(TENANT).target).region == "elsewhere"

    # A reload is the same, in the midst; and the mask keeps what it was shown for.
    old.tenants.serve(NEW)
    assert old.signs_with == ("new-key", "new-secret")
    await old.configure.put(ACTOR, "s3_server", old.shown() | {"region": "back"})
    assert old.signs_with == ("new-key", "new-secret")
    newest = NEW.model_copy(update={"s3_key": "newest"})
    assert (await Process(deliveries, newest).start()).signs_with == ("newest", "new-secret")


async def test_a_copy_that_is_there_is_taken_for_the_deployments_while_it_is_the_same(
    deliveries: Deliveries,
) -> None:
    copied = {
        "scheme": "https",
        "host": "S3.example.org",
        "port": 9000,
        "region": "r",
        "key": "old-key",
        "secret": "old-secret",
    }
    async with deliveries.configuration.change(TENANT) as change:
        before = await change.set("s3_server", copied)  # as versions before did
    process = await Process(deliveries, OLD).start()
    after = (await process.store.read()).settings[TENANT]["s3_server"]
    assert after.version == before.version  # it is no change of the tenant's
    assert process.tenants.copying() == []
    assert (await Process(deliveries, NEW).start()).signs_with == ("new-key", "new-secret")


@pytest.mark.parametrize(
    "own", [{"key": "own"}, {"secret": "own-secret"}, {"host": "other.example.org"}, {"port": 9001}]
)
async def test_a_key_of_its_own_and_another_server_stay_what_they_are(
    deliveries: Deliveries, own: dict[str, Any]
) -> None:
    old = await Process(deliveries, OLD).start()
    server = old.shown() | {"secret": "old-secret"} | own
    await old.configure.put(ACTOR, "s3_server", server)
    new = await Process(deliveries, NEW).start()
    assert new.signs_with == (server["key"], server["secret"])


async def test_the_deployments_next_key_is_not_sent_to_a_server_that_it_left(
    deliveries: Deliveries,
) -> None:
    old = await Process(deliveries, OLD).start()
    await old.configure.put(ACTOR, "s3_server", old.shown() | {"region": "elsewhere"})
    moved = NEW.model_copy(update={"s3_endpoint": "https://moved.example.org"})
    assert (await Process(deliveries, moved).start()).signs_with == ("old-key", "old-secret")


async def test_a_key_that_a_tenant_sets_after_is_its_own(deliveries: Deliveries) -> None:
    old = await Process(deliveries, OLD).start()
    await old.configure.put(ACTOR, "s3_server", old.shown() | {"region": "elsewhere"})
    await old.configure.put(ACTOR, "s3_server", old.shown() | {"key": "own", "secret": "own"})
    assert (await Process(deliveries, NEW).start()).signs_with == ("own", "own")
    await old.configure.reset(ACTOR, "s3_server")
    assert (await Process(deliveries, NEW).start()).signs_with == ("new-key", "new-secret")
