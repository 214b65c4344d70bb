"""The console's files, and signing in with a password."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.configured import ConfigurationParts
from streams.sign_in import PasswordFlow
from tests.web.conftest import Api, MakeClient, parts_for, serve, token
from web.console import Console
from web.endpoint import PREFIX


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_the_page_and_all_that_it_names_are_served(api: Api, prefix: str) -> None:
    answer = await api.client.get(f"{prefix}/console")
    assert (answer.status, answer.content_type) == (200, "text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    pending = set(re.findall(r'(?:src|href)="(console/[^"]+)"', await answer.text()))
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        answer = await api.client.get(f"{prefix}/{name}")
        assert answer.status == 200, name
        text = await answer.text()
        if name.endswith(".js"):
            assert answer.content_type == "text/javascript"
            assert "innerHTML =" not in text  # what strangers sent stays text
            found = {f"console/{other}" for other in re.findall(r'from "\./([\w.-]+)"', text)}
            pending |= found - seen
    assert {"console/app.js", "console/api.js", "console/letters.js"} <= seen


async def test_what_has_not_changed_is_not_sent_again(api: Api) -> None:
    answer = await api.client.get("/console/app.js")
    again = await api.client.get(
        "/console/app.js", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert (again.status, await again.read()) == (304, b"")


@pytest.mark.parametrize("name", ["..%2fdocs.css", "nothing.js", ""])
async def test_nothing_else_is_served(api: Api, name: str) -> None:
    assert (await api.client.get(f"/console/{name}")).status == 404


class Authentication:
    """REGARDS' authentication, as far as tokens for passwords go."""

    def __init__(self) -> None:
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert request.headers["Authorization"] == "Basic Y2xpZW50OnNlY3JldA=="  # client:secret
        assert form["grant_type"] == "password"
        if self.status != 200:
            return web.Response(status=self.status)
        if (form["scope"], form["username"], form["password"]) != ("sentinel", "u@x.org", "pw"):
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response({"access_token": token(), "token_type": "bearer"})


@pytest.fixture
async def authentication() -> AsyncIterator[tuple[Authentication, PasswordFlow]]:
    """That, and what asks it."""
    made = Authentication()
    application = web.Application()
    application.router.add_post("/oauth/token", made.answer)
    async with TestServer(application) as server:
        url = str(server.make_url("/oauth/token"))
        yield made, PasswordFlow(url, client="client", secret="secret")


async def test_a_user_signs_in_with_a_password(
    configuration: ConfigurationParts,
    aiohttp_client: MakeClient,
    authentication: tuple[Authentication, PasswordFlow],
) -> None:
    console = Console(authentication[1].token)
    api = await serve(aiohttp_client, parts_for(configuration, console=console))
    assert await (await api.client.get("/console/options")).json() == {"passwords": True}
    given = {"tenant": "sentinel", "user": "u@x.org", "password": "pw"}
    answer = await api.client.post("/console/sign-in", json=given)
    made = (await answer.json())["token"]
    shown = await api.client.get("/settings", headers={"Authorization": f"Bearer {made}"})
    assert shown.status == 200
    wrong = await api.client.post("/console/sign-in", json=given | {"password": "other"})
    assert wrong.status == 401
    assert "no such user and password" in (await wrong.json())["message"]
    authentication[0].status = 500
    away = await api.client.post("/console/sign-in", json=given)
    assert away.status == 503
    assert "answered 500" in (await away.json())["message"]
    nonsense = await api.client.post("/console/sign-in", json={"user": 1})
    assert nonsense.status == 422


async def test_without_it_a_token_is_needed(api: Api) -> None:
    assert await (await api.client.get("/console/options")).json() == {"passwords": False}
    given = {"tenant": "sentinel", "user": "u@x.org", "password": "pw"}
    answer = await api.client.post("/console/sign-in", json=given)
    assert answer.status == 401


async def test_an_authentication_that_does_not_answer_is_told(
    configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> None:
    flow = PasswordFlow("http://127.0.0.1:1/oauth/token", client="c", secret="s")
    api = await serve(aiohttp_client, parts_for(configuration, console=Console(flow.token)))
    given = {"tenant": "sentinel", "user": "u@x.org", "password": "pw"}
    answer = await api.client.post("/console/sign-in", json=given)
    assert answer.status == 503
    assert "pw" not in (await answer.json())["message"]
