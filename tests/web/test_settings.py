"""A tenant's settings over HTTP: shown, changed, checked, kept secret."""

from __future__ import annotations

import asyncio
import io
import itertools
from typing import Any

import asyncpg
import pytest

from app.run.wiring.kinds import KINDS
from app.run.wiring.tenants import ConfigurationParts
from app.settings import Settings
from app.tenants.definitions import Definitions
from compose.embedded import s3
from tests.builders import make_s3_server
from tests.targets import s3_of
from tests.web.conftest import Api

SERVER = make_s3_server()
MASK = "*******"


@pytest.mark.parametrize("prefix", ["", "/api/v1/rs-delivery"])
async def test_every_setting_is_shown_with_its_default(api: Api, prefix: str) -> None:
    answer = await api.call("GET", f"{prefix}/settings")
    assert answer.status == 200
    settings = await answer.json()
    assert [setting["content"]["name"] for setting in settings] == Definitions(KINDS).names
    for setting in settings:
        assert setting.keys() == {"content", "links"}
        assert setting["content"].keys() == {"name", "description", "value", "defaultValue"}
        assert setting["content"]["value"] == setting["content"]["defaultValue"]
        hrefs = {link["href"] for link in setting["links"]}
        assert all(
            href.endswith(f"{prefix}/settings/{setting['content']['name']}") for href in hrefs
        )


async def test_only_the_settings_that_are_named_are_shown(api: Api) -> None:
    answer = await api.call(
        "GET", "/settings", params=[("names", "build_bucket"), ("names", "request_ttl")]
    )
    names = [setting["content"]["name"] for setting in await answer.json()]
    assert names == ["request_ttl", "build_bucket"]


async def test_a_setting_is_changed_and_put_back(api: Api) -> None:
    answer = await api.put("request_ttl", 48)
    assert answer.status == 200
    content = (await answer.json())["content"]
    assert (content["value"], content["defaultValue"]) == (48, 12)
    assert await api.value("request_ttl") == 48
    assert await api.value("request_ttl", tenant="swot") == 12
    answer = await api.call("DELETE", "/settings/request_ttl")
    assert (answer.status, (await answer.json())["content"]["value"]) == (200, 12)
    assert await api.value("request_ttl") == 12


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_unknown_setting_is_not_found(api: Api, method: str) -> None:
    answer = await api.call(method, "/settings/nonsense", json={"value": 1})
    assert answer.status == 404
    assert "nonsense" in (await answer.json())["message"]


