"""Where tenants may deliver to: refused when it is set, and when it is tried."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from app.delivery.targets import TargetCheck
from app.errors import TargetUnavailableError
from app.run.wiring.tenants import ConfigurationParts, open_configuration
from app.settings import Settings
from app.tenants.places import warn_of_places
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.probe import Prober
from sinks.stores.s3.target import S3Target
from tests.builders import make_target
from tests.servers import serving
from tests.targets import s3_of
from tests.web.conftest import TENANT, Api, MakeClient, parts_for, serve
from tests.web.test_configuration import entry, file_of, take
from tests.web.test_settings import MASK, SERVER
from web.api.targets import TargetsApi


def strict(web_settings: Settings, **changes: Any) -> Settings:
    """Return what holds where the operator has set nothing of it."""
    update = {"s3_allowed_hosts": ("*",), "tenants_choose_buckets": False}
    return web_settings.model_copy(update=update | changes)


@pytest.fixture
async def fenced(pool: asyncpg.Pool, web_settings: Settings) -> ConfigurationParts:
    """Settings of tenants by the defaults of the deployment."""
    return await open_configuration(strict(web_settings), pool)


@pytest.fixture
async def api(fenced: ConfigurationParts, aiohttp_client: MakeClient) -> Api:
    """The application with it."""
    return await serve(aiohttp_client, parts_for(fenced))


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "localhost", "LOCALHOST", "[::1]", "127.0.0.2", "::ffff:127.0.0.1"]
)
@pytest.mark.parametrize("check", ["false", "only"])
async def test_a_host_where_tenants_may_not_deliver_is_refused_in_words(
    api: Api, host: str, check: str
) -> None:
    server = SERVER | {"host": host}
    answer = await api.put("s3_server", server, params={"check": check})
    assert answer.status == 422
    message = (await answer.json())["message"]
    assert message.startswith("s3_server.host: ")
    assert "ask the operator to add it to DELIVERY_S3_ALLOWED_HOSTS" in message
    targets = {"far": {"s3_server": server, "bucket": "far"}}
    answer = await api.put("delivery_targets", targets, params={"check": check})
    assert answer.status == 422
    assert (await answer.json())["message"].startswith("delivery_targets.far.s3_server.host: ")


async def test_a_target_may_be_called_as_a_field_of_a_server_is(api: Api) -> None:
    server = SERVER | {"host": "10.1.2.3"}
    targets = {"secret": {"s3_server": server, "bucket": "far"}}
    assert (await api.put("delivery_targets", targets)).status == 200
    targets = {"secret": {"s3_server": SERVER | {"host": "localhost"}, "bucket": "far"}}
    answer = await api.put("delivery_targets", targets)
    assert answer.status == 422
    assert (await answer.json())["message"].startswith("delivery_targets.secret.s3_server.host: ")


async def test_private_hosts_and_the_deployments_own_server_are_allowed(api: Api) -> None:
    assert (await api.put("s3_server", SERVER | {"host": "10.1.2.3"})).status == 200
    assert (await api.call("DELETE", "/settings/s3_server")).status == 200
    default = await api.value("s3_server")
    assert default["host"] == "127.0.0.1"
    assert (await api.put("s3_server", default)).status == 200


async def test_the_deployments_key_is_for_its_own_bucket_alone(api: Api) -> None:
    bucket = await api.value("delivery_bucket")
    for check in ("false", "only"):
        answer = await api.put("delivery_bucket", "of-another-tenant", params={"check": check})
        assert answer.status == 422
        message = (await answer.json())["message"]
        assert message.startswith("delivery_bucket: the deployment's own S3 key")
        assert "DELIVERY_TENANTS_CHOOSE_BUCKETS" in message
    assert (await api.put("delivery_bucket", bucket)).status == 200
    assert (await api.put("s3_server", SERVER)).status == 200
    assert (await api.put("delivery_bucket", "its-own")).status == 200
    # Nor by way of the server: back to the deployment's with the bucket still chosen.
    answer = await api.call("DELETE", "/settings/s3_server")
    assert answer.status == 422
    assert (await answer.json())["message"].startswith("s3_server: the deployment's own S3 key")
    assert (await api.call("DELETE", "/settings/delivery_bucket")).status == 200
    assert (await api.call("DELETE", "/settings/s3_server")).status == 200


@pytest.mark.parametrize("reversed_", [False, True])
async def test_a_file_may_change_server_and_bucket_in_any_order(api: Api, reversed_: bool) -> None:
    entries = [entry("delivery_bucket", "its-own"), entry("s3_server", SERVER)]
    if reversed_:
        entries.reverse()
    assert (await take(api, file_of(*entries))).status == 201
    assert await api.value("delivery_bucket") == "its-own"
    assert (await take(api, file_of(entry("request_ttl", 3), reset=True))).status == 201
    assert await api.value("s3_server") != SERVER | {"secret": MASK}
    answer = await take(api, file_of(entry("delivery_bucket", "its-own"), entry("request_ttl", 4)))
    assert answer.status == 206
    (report,) = await answer.json()
    (error,) = report["importErrors"]
    assert error.startswith("entry 1: delivery_bucket: the deployment's own S3 key")
    assert await api.value("request_ttl") == 4


async def test_a_bucket_that_was_chosen_before_stays_and_is_named(
    api: Api, fenced: ConfigurationParts, web_settings: Settings, pool: asyncpg.Pool
) -> None:
    before = await open_configuration(web_settings, pool)  # anything was allowed then
    async with before.store.change(TENANT) as change:
        await change.set("delivery_bucket", "chosen-before")
    await fenced.configure.refresh()
    assert fenced.tenants.settings(TENANT).target.container == "chosen-before"
    exported = await (await api.call("GET", "/microservice/configuration")).json()
    assert (await take(api, exported)).status == 201
    assert (await api.put("request_ttl", 5)).status == 200
    assert (await api.put("delivery_bucket", "chosen-now")).status == 422
    assert fenced.tenants.settings(TENANT).target.container == "chosen-before"
    ((tenant, (_, bucket)),) = fenced.tenants.borrowing().items()
    assert (tenant, bucket) == (TENANT, "chosen-before")


async def test_a_start_names_what_tenants_share_and_borrow(fenced: ConfigurationParts) -> None:
    async with fenced.store.change(TENANT) as change:
        await change.set("delivery_bucket", "chosen-before")
    await fenced.configure.refresh()
    names = (TENANT, "swot", "third")
    fenced.tenants.serve(fenced.tenants.static.model_copy(update={"tenants": names}))
    with capture_logs() as logs:
        warn_of_places(fenced.tenants)
    (shared,) = [entry for entry in logs if entry["event"] == "place_shared"]
    assert shared["tenants"] == ["swot (default)", "third (default)"]
    (borrowed,) = [entry for entry in logs if entry["event"] == "deployment_key_borrowed"]
    assert (borrowed["tenant"], borrowed["bucket"]) == (TENANT, "chosen-before")


async def test_defaults_may_hold_the_tenants_name(
    pool: asyncpg.Pool, web_settings: Settings, aiohttp_client: MakeClient
) -> None:
    settings = strict(
        web_settings, delivery_bucket="deliveries-{tenant}", delivery_prefix="of/{tenant}"
    )
    configuration = await open_configuration(settings, pool)
    api = await serve(aiohttp_client, parts_for(configuration))
    for tenant in (TENANT, "swot"):
        assert await api.value("delivery_bucket", tenant=tenant) == f"deliveries-{tenant}"
        target = configuration.tenants.settings(tenant).target
        assert (target.container, target.prefix) == (f"deliveries-{tenant}", f"of/{tenant}/")
        assert (
            await api.put("delivery_bucket", f"deliveries-{tenant}", tenant=tenant)
        ).status == 200
    assert (await api.put("delivery_bucket", "deliveries-swot")).status == 422
    assert (await api.put("s3_server", SERVER)).status == 200
    assert configuration.tenants.settings(TENANT).target.prefix == ""


async def test_a_check_is_audited_and_there_are_few_of_one_tenant(api: Api) -> None:
    statuses = []
    for _ in range(7):
        answer = await api.put("s3_server", SERVER | {"region": "a b"}, params={"check": "only"})
        statuses.append(answer.status)
    assert statuses == [422] * 5 + [429] * 2
    assert int(answer.headers["Retry-After"]) > 0
    assert (await api.put("request_ttl", 5)).status == 200  # only checks are held back
    refused = await api.put("request_ttl", 6, params={"check": "true"})
    assert refused.status == 429
    assert await api.value("request_ttl") == 5  # nothing was saved
    other = await api.put("request_ttl", 6, params={"check": "only"}, tenant="swot")
    assert other.status == 200
    audit = await (await api.call("GET", "/audit", tenant="swot")).json()
    (noted,) = audit["content"]
    assert (noted["action"], noted["subject"], noted["after"]) == ("try", "request_ttl", 6)
    assert await api.value("request_ttl", tenant="swot") == 12


async def test_one_check_of_a_tenant_is_made_at_a_time(
    fenced: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def probe(_target: S3Target) -> list[dict[str, Any]]:
        begun.set()
        await may_end.wait()
        return []

    api = await serve(aiohttp_client, parts_for(fenced, probe=probe))
    first = asyncio.create_task(api.put("request_ttl", 5, params={"check": "only"}))
    await begun.wait()
    second = await api.put("request_ttl", 5, params={"check": "only"})
    assert (second.status, second.headers["Retry-After"]) == (429, "1")
    may_end.set()
    assert (await first).status == 200
    assert (await api.put("request_ttl", 5, params={"check": "only"})).status == 200


async def test_a_check_tries_a_few_targets_and_those_that_change_first(
    fenced: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    tried: list[str] = []

    async def probe(target: S3Target) -> list[TargetCheck]:
        tried.append(target.container)
        return [TargetCheck(check="reachable")]

    api = await serve(aiohttp_client, parts_for(fenced, probe=probe))
    targets = {f"t{n}": {"s3_server": SERVER, "bucket": f"bucket-{n}"} for n in range(30)}
    assert (await api.put("delivery_targets", targets)).status == 200
    targets["t29"]["bucket"] = "another"
    answer = await api.put("delivery_targets", targets, params={"check": "only"})
    found = (await answer.json())["check"]
    assert found.keys() == targets.keys()
    assert len(tried) == 10
    assert "another" in tried
    told = [name for name, steps in found.items() if "not tried" in steps[0]["message"]]
    assert len(told) == 20


@pytest.fixture
async def places() -> Any:
    """What may be at a port: nothing, something silent, something that is no S3."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>not an S3 server</html>", content_type="text/html")

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=403, text="no")

    held = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append((reader, writer))

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with serving(page) as some_page, serving(refuse) as refusal:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            yield {
                "page": some_page,
                "refusal": refusal,
                "silent": server.sockets[0].getsockname()[1],
                "closed": closed.getsockname()[1],
            }
    for _, writer in held:
        writer.close()
    server.close()


