"""Configuration files: REGARDS' and ours, whole and in part; readiness; maintenance; resources."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientResponse

from app.errors import BrokerUnavailableError, StoreUnavailableError
from app.run.wiring.tenants import ConfigurationParts
from app.tenants.masks import masked
from tests.targets import s3_of
from tests.web.conftest import TENANT, Api, MakeClient, parts_for, serve
from tests.web.test_settings import MASK, SERVER
from web.api.health import Health

KEY = "fr.cnes.regards.framework.modules.tenant.settings.domain.DynamicTenantSetting"
REGARDS = json.loads((Path(__file__).parent / "config-rs-delivery.json").read_text())


def entry(name: str, value: Any, **changes: Any) -> dict[str, Any]:
    """Return an entry as REGARDS writes it."""
    return {"key": KEY, "value": {"name": name, "value": json.dumps(value)} | changes}


def file_of(*entries: Any, reset: bool = False, **changes: Any) -> dict[str, Any]:
    """Return a file."""
    module = {
        "module": {"id": "delivery", "name": "Delivery module"},
        "resetBeforeImport": reset,
        "configuration": list(entries),
    }
    return {"microservice": "rs-delivery", "modules": [module]} | changes


async def take(api: Api, content: Any, *, field: str = "file", **caller: Any) -> ClientResponse:
    """Import a file."""
    form = aiohttp.FormData()
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    form.add_field(field, io.BytesIO(raw), filename="config-rs-delivery.json")
    return await api.call("POST", "/microservice/configuration", data=form, **caller)


async def values(api: Api, **caller: Any) -> dict[str, Any]:
    """Return the value of each setting."""
    listing = await (await api.call("GET", "/settings", **caller)).json()
    return {item["content"]["name"]: item["content"]["value"] for item in listing}


async def test_a_file_of_regards_is_taken(api: Api, configuration: ConfigurationParts) -> None:
    answer = await take(api, REGARDS)
    assert (answer.status, await answer.text()) == (201, "")
    now = await values(api)
    assert now["request_ttl"] == 36
    assert now["delivery_bucket"] == "delivered-products"
    assert now["order_size_limit_bytes"] == 10737418240
    assert now["s3_server"]["host"] == "minio.regards.example"
    target = s3_of(configuration.tenants.settings(TENANT).target)
    assert target.secret == "the-secret-of-the-file"
    assert target.endpoint == "https://minio.regards.example:9000"


async def test_an_export_gives_another_instance_the_same_settings(api: Api) -> None:
    await api.put("request_ttl", 7)
    await api.put("s3_server", SERVER)
    await api.put("delivery_bucket", "somewhere")
    exported = await api.call("GET", "/microservice/configuration")
    assert exported.status == 200
    assert exported.headers["Content-Disposition"] == (
        'attachment; filename="config-rs-delivery.json"'
    )
    assert SERVER["secret"] not in await exported.text()
    assert (await take(api, await exported.json())).status == 201
    await api.put("order_size_limit_bytes", 1, tenant="swot")
    # The other instance needs the secret: that of its own server is not for this one.
    refused = await take(api, await exported.json(), tenant="swot")
    assert refused.status == 206
    assert "s3_server.secret: the stored one is for another" in await refused.text()
    content = json.loads((await exported.text()).replace(MASK, SERVER["secret"]))
    assert (await take(api, content, tenant="swot")).status == 201
    assert await values(api, tenant="swot") == await values(api)


async def test_the_file_has_the_form_of_regards(api: Api) -> None:
    exported: dict[str, Any] = await (await api.call("GET", "/microservice/configuration")).json()
    (module,), (theirs,) = exported["modules"], REGARDS["modules"]
    assert exported.keys() == REGARDS.keys()
    assert module.keys() == theirs.keys()
    assert module["module"].keys() == theirs["module"].keys()
    ours = {item["value"]["name"]: item["value"] for item in module["configuration"]}
    for item in theirs["configuration"]:
        value = ours[item["value"]["name"]]
        assert value.keys() == item["value"].keys()
        for name in ("className", "containsSensitiveParameters"):
            assert value[name] == item["value"][name]
        assert type(json.loads(value["value"])) is type(json.loads(item["value"]["value"]))
    assert ours.keys() == {item["value"]["name"] for item in theirs["configuration"]}


async def test_targets_travel_with_a_file_and_their_secrets_stay(api: Api) -> None:
    targets: dict[str, Any] = {"far": {"s3_server": SERVER, "bucket": "far-away", "prefix": "in/"}}
    await api.put("delivery_targets", targets)
    exported = await (await api.call("GET", "/microservice/configuration")).json()
    assert (await take(api, exported)).status == 201
    assert await api.value("delivery_targets") == masked(targets) | {
        "far": masked(targets["far"]) | {"addressing_style": "path"}
    }
    answer = await take(api, exported, tenant="swot")
    assert answer.status == 206
    (report,) = await answer.json()
    (error,) = report["importErrors"]
    assert "delivery_targets.far.s3_server.secret: there is no stored one to keep" in error


async def test_a_part_of_a_file_is_taken_and_the_rest_told(api: Api) -> None:
    content = file_of(
        entry("request_ttl", 5),
        entry("request_ttl_x", 5),
        entry("delivery_bucket", "NO"),
        entry("order_size_limit_bytes", "many"),
        {"key": "some.Other", "value": {"name": "build_bucket", "value": '"b"'}},
        "nonsense",
        {"key": KEY, "value": {"name": "build_bucket"}},
    )
    answer = await take(api, content)
    assert answer.status == 206
    (report,) = await answer.json()
    assert report["moduleInformation"] == content["modules"][0]["module"]
    assert not report["onlyErrors"]
    for number, (line, word) in enumerate(
        zip(
            report["importErrors"],
            ["request_ttl_x", "delivery_bucket", "order_size", "key", "object", "no value"],
            strict=True,
        ),
        start=2,
    ):
        assert line.startswith(f"entry {number}: ")
        assert word in line
    assert await api.value("request_ttl") == 5


async def test_a_file_of_which_nothing_can_be_taken_changes_nothing(api: Api) -> None:
    await api.put("request_ttl", 9)
    answer = await take(api, file_of(entry("delivery_bucket", "NO"), reset=False))
    assert answer.status == 409
    (report,) = await answer.json()
    assert report["onlyErrors"]
    other = file_of()
    other["modules"][0]["module"]["id"] = "storage"
    assert (await take(api, other)).status == 409
    assert await api.value("request_ttl") == 9


async def test_reset_before_import_puts_back_what_the_file_does_not_name(api: Api) -> None:
    await api.put("request_ttl", 9)
    await api.put("build_bucket", "builds")
    await take(api, file_of(entry("request_ttl", 10)))
    assert await api.value("build_bucket") == "builds"
    assert (await take(api, file_of(entry("request_ttl", 11), reset=True))).status == 201
    now = await values(api)
    assert (now["request_ttl"], now["build_bucket"]) == (11, "default-build-bucket")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        [],
        {"microservice": "rs-delivery"},
        {"microservice": "rs-fem", "modules": []},
        {"microservice": "rs-delivery", "modules": [1]},
        {"microservice": "rs-delivery", "modules": [{"module": {}, "configuration": 1}]},
    ],
)
async def test_a_file_that_is_no_configuration_is_refused(api: Api, content: Any) -> None:
    answer = await take(api, content)
    assert answer.status == 422
    assert (await answer.json())["message"]


async def test_a_form_without_a_file_is_refused(api: Api) -> None:
    assert (await take(api, file_of(), field="other")).status == 400
    assert (await take(api, b"x" * 1_500_000)).status == 413
    path = "/microservice/configuration"
    assert (await api.call("POST", path, json=file_of())).status == 415
    for body in (b"", b"--x", b"--x\r\n\r\n", b"--x\r\nContent-Disposition: form-data; name=file"):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert (await api.call("POST", path, data=body, headers=headers)).status in (400, 422)
    headers = {"Content-Type": "multipart/form-data"}
    assert (await api.call("POST", path, data=b"x", headers=headers)).status == 400


async def test_a_file_that_repeats_itself_is_refused_as_a_whole(api: Api) -> None:
    answer = await take(api, file_of(*[entry("request_ttl", n) for n in range(101)]))
    assert answer.status == 422
    assert "must not have more than 100 entries" in (await answer.json())["message"]
    assert await api.value("request_ttl") == 12


async def test_a_mask_in_a_file_keeps_the_secret(
    api: Api, configuration: ConfigurationParts
) -> None:
    await api.put("s3_server", SERVER)
    changed = SERVER | {"secret": MASK, "region": "us"}
    assert (await take(api, file_of(entry("s3_server", changed)))).status == 201
    target = s3_of(configuration.tenants.settings(TENANT).target)
    assert (target.secret, target.region) == (SERVER["secret"], "us")
    moved = SERVER | {"secret": MASK, "port": 443}
    assert (await take(api, file_of(entry("s3_server", moved)))).status == 409


async def test_readiness_names_what_is_away_and_what_was(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    away = asyncio.Event()

    async def kafka() -> None:
        if away.is_set():
            raise BrokerUnavailableError("no Kafka broker answers")

    async def database() -> None:
        return

    health = Health({"kafka": kafka, "postgresql": database}, fresh=0.0)
    api = await serve(aiohttp_client, parts_for(configuration, health=health))

    async def look() -> tuple[int, dict[str, Any], dict[str, Any]]:
        answer = await api.call("GET", "/health/ready")
        ready = await (await api.call("GET", "/microservice/ready")).json()
        return answer.status, (await answer.json())["components"], ready

    up = {"kafka": {"status": "UP"}, "postgresql": {"status": "UP"}}
    assert await look() == (200, up, {"ready": True, "reasons": [], "specifications": {}})
    away.set()
    status, components, ready = await look()
    assert (status, components["kafka"]["status"]) == (503, "DOWN")
    assert components["kafka"]["error"] == "no Kafka broker answers"
    assert components["postgresql"] == {"status": "UP"}
    assert (ready["ready"], ready["reasons"]) == (False, ["kafka: no Kafka broker answers"])
    away.clear()
    status, components, _ = await look()
    assert (status, components["kafka"]["status"]) == (200, "UP")
    assert components["kafka"]["lastError"]["error"] == "no Kafka broker answers"


@pytest.mark.parametrize("what", ["configuration", "ready"])
async def test_regards_hears_that_it_can_ask(api: Api, what: str) -> None:
    answer = await api.call("GET", f"/microservice/{what}/enabled")
    assert (answer.status, await answer.json()) == (200, True)


async def test_a_database_that_is_away_is_told_without_a_traceback(
    api: Api, configuration: ConfigurationParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_tenant: str) -> Any:
        raise StoreUnavailableError("PostgreSQL does not answer; it is tried again")

    monkeypatch.setattr(configuration.store, "change", away)
    answer = await api.put("request_ttl", 1)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert await answer.json() == {
        "message": "PostgreSQL does not answer; it is tried again",
        "code": "DATABASE_AWAY",
    }
    assert await api.value("request_ttl") == 12  # what is known is still shown
