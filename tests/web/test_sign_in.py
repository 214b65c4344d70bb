"""Signing in with a password of REGARDS: it works, and is no place to try passwords out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.audit import INSTANCE
from app.errors import ConfigurationError, SourceUnavailableError
from app.run.wiring.tenants import ConfigurationParts
from streams.regards.sign_in import PasswordFlow
from tests.certificates import Authority
from tests.servers import serving
from tests.web.conftest import TENANT, Api, MakeClient, parts_for, serve, token
from web.api.console import Console
from web.api.sign_in import SignIns

GOOD = {"tenant": TENANT, "user": "u@x.org", "password": "pw-of-the-test"}
OFTEN = 1000  # a minute


class Authentication:
    """REGARDS' authentication, as far as tokens for passwords go."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[str] = []  # users
        self.running = self.most = 0
        self.going = asyncio.Event()  # cleared: no client is answered
        self.going.set()
        self.came = asyncio.Condition()
        self.flow: PasswordFlow

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert request.headers["Authorization"] == "Basic Y2xpZW50OnNlY3JldA=="  # client:secret
        assert form["grant_type"] == "password"
        async with self.came:
            self.asked.append(str(form["username"]))
            self.running += 1
            self.most = max(self.most, self.running)
            self.came.notify_all()
        await self.going.wait()
        self.running -= 1
        if self.status != 200:
            return web.Response(status=self.status)
        given = {
            "tenant": form["scope"],
            "user": form["username"],
            "password": form["password"],
        }
        if given != GOOD:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response({"access_token": token(), "token_type": "bearer"})


@pytest.fixture
async def regards() -> AsyncIterator[Authentication]:
    """That, on a port."""
    made = Authentication()
    async with serving(made.answer) as port:
        url = f"http://127.0.0.1:{port}/oauth/token"
        made.flow = PasswordFlow(url, client="client", secret="secret")
        yield made


@pytest.fixture
async def entrance(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, regards: Authentication
) -> Any:
    """Make applications that sign in there."""

    async def make(per_minute: int = OFTEN, proxies: int = 0) -> Api:
        sign_ins = SignIns(
            regards.flow.token,
            served=configuration.tenants.known,
            per_minute=per_minute,
            proxies=proxies,
        )
        return await serve(aiohttp_client, parts_for(configuration, console=Console(sign_ins)))

    return make


async def enter(api: Api, *heard: str, **changes: Any) -> ClientResponse:
    """Sign in; `heard` is what proxies say."""
    headers = {"X-Forwarded-For": ", ".join(heard)} if heard else {}
    return await api.client.post("/console/sign-in", json=GOOD | changes, headers=headers)


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("delivery_sign_ins_total", {"outcome": outcome}) or 0.0


@pytest.mark.parametrize("user", ["\ud800", "a\0b"])
async def test_a_name_that_is_no_text_is_no_outage_of_regards(
    entrance: Any, regards: Authentication, user: str
) -> None:
    answer = await enter(await entrance(), user=user)
    assert answer.status == 422
    assert not regards.asked


async def test_a_user_signs_in_with_a_password(entrance: Any, regards: Authentication) -> None:
    api = await entrance()
    assert await (await api.client.get("/console/options")).json() == {"passwords": True}
    made = (await (await enter(api)).json())["token"]
    shown = await api.client.get("/settings", headers={"Authorization": f"Bearer {made}"})
    assert shown.status == 200
    wrong = await enter(api, password="other")
    assert wrong.status == 401
    assert "no such user and password" in (await wrong.json())["message"]
    regards.status = 500
    away = await enter(api)
    assert away.status == 503
    assert "something that this needs is away" in (await away.json())["message"]
    nonsense = await api.client.post("/console/sign-in", json={"user": 1})
    assert nonsense.status == 422


async def test_a_token_is_needed_without_an_oauth_server(api: Api) -> None:
    assert await (await api.client.get("/console/options")).json() == {"passwords": False}
    assert (await enter(api)).status == 401


async def test_the_file_of_a_ca_is_read_once_and_not_at_each_sign_in(tmp_path: Path) -> None:
    ca = Authority(tmp_path / "site").file
    where = {"client": "c", "secret": "s", "ca": str(ca)}
    flow = PasswordFlow("http://127.0.0.1:1/oauth/token", **where)
    ca.unlink()
    with pytest.raises(SourceUnavailableError):
        await flow.token("t", "u", "p")
    with pytest.raises(ConfigurationError, match="DELIVERY_HTTP_CA"):
        PasswordFlow("http://127.0.0.1:1/oauth/token", **where)