async def test_a_check_does_not_tell_what_else_is_at_a_port(places: dict[str, int]) -> None:
    told = set()
    async with open_store() as sink:
        prober = Prober(sink.clients, seconds=1.0)
        for port in places.values():
            (step,) = await prober.probe(make_target(endpoint=f"http://127.0.0.1:{port}"))
            assert (step.check, step.ok) == ("reachable", False)
            told.add(step.message.replace(str(port), "PORT"))
    assert len(told) == 1


async def test_a_check_gives_a_second_request_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("sinks.stores.s3.probe.time", SimpleNamespace(monotonic=lambda: now[0]))

    async def answer(request: web.Request) -> web.Response:
        if request.method == "HEAD":  # for which it takes all the time that there is
            now[0] += 3600.0
            return web.Response(status=403)
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(answer) as port, open_store() as sink, asyncio.timeout(30):
        (step,) = await Prober(sink.clients, seconds=3600.0).probe(
            make_target(endpoint=f"http://127.0.0.1:{port}")
        )
    assert (step.check, step.ok) == ("reachable", False)


async def test_what_an_s3_server_says_itself_is_told(target: S3Target, places: Any) -> None:
    wrong = replace(target, bucket="no-such-bucket")
    async with open_store() as sink:
        steps = await Prober(sink.clients).probe(wrong)
        assert [step.ok for step in steps] == [True, False]
        assert "NoSuchBucket" in steps[1].message
        assert [step.ok for step in await Prober(sink.clients).probe(target)] == [
            True,
            True,
            True,
        ]


