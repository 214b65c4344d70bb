"""What would become of a request: told with every rule, and nothing comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest

from app.delivery.marks import marks_of
from app.delivery.object_store import FoundObject
from app.delivery.targets import Target, TargetCheck
from app.errors import TargetUnavailableError
from app.run.wiring.tenants import ConfigurationParts
from compose.rs_order.faults import Faults
from tests.builders import make_delivery
from tests.integration.conftest import Deliveries
from tests.twins.users import MemoryUsers
from tests.web.conftest import Api, MakeClient, parts_for, serve
from tests.web.test_deliveries import FAR, MINE, OWNER, USER, content, of_mine, request

OPERATOR: dict[str, Any] = {"role": "EXPLOIT"}
GOOD = [TargetCheck(check="reachable"), TargetCheck(check="bucket")]
BAD = [TargetCheck(check="reachable"), TargetCheck(check="bucket", flaw="no bucket at 10.0.0.7")]

Ask = Callable[..., Awaitable[Any]]


class Outside:
    """What is asked of others, and what they say."""

    def __init__(self) -> None:
        self.users = MemoryUsers()
        self.found: dict[str, FoundObject] = {}
        self.steps = GOOD
        self.tried: list[Target] = []
        self.away = False

    async def find(self, _target: Target, key: str) -> FoundObject | None:
        if self.away:
            raise TargetUnavailableError("connection refused by 10.0.0.7")
        return self.found.get(key)

    async def probe(self, target: Target) -> list[TargetCheck]:
        self.tried.append(target)
        return self.steps

    def put(self, key: str, **whose: Any) -> None:
        """Let there be an object of a delivery."""
        self.found[key] = FoundObject(size=1, etag="e", marks=marks_of(make_delivery(**whose)))


@pytest.fixture
def outside() -> Outside:
    """Others that find nothing wrong."""
    return Outside()


@pytest.fixture
async def api(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, outside: Outside
) -> Api:
    """The application, with what it asks."""
    trial = outside.probe
    parts = parts_for(configuration, users=outside.users, find=outside.find, trial=trial)
    return await serve(aiohttp_client, parts)


@pytest.fixture
async def ask(api: Api, deliveries: Deliveries) -> Ask:
    """Try a request; nothing may come of it."""

    async def tried(body: Any, query: str = "", **caller: Any) -> Any:
        before = await deliveries.rows(), await deliveries.owed()
        answer = await api.call("POST", f"/deliveries/validate{query}", json=body, **caller)
        told = await content(answer)
        assert (await deliveries.rows(), await deliveries.owed()) == before
        assert told["granted"] is ("broken" not in told)
        return told

    return tried


async def test_a_good_request_is_told_what_would_be_done_where(
    ask: Ask, api: Api, outside: Outside
) -> None:
    before = datetime.now(UTC)
    told = await ask(request("d"))
    assert told["granted"] is True
    assert "errorType" not in told
    assert "problems" not in told
    assert told["user"] == {"name": USER, "known": True}
    assert told["format"] == "zip"
    assert told["target"] == {
        "name": "regards-s3-minio",
        "ok": True,
        "checks": [
            {"check": "reachable", "ok": True, "message": "yes"},
            {"check": "bucket", "ok": True, "message": "yes"},
        ],
    }
    assert told["place"] == {
        "key": "d/{productId}_v{version}.zip",
        "keyOfSeveral": "d/delivery-d.zip",
        "free": None,
        "message": "its name is known once its products are",
    }
    expires = datetime.fromisoformat(told["expiresAt"])
    assert before + timedelta(hours=12) - timedelta(seconds=1) <= expires
    assert expires <= datetime.now(UTC) + timedelta(hours=12)
    limits = await content(await api.call("GET", "/limits"))
    limits.pop("http")
    limits["request"].pop("bodyBytes")
    assert told["limits"] == limits
    assert len(outside.tried) == 1


async def test_a_target_is_not_tried_where_that_is_not_asked_for(
    ask: Ask, api: Api, outside: Outside
) -> None:
    """What is checked before each request takes none of the few turns that a tenant has."""
    outside.steps = BAD
    for caller in ({}, OWNER):
        body = request("d") if not caller else of_mine()
        told = await ask(body, "?probe=false", **caller)
        assert told["granted"] is True
        assert "problems" not in told
        assert (told["target"]["ok"], told["target"]["message"]) == (
            None,
            "not tried: that was not asked for",
        )
        assert told["place"]["free"] is None
    assert outside.tried == []
    answer = await api.call("POST", "/deliveries/validate?probe=maybe", json=request("d"))
    assert answer.status == 422


async def test_every_broken_rule_is_told_at_once(ask: Ask, api: Api) -> None:
    await api.put("delivery_targets", {"far": FAR})
    told = await ask(
        {
            "correlationId": " ",
            "targetDelivery": "near",
            "order": {"user": USER, "queries": []},
            "delivery": {"archiveName": "{orbit}", "prefix": "..", "labels": ["a", "a"]},
        }
    )
    assert told["errorType"] == "INVALID_CONTENT"
    assert [rule.partition(",")[0] for rule in told["broken"]] == [
        "correlationId must not be blank",
        "order.queries must have at least one entry",
        "delivery.archiveName has {orbit}",
        "delivery.prefix must have no / at its ends",
        "delivery.labels must not have the same one twice",
        "targetDelivery 'near' is unknown; there are far",
    ]
    assert told["user"] == {"name": USER, "known": True}
    assert not {"place", "expiresAt", "target"} & told.keys()


async def test_rules_of_the_tenant_are_told_together(ask: Ask, api: Api) -> None:
    await api.put("delivery_targets", {"far": FAR})
    await api.put("delivery_format", "files")
    asked = {"archiveName": "x", "deadline": "2020-01-01T00:00:00Z"}
    told = await ask(request("d") | {"targetDelivery": "near", "delivery": asked})
    target, name, deadline = told["broken"]
    assert target.startswith("targetDelivery 'near' is unknown")
    assert name.startswith("delivery.archiveName names an archive, and there is none")
    assert deadline.startswith("delivery.deadline 2020-01-01T00:00:00Z was over")


async def test_an_unknown_user_is_forbidden(ask: Ask, outside: Outside) -> None:
    outside.users.faults = Faults(unknown_users=[USER])
    told = await ask(request("d"))
    assert told["errorType"] == "FORBIDDEN"
    assert told["broken"] == [f"order.user {USER} is not a user of tenant sentinel"]
    assert told["user"] == {"name": USER, "known": False}


async def test_what_rs_admin_does_not_say_denies_nothing(ask: Ask, outside: Outside) -> None:
    outside.users.faults = Faults(admin_answers_500=9)
    told = await ask(request("d"))
    assert told["granted"] is True
    assert told["user"]["known"] is None
    assert "told to fail" in told["user"]["message"]
    told = await ask(request("d"), **OPERATOR)
    assert told["user"]["message"] == "that can't be told now; a request waits until it can be"


async def test_a_target_that_takes_nothing_is_told_in_detail_to_those_who_set_it(
    ask: Ask, outside: Outside
) -> None:
    outside.steps = BAD
    told = await ask(request("d"))
    assert told["granted"] is True
    assert told["target"]["ok"] is False
    (problem,) = told["problems"]
    assert "bucket: no bucket at 10.0.0.7" in problem
    assert told["place"]["free"] is None
    for caller, body in ((OPERATOR, request("d")), (OWNER, of_mine())):
        told = await ask(body, **caller)
        assert told["target"]["checks"] == [
            {"check": "reachable", "ok": True},
            {"check": "bucket", "ok": False},
        ]
        assert "10.0.0.7" not in str(told)
        assert len(told["problems"]) == 1


async def test_a_target_is_tried_a_few_times_a_minute_and_then_told_of_without(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, outside: Outside
) -> None:
    parts = parts_for(configuration, users=outside.users, find=outside.find, trial=outside.probe)
    api = await serve(aiohttp_client, parts)
    for _ in range(5):
        told = await content(await api.call("POST", "/deliveries/validate", json=request("d")))
        assert told["target"]["ok"] is True
    told = await content(await api.call("POST", "/deliveries/validate", json=request("d")))
    assert told["granted"] is True
    assert told["target"]["ok"] is None
    assert (
        "targets of tenant sentinel are tried as often as they may be" in told["target"]["message"]
    )
    assert told["place"]["free"] is None
    assert len(outside.tried) == 5
    body = request("d")
    other = await api.call("POST", "/deliveries/validate", json=body, tenant="swot")
    assert (await content(other))["target"]["ok"] is True


NAMED = {"archiveName": "{date}", "prefix": "campaign/{user}"}


async def test_a_place_is_told_with_what_is_there(
    ask: Ask, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = datetime.now(UTC)

    class Stands(datetime):
        """A clock on which no midnight comes."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return moment.astimezone(tz)

    monkeypatch.setattr("app.usecases.dry_run.datetime", Stands)
    key = f"campaign/{USER}/d/{moment.date()}.zip"
    body = request("d") | {"delivery": NAMED}
    assert (await ask(body))["place"] == {"key": key, "free": True}
    outside.put(key, tenant="sentinel", user=USER)
    told = await ask(body)
    assert told["place"] == {
        "key": key,
        "free": True,
        "message": f"{key} is there, and would be replaced",
    }
    outside.put(key, tenant="sentinel", user="another@example.org")
    told = await ask(body)
    assert told["granted"] is True
    assert told["place"]["free"] is False
    (problem,) = told["problems"]
    assert "holds the archive of another user's delivery, and is not replaced" in problem
    outside.away = True
    told = await ask(body)
    assert told["place"]["free"] is None
    assert told["place"]["message"] == "it could not be looked at just now"


