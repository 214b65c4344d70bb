"""What tenants may set of targets, where there are several kinds of stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel

from app.delivery.targets import TargetKinds
from app.errors import InvalidSettingError
from app.settings import Settings
from app.tenants.definitions import Definitions
from app.tenants.masks import MASK
from app.tenants.registry import ConfiguredTenants
from sinks.stores.memory import MemoryTarget
from sinks.stores.s3.target import S3Target
from tests.builders import make_s3_server

KINDS = TargetKinds(S3Target, MemoryTarget)
SERVER = make_s3_server(host="s3.example", port=443, region="r", key="k", secret="s")
PLAIN = {"s3_server": SERVER, "bucket": "archives", "prefix": "/in/"}
MEMORY = {"type": "memory", "container": "archives", "prefix": "in"}


def parse(kinds: TargetKinds, value: Any) -> Any:
    """Return `delivery_targets` as it would be stored."""
    return Definitions(kinds).parse("delivery_targets", value, current={}, settings=Settings())


def test_entries_are_read_by_their_types() -> None:
    parsed = parse(KINDS, {"plain": PLAIN, "memory": MEMORY})
    assert parsed["plain"] == PLAIN | {"addressing_style": "path"}
    tenants = ConfiguredTenants(Settings(tenants=("t",)), KINDS)
    targets = tenants.resolved("t", {"delivery_targets": parsed}).targets
    assert targets["plain"] == S3Target(
        endpoint="https://s3.example:443",
        region="r",
        key="k",
        secret="s",
        bucket="archives",
        prefix="in/",
    )
    assert targets["memory"] == MemoryTarget(container="archives", prefix="in/")


@pytest.mark.parametrize("kinds", [KINDS, TargetKinds(S3Target)])
def test_an_entry_of_s3_may_name_its_type(kinds: TargetKinds) -> None:
    parsed = parse(kinds, {"plain": PLAIN | {"type": "s3"}})
    assert parsed["plain"] == PLAIN | {"type": "s3", "addressing_style": "path"}
    assert kinds.configured(parsed["plain"]) == kinds.configured(PLAIN)


@pytest.mark.parametrize("kinds", [KINDS, TargetKinds(S3Target)])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bucket": None}, "delivery_targets.far.bucket: "),
        ({"s3_server": SERVER | {"port": 0}}, "delivery_targets.far.s3_server.port: "),
        ({"color": "red"}, "delivery_targets.far.color: "),
    ],
)
def test_what_is_said_of_an_entry_is_the_same_with_one_kind_or_several(
    kinds: TargetKinds, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidSettingError) as raised:
        parse(kinds, {"far": PLAIN | change})
    (said,) = raised.value.reasons
    assert said.startswith(reason)


@pytest.mark.parametrize("entry", [PLAIN | {"type": "tape"}, PLAIN | {"type": 1}, "far"])
def test_an_unknown_kind_is_refused_in_words(entry: Any) -> None:
    with pytest.raises(InvalidSettingError) as raised:
        parse(KINDS, {"far": entry})
    assert raised.value.reasons == ("delivery_targets.far: type must be one of s3, memory",)


class LocalTarget(MemoryTarget):
    """A kind that an operator allows one container of."""

    @classmethod
    def flaw_of(cls, place: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:
        """Return what is wrong with any other."""
        allowed = settings.delivery_bucket
        return None if place["container"] == allowed else ("container", f"is not {allowed}")


def test_each_kind_says_itself_which_places_an_operator_allows() -> None:
    kinds = TargetKinds(S3Target, LocalTarget)
    good = {"far": PLAIN, "near": MEMORY | {"container": "default-delivery-bucket"}}
    assert parse(kinds, good).keys() == good.keys()
    local = SERVER | {"host": "localhost"}
    with pytest.raises(InvalidSettingError) as raised:
        parse(kinds, {"far": PLAIN | {"s3_server": local}, "secret": MEMORY})
    far, near = raised.value.reasons
    assert far == (
        "delivery_targets.far.s3_server.host: localhost leads to a loopback address, where tenants "
        "may not deliver to: choose another host, or ask the operator to add it to "
        "DELIVERY_S3_ALLOWED_HOSTS"
    )
    assert near == "delivery_targets.secret.container: is not default-delivery-bucket"


def test_the_first_kind_says_it_of_the_default_target() -> None:
    with pytest.raises(InvalidSettingError) as raised:
        Definitions(KINDS).parse(
            "s3_server", SERVER | {"host": "127.0.0.1"}, current={}, settings=Settings()
        )
    (reason,) = raised.value.reasons
    assert reason.startswith("s3_server.host: 127.0.0.1 is a loopback address")


class AccountSettings(BaseModel):
    """An entry of a kind that is reached by the name of an account, or by a host alone."""

    type: Literal["account"] = "account"
    account: str = ""
    host: str | None = None
    secret: str


class AccountTarget(MemoryTarget):
    """A target of that kind."""

    kind: ClassVar[str] = "account"
    settings: ClassVar[type[BaseModel]] = AccountSettings

    @classmethod
    def flaw_of(cls, place: Mapping[str, Any], settings: Settings) -> None:
        """Allow any."""


@pytest.mark.parametrize(
    ("known", "sent", "kept"),
    [
        ({"account": "a"}, {"account": "a"}, True),
        ({"account": "a"}, {"account": "b"}, False),
        ({"account": "a", "host": "h"}, {"account": "b", "host": "h"}, True),
        ({"account": "a", "host": "h"}, {"account": "a", "host": "i"}, False),
        ({"account": "a", "host": "h"}, {"account": "a"}, False),
    ],
)
def test_a_masked_secret_is_kept_for_what_stands_beside_it(
    known: dict[str, str], sent: dict[str, str], kept: bool
) -> None:
    definitions = Definitions(TargetKinds(S3Target, AccountTarget))
    common = {"type": "account", "secret": MASK}

    def parse() -> Any:
        current = {"far": common | known | {"secret": "stored"}}
        value = {"far": common | sent}
        return definitions.parse("delivery_targets", value, current=current, settings=Settings())

    if kept:
        assert parse()["far"]["secret"] == "stored"
    else:
        with pytest.raises(InvalidSettingError, match="send the secret for this one"):
            parse()


def test_the_schema_tells_every_kind() -> None:
    (targets,) = (
        definition for definition in Definitions(KINDS) if definition.name == "delivery_targets"
    )
    schema = targets.type.json_schema()
    entry = schema["additionalProperties"]
    assert [choice["$ref"].rpartition("/")[2] for choice in entry["oneOf"]] == [
        "DeliveryTarget",
        "MemorySettings",
    ]