async def test_an_authentication_that_does_not_answer_is_told(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    flow = PasswordFlow("http://127.0.0.1:1/oauth/token", client="c", secret="s")
    sign_ins = SignIns(flow.token, served=configuration.tenants.known, per_minute=OFTEN)
    api = await serve(aiohttp_client, parts_for(configuration, console=Console(sign_ins)))
    answer = await enter(api)
    assert answer.status == 503
    assert GOOD["password"] not in (await answer.json())["message"]


async def test_one_address_has_few_tries(entrance: Any, regards: Authentication) -> None:
    api = await entrance(per_minute=5)
    statuses = [(await enter(api, user=f"u{number}@x.org")).status for number in range(6)]
    assert statuses == [401] * 5 + [429]
    refused = await enter(api)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert "too many tries" in (await refused.json())["message"]
    assert len(regards.asked) == 5


async def test_one_user_is_tried_few_times_wherever_from(
    entrance: Any, regards: Authentication
) -> None:
    api = await entrance(per_minute=5, proxies=1)
    names = ["u@x.org", "U@X.org", " u@x.org", "u@x.org", "u@x.org", "u@x.org"]
    statuses = [
        (await enter(api, f"198.51.100.{number}", user=name, password="guess")).status
        for number, name in enumerate(names)
    ]
    assert statuses == [401] * 5 + [429]
    other = await enter(api, "198.51.100.99", user="another@x.org", password="guess")
    assert other.status == 401


async def test_a_client_can_not_say_that_it_is_elsewhere(entrance: Any) -> None:
    for proxies in (0, 1):
        api = await entrance(per_minute=2, proxies=proxies)
        heard = [[f"10.0.0.{n}", *(["203.0.113.7"] * proxies)] for n in range(3)]
        statuses = [
            (await enter(api, *addresses, user=f"u{n}@x.org")).status
            for n, addresses in enumerate(heard)
        ]
        assert statuses == [401, 401, 429]


async def test_few_passwords_are_asked_for_at_once(entrance: Any, regards: Authentication) -> None:
    api = await entrance()
    regards.going.clear()
    asked = [asyncio.ensure_future(enter(api, user=f"u{number}@x.org")) for number in range(21)]
    (busy,), _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert ((await busy).status, (await busy).headers["Retry-After"]) == (503, "5")
    async with asyncio.timeout(30), regards.came:
        await regards.came.wait_for(lambda: regards.running == 4)
    regards.going.set()
    statuses = [(await answer).status for answer in asked]
    assert sorted(statuses) == [401] * 20 + [503]
    assert regards.most == 4


async def test_tenants_that_are_not_served_are_refused_like_wrong_passwords(
    entrance: Any, regards: Authentication
) -> None:
    api = await entrance()
    wrong = await enter(api, password="guess")
    elsewhere = await enter(api, tenant="elsewhere")
    assert (wrong.status, elsewhere.status) == (401, 401)
    assert await wrong.text() == await elsewhere.text()
    assert regards.asked == ["u@x.org"]


async def test_those_who_administer_all_tenants_are_of_one_that_is_not_served(
    entrance: Any, regards: Authentication
) -> None:
    await enter(await entrance(), tenant=INSTANCE)
    assert regards.asked == ["u@x.org"]


async def test_each_try_is_logged_and_counted_without_its_password(
    entrance: Any, regards: Authentication
) -> None:
    before = {name: counted(name) for name in ("accepted", "refused", "limited", "unavailable")}
    api = await entrance(per_minute=3)
    with capture_logs() as logs:
        await enter(api)
        await enter(api, password="pw-of-the-guess")
        regards.status = 500
        await enter(api)
        await enter(api)
    told = [
        (line["outcome"], line.get("user"), line["address"])
        for line in logs
        if line["event"] == "sign_in"
    ]
    here = "127.0.0.1"
    assert told == [
        *(("accepted", "u@x.org", here), ("refused", "u@x.org", here)),
        *(("unavailable", "u@x.org", here), ("limited", None, here)),
    ]
    assert "pw-of-the" not in str(logs)
    assert {name: counted(name) - before[name] for name in before} == dict.fromkeys(before, 1)