async def test_the_tenants_own_names_and_format_are_told(ask: Ask, api: Api) -> None:
    await api.put("delivery_format", "tar")
    await api.put("archive_name", "{productId}-x")
    await api.put("prefix", "p/{productId}")
    told = await ask(request("d"))
    assert told["format"] == "tar"
    assert told["place"]["key"] == "p/{productId}/d/{productId}-x.tar"
    assert told["place"]["keyOfSeveral"] == "p/several/d/several-x.tar"
    told = await ask(request("d") | {"delivery": {"format": "files", "prefix": ""}})
    assert told["place"]["key"] == "d/manifest.json"
    assert told["place"]["free"] is True


async def test_an_id_that_is_in_use_is_told(ask: Ask, deliveries: Deliveries) -> None:
    active = await deliveries.granted("d")
    told = await ask(request("d"))
    assert told["granted"] is False
    assert "errorType" not in told
    assert told["active"] == {"id": str(active.id), "state": "GRANTED"}
    assert told["broken"][0].startswith("a delivery d of tenant sentinel is still active")
    assert "active" not in await ask(request("d"), tenant="swot")
    await deliveries.fail(active, "for the test")
    assert (await ask(request("d")))["granted"] is True


async def test_a_user_is_told_nothing_of_what_is_not_theirs(
    ask: Ask, deliveries: Deliveries, outside: Outside
) -> None:
    await deliveries.granted("running")
    told = await ask(of_mine(), **OWNER)
    assert told["granted"] is True
    assert told["correlationId"].startswith(MINE)
    assert told["limits"]["request"]["correlationIdPrefix"] == MINE
    outside.users.asked.clear()
    running, nothing = [await ask(request(name), **OWNER) for name in ("running", "nothing")]
    assert running == nothing
    assert [rule.partition(" must")[0] for rule in running["broken"]] == [
        "correlationId",
        "order.user",
    ]
    assert outside.users.asked == []
    told = await ask(of_mine(delivery={"prefix": "running"}), "?priority=2", **OWNER)
    assert [rule.partition(" must")[0] for rule in told["broken"]] == [
        "delivery.prefix",
        "priority",
    ]
    body = {"order": {"user": "admin@example.org", "queries": []}}
    assert (await ask(body, **OWNER))["broken"] == ["order.queries must have at least one entry"]