@pytest.fixture
def target(configuration: ConfigurationParts) -> S3Target:
    """The embedded stack's bucket."""
    return s3_of(configuration.tenants.settings(TENANT).target)


async def test_the_health_of_targets_does_not_tell_what_is_at_a_port(
    fenced: ConfigurationParts, aiohttp_client: MakeClient, places: dict[str, int]
) -> None:
    async with fenced.store.change(TENANT) as change:
        server = SERVER | {"scheme": "http", "host": "127.0.0.1"}
        await change.set(
            "delivery_targets",
            {
                name: {
                    "s3_server": server | {"port": port},
                    "bucket": "bucket",
                    "addressing_style": "path",
                }
                for name, port in places.items()
            },
        )
    await fenced.configure.refresh()
    async with open_store() as sink:
        prober: Any = Prober(sink.clients, fenced.tenants.static.allowed_hosts)
        trouble: Any = sink.breakers.trouble
        targets = TargetsApi(
            fenced.tenants,
            look=partial(prober.look, sink),
            trouble=trouble,
            told=prober.told,
            patience=1.0,
        )
        api = await serve(aiohttp_client, parts_for(fenced, targets=targets))
        content = (await (await api.call("GET", "/health/targets")).json())["content"]
        told = {
            (shown["status"], shown["error"].replace(str(places[shown["name"]]), "PORT"))
            for shown in content
            if shown["name"] in places
        }
        assert len(told) == 1

        # Nor does what is held back: silence opens a circuit sooner than refused connections.
        settings = fenced.tenants.settings(TENANT)
        opened = [s3_of(settings.target), s3_of(settings.targets["closed"])]
        for silent in opened:
            with pytest.raises(TargetUnavailableError), sink.breakers.watching(silent):
                raise TargetUnavailableError("no answer, of this test") from TimeoutError()
        assert all(map(sink.breakers.trouble, opened))
        content = (await (await api.call("GET", "/health/targets")).json())["content"]
        held = {
            shown["name"]: shown["heldBack"]["cause"] for shown in content if "heldBack" in shown
        }
        assert held == {"default": "no answer, of this test"}