@pytest.mark.parametrize(
    ("name", "value", "reasons"),
    [
        ("request_ttl", -1, ["request_ttl: "]),
        ("request_ttl", "12", ["request_ttl: "]),
        ("request_ttl", True, ["request_ttl: "]),
        ("request_ttl", 1.5, ["request_ttl: "]),
        ("request_ttl", None, ["request_ttl: "]),
        ("request_ttl", 10**9, ["request_ttl: "]),
        ("order_size_limit_bytes", 2**63, ["order_size_limit_bytes: "]),
        ("delivery_bucket", " ", ["delivery_bucket: must be 3 to 63"]),
        ("delivery_bucket", "Upper-Case", ["delivery_bucket: "]),
        ("delivery_bucket", "192.168.1.1", ["delivery_bucket: must not look like an IP"]),
        ("build_bucket", "a..b", ["build_bucket: must not have two dots"]),
        ("s3_server", {}, [f"s3_server.{name}: " for name in SERVER]),
        (
            "s3_server",
            SERVER | {"scheme": "ftp", "port": 0, "host": "https://x", "region": " ", "more": 1},
            [
                "s3_server.scheme: ",
                "s3_server.host: must be a host alone",
                "s3_server.port: ",
                "s3_server.region: must be letters, digits and hyphens",
                "s3_server.more: ",
            ],
        ),
        (
            "s3_server",
            SERVER | {"host": "a b"},
            ["s3_server.host: must be an IP"],
        ),
        ("s3_server", SERVER | {"host": "1.2.3.999"}, ["s3_server.host: "]),
        ("s3_server", SERVER | {"host": "2130706433"}, ["s3_server.host: "]),
        ("s3_server", SERVER | {"host": "0x7f.0x1"}, ["s3_server.host: "]),
        ("s3_server", SERVER | {"host": "a_b"}, ["s3_server.host: "]),
        ("s3_server", SERVER | {"region": "a b"}, ["s3_server.region: must be letters, digits"]),
        ("s3_server", SERVER | {"region": "é"}, ["s3_server.region: must be letters, digits"]),
        ("s3_server", SERVER | {"region": "12"}, ["s3_server.region: must be letters, digits"]),
        ("s3_server", SERVER | {"key": "a\u0000b"}, ["s3_server.key: must not have control"]),
        ("s3_server", SERVER | {"key": "a\r\nX: b"}, ["s3_server.key: must not have control"]),
        ("s3_server", SERVER | {"key": "clé"}, ["s3_server.key: must have ASCII characters"]),
        ("s3_server", SERVER | {"secret": "hunter2-é"}, ["s3_server.secret: must have ASCII"]),
        ("delivery_format", "cab", ["delivery_format: must be zip"]),
        ("delivery_format", None, ["delivery_format: "]),
        ("archive_name", "{orbit}", ["archive_name: has {orbit}, which stands for nothing"]),
        ("archive_name", "a/b", ["archive_name: must have no /"]),
        ("archive_name", 5, ["archive_name: "]),
        ("prefix", "a/../b", ["prefix: must have no / at its ends, and no empty part"]),
        ("prefix", "a:b/{date}", ["prefix: must be of names that every system takes"]),
        (
            "delivery_targets",
            {"far": {"s3_server": SERVER, "bucket": "far", "prefix": "a/../b"}},
            ["delivery_targets.far.prefix: must have no empty part"],
        ),
        (
            "delivery_targets",
            {"far": {"s3_server": SERVER, "bucket": "far", "encryption_key": "a\nb"}},
            ["delivery_targets.far.encryption_key: must not have control"],
        ),
        (
            "delivery_targets",
            {"far": {"s3_server": SERVER | {"port": 70000}, "bucket": "x"}},
            ["delivery_targets.far.s3_server.port: ", "delivery_targets.far.bucket: "],
        ),
        (
            "delivery_targets",
            {"far": {"s3_server": SERVER | {"secret": MASK}, "bucket": "bucket"}},
            ["delivery_targets.far.s3_server.secret: there is no stored one to keep"],
        ),
    ],
)
async def test_a_wrong_value_is_refused_with_every_reason(
    api: Api, name: str, value: Any, reasons: list[str]
) -> None:
    answer = await api.put(name, value)
    assert answer.status == 422
    body = await answer.json()
    said = body.get("messages", [body["message"]])
    assert len(said) == len(reasons)
    for reason in reasons:
        assert any(message.startswith(reason) for message in said), (reason, said)
    assert "hunter2" not in await answer.text()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"value": NaN}', 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"name": "build_bucket", "value": 1}', 422),
        (b" " * 3_000_000, 413),
    ],
)
async def test_a_body_that_is_no_change_is_refused(api: Api, body: bytes, status: int) -> None:
    answer = await api.call(
        "PUT",
        "/settings/request_ttl",
        data=io.BytesIO(body),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status == status
    assert (await answer.json())["message"]


async def test_a_secret_is_masked_and_kept(
    api: Api, configuration: ConfigurationParts, pool: asyncpg.Pool
) -> None:
    answer = await api.put("s3_server", SERVER)
    assert (await answer.json())["content"]["value"] == SERVER | {"secret": MASK}
    assert await api.value("s3_server") == SERVER | {"secret": MASK}
    stored = await pool.fetchval("SELECT value::text FROM tenant_setting")
    assert "hunter2" not in stored
    changed = await api.put("s3_server", SERVER | {"region": "us", "key": "k2", "secret": MASK})
    assert changed.status == 200
    target = s3_of(configuration.tenants.settings("sentinel").target)
    assert (target.region, target.key, target.secret) == ("us", "k2", SERVER["secret"])


@pytest.mark.parametrize(
    "moved", [{"port": 9001}, {"host": "s3.example.com"}, {"scheme": "http"}, {"host": "1.2.3.4"}]
)
async def test_a_masked_secret_is_not_kept_for_another_server(
    api: Api, configuration: ConfigurationParts, moved: dict[str, Any]
) -> None:
    await api.put("s3_server", SERVER)
    target = {"s3_server": SERVER, "bucket": "bucket"}
    await api.put("delivery_targets", {"far": target})
    server = SERVER | moved | {"secret": MASK}
    for name, value, at in (
        ("s3_server", server, ""),
        ("delivery_targets", {"far": target | {"s3_server": server}}, ".far.s3_server"),
    ):
        answer = await api.put(name, value)
        assert answer.status == 422
        assert (await answer.json())["message"].startswith(
            f"{name}{at}.secret: the stored one is for another scheme, host or port"
        )
    assert (
        configuration.tenants.settings("sentinel").target.endpoint == "https://s3.example.org:9000"
    )


async def test_the_mask_keeps_the_default_secret_at_the_default_server_alone(
    api: Api, configuration: ConfigurationParts
) -> None:
    default = await api.value("s3_server")
    assert (await api.put("s3_server", default | {"region": "another"})).status == 200
    target = s3_of(configuration.tenants.settings("sentinel").target)
    assert (target.region, target.secret) == ("another", s3.SECRET)
    assert (await api.put("s3_server", SERVER | {"secret": MASK})).status == 422
    assert configuration.tenants.settings("sentinel").target == target


async def test_a_change_by_another_client_is_not_overwritten(api: Api) -> None:
    first = await api.call("GET", "/settings/request_ttl")
    seen = first.headers["ETag"]
    changed = await api.put("request_ttl", 1, headers={"If-Match": seen})
    assert changed.status == 200
    assert changed.headers["ETag"] != seen
    for tags in (seen, '"x"', f"W/{changed.headers['ETag']}", '"' + "9" * 5000 + '"', "nonsense"):
        stale = await api.put("request_ttl", 2, headers={"If-Match": tags})
        assert stale.status == 412, tags
    stale = await api.call("DELETE", "/settings/request_ttl", headers={"If-Match": seen})
    assert stale.status == 412
    assert await api.value("request_ttl") == 1
    several = f'"0", {changed.headers["ETag"]}'
    assert (await api.put("request_ttl", 3, headers={"If-Match": several})).status == 200
    assert (await api.put("request_ttl", 4, headers={"If-Match": "*"})).status == 200


async def test_concurrent_changes_leave_one_of_them_whole(api: Api) -> None:
    servers = [SERVER | {"host": f"h{n}.example.org", "port": 1000 + n} for n in range(12)]
    answers = await asyncio.gather(*(api.put("s3_server", server) for server in servers))
    assert {answer.status for answer in answers} == {200}
    left = await api.value("s3_server")
    assert left in [server | {"secret": MASK} for server in servers]
    audit = await (await api.call("GET", "/audit")).json()
    changes = audit["content"]
    assert len(changes) == 12
    assert changes[0]["after"] == left
    # Each change began with what the one before it had left.
    for newer, older in itertools.pairwise(changes):
        assert newer["before"] == older["after"]


async def test_every_change_is_in_the_audit_trail_without_secrets(api: Api) -> None:
    await api.put("request_ttl", 48)
    await api.put("s3_server", SERVER)
    await api.call("DELETE", "/settings/request_ttl")
    await api.put("request_ttl", 5, tenant="swot")
    answer = await api.call("GET", "/audit")
    assert "hunter2" not in await answer.text()
    entries = (await answer.json())["content"]
    told = [(entry["action"], entry["subject"], entry["actor"]) for entry in entries]
    who = "admin@example.org"
    assert told == [
        ("reset", "request_ttl", who),
        ("set, with another secret", "s3_server", who),
        ("set", "request_ttl", who),
    ]
    assert (entries[2]["before"], entries[2]["after"]) == (12, 48)
    page = await (await api.call("GET", "/audit?limit=2")).json()
    assert page["content"] == entries[:2]
    rest = await (await api.call("GET", page["links"][0]["href"])).json()
    assert rest == {"content": entries[2:], "links": []}


@pytest.mark.parametrize(
    "wrong", ["limit=0", "limit=x", "before=-1", "limit=99999", "before=" + "9" * 30]
)
async def test_a_wrong_page_is_refused(api: Api, wrong: str) -> None:
    assert (await api.call("GET", f"/audit?{wrong}")).status == 422


async def test_an_s3_server_is_tried_when_asked(api: Api, settings: Settings) -> None:
    address, _, port = settings.s3_endpoint.rpartition(":")
    good = {
        "scheme": "http",
        "host": address.removeprefix("http://"),
        "port": int(port),
        "region": s3.REGION,
        "key": s3.KEY,
        "secret": s3.SECRET,
    }
    answer = await api.put("s3_server", good, params={"check": "true"})
    assert answer.status == 200
    checks = (await answer.json())["check"]["default"]
    assert [(check["check"], check["ok"]) for check in checks] == [
        ("reachable", True),
        ("credentials and bucket", True),
        ("writable", True),
    ]
    answer = await api.put("delivery_bucket", "no-such-bucket", params={"check": "only"})
    (_, bucket) = (await answer.json())["check"]["default"]
    assert not bucket["ok"]
    assert "no-such-bucket" in bucket["message"]
    assert await api.value("delivery_bucket") == settings.delivery_bucket
    answer = await api.put("s3_server", good | {"port": 9}, params={"check": "only"})
    (reach,) = (await answer.json())["check"]["default"]
    assert (reach["check"], reach["ok"]) == ("reachable", False)
    assert s3.SECRET not in await answer.text()
    assert (await api.put("s3_server", good, params={"check": "maybe"})).status == 422