async def test_what_is_no_request_is_refused_as_if_it_were_made(api: Api) -> None:
    for body, status in (([], 422), ({"correlationId": "a\0b"}, 422)):
        assert (await api.call("POST", "/deliveries/validate", json=body)).status == status
    answer = await api.call("POST", "/deliveries/validate", data=b"{")
    assert answer.status == 400
    answer = await api.call("POST", "/deliveries/validate", json={}, role="PUBLIC")
    assert answer.status == 403
    answer = await api.call("POST", "/deliveries/validate", json={}, tenant="unserved")
    assert answer.status == 403


async def test_a_delivery_called_validate_is_one(api: Api, deliveries: Deliveries) -> None:
    await deliveries.granted("validate")
    found = await content(await api.call("GET", "/deliveries/validate"))
    assert found["correlationId"] == "validate"


@pytest.mark.parametrize("caller", [{}, OPERATOR, OWNER])
async def test_limits_tell_what_holds_and_neither_secrets_nor_places(
    api: Api, caller: dict[str, Any]
) -> None:
    await api.put("delivery_targets", {"far": FAR})
    await api.put("order_size_limit_bytes", 7)
    await api.put("archive_name", "{date}")
    limits = await content(await api.call("GET", "/limits", **caller))
    settings = limits["settings"]
    assert (settings["order_size_limit_bytes"], settings["archive_name"]) == (7, "{date}")
    assert {"request_ttl", "max_suborders", "delivery_format", "prefix"} <= settings.keys()
    assert (
        not {"s3_server", "delivery_bucket", "build_bucket", "delivery_targets"} & settings.keys()
    )
    assert limits["targets"] == ["far", "regards-s3-minio"]
    assert "zip" in limits["formats"]
    assert "far.example.org" not in str(limits)
    assert limits["request"]["queries"] == 1000
    assert limits["request"].get("correlationIdPrefix") == (MINE if caller == OWNER else None)
    assert limits["archive"] == {"files": 1_000_000, "bytes": 5 * 1024**4}
    assert limits["http"]["requestsPerSecond"] == 50
    other = await content(await api.call("GET", "/limits", tenant="swot"))
    assert other["targets"] == ["regards-s3-minio"]
    assert other["settings"]["order_size_limit_bytes"] != 7


async def test_limits_hold_what_is_refused_beyond_them(api: Api, ask: Ask) -> None:
    limits = (await content(await api.call("GET", "/limits")))["request"]
    name, query = limits["correlationId"], limits["query"]
    good = request("d" * name, user="u" * limits["user"], queries=["q" * query])
    assert (await ask(good))["granted"] is True
    for body in (
        request("d" * (name + 1)),
        request(user="u" * (limits["user"] + 1)),
        request(queries=["q" * (query + 1)]),
        request(queries=["q"] * (limits["queries"] + 1)),
        request() | {"targetDelivery": "t" * (limits["targetDelivery"] + 1)},
        request() | {"delivery": {"archiveName": "a" * (limits["template"] + 1)}},
        request() | {"delivery": {"labels": ["l" * (limits["label"] + 1)]}},
        request() | {"delivery": {"labels": [f"{n}" for n in range(limits["labels"] + 1)]}},
    ):
        assert len((await ask(body))["broken"]) == 1


async def test_a_tenant_in_maintenance_is_told_of_it(api: Api) -> None:
    assert (await api.call("PUT", "/maintenance/sentinel/enable")).status == 200
    assert (await api.call("POST", "/deliveries/validate", json=request())).status == 503
    assert (await api.call("GET", "/limits")).status == 200
