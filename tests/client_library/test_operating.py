"""What operators ask by the client: as it is sent, and as it is told."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import app.cli
from rs_delivery_client.cli import cli
from rs_delivery_client.cli.commands import COMMANDS, GROUPS, imported
from tests.client_library.fake import TOKEN
from tests.client_library.program import called


class Service:
    """One setting and many dead letters."""

    def __init__(self) -> None:
        self.value: Any = {"host": "h", "key": "k", "secret": "*******"}
        self.version = 1
        self.letters = [f"amqp:{number}" for number in range(7)]
        self.lots: list[Any] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Give its address."""
        site = web.Application()
        site.router.add_get("/settings/{name}", self._get)
        site.router.add_put("/settings/{name}", self._put)
        site.router.add_post("/dead-letters/remove", self._remove)
        async with TestServer(site) as server:
            yield str(server.make_url("")).rstrip("/")

    def _shown(self, request: web.Request) -> web.Response:
        content = {"name": request.match_info["name"], "value": self.value, "defaultValue": {}}
        headers = {"ETag": f'"{self.version}"'}
        return web.json_response({"content": content}, headers=headers)

    async def _get(self, request: web.Request) -> web.Response:
        answer = self._shown(request)
        self.version += 1  # another client is as quick
        return answer

    async def _put(self, request: web.Request) -> web.Response:
        if request.headers["If-Match"] != f'"{self.version}"':
            return web.json_response({"message": "it was changed meanwhile"}, status=412)
        raise AssertionError

    async def _remove(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.lots.append(body)
        found = self.letters[body["after"] : body["after"] + 3]
        last = body["after"] + 3
        content = dict.fromkeys(found[1:], "dlq")
        failed = {name: f"{name} is gone" for name in found[:1]}
        more = {"last": last} if last < len(self.letters) else {}
        return web.json_response({"content": content, "failed": failed, **more})


@pytest.fixture
def service() -> Service:
    """The service."""
    return Service()


async def call(service: Service, *arguments: str, text: str | None = None) -> tuple[int, str, str]:
    async with service.running() as url:
        environment = {"DELIVERY_URL": url, "DELIVERY_TOKEN": TOKEN}
        return await called("rs-delivery", *arguments, text=text, environment=environment)


async def test_a_setting_that_another_client_has_changed_meanwhile_is_left(
    service: Service,
) -> None:
    value = json.dumps({**service.value, "host": "other"})
    code, out, err = await call(service, "setting", "set", "s3_server", "--file", "-", text=value)
    assert (code, err) == (5, "rs-delivery: it was changed meanwhile\n")
    assert out.splitlines() == [
        "--- s3_server (now)",
        "+++ s3_server (then)",
        "@@ -1,5 +1,5 @@",
        " {",
        '-  "host": "h",',
        '+  "host": "other",',
        '   "key": "k",',
        '   "secret": "*******"',
        " }",
    ]


async def test_a_secret_that_changes_is_told_and_never_shown(service: Service) -> None:
    value = json.dumps({**service.value, "secret": "hush"})
    arguments = ("setting", "set", "s3_server", "--file", "-", "--dry-run")
    code, out, err = await call(service, *arguments, text=value)
    assert (code, out, err) == (0, "s3_server: a secret\n", "nothing was changed\n")


async def test_what_a_filter_finds_is_removed_lot_by_lot(service: Service) -> None:
    arguments = ("letter", "remove", "--reason", "x", "--yes")
    code, out, err = await call(service, *arguments)
    assert [lot["after"] for lot in service.lots] == [0, 3, 6]
    assert service.lots[0]["filter"] == {"reason": "x"}
    assert code == 1
    assert out.splitlines()[0] == "amqp:1 removed from dlq"
    assert err.splitlines()[0] == "amqp:0 is gone"
    assert err.splitlines()[-1] == ("rs-delivery: 4 of 7 dead letters removed; the others wait on")


@pytest.mark.parametrize("group", sorted(GROUPS))
async def test_a_group_tells_of_its_commands(group: str) -> None:
    code, out, err = await called("rs-delivery", group, "--help")
    assert (code, err) == (0, "")
    for name in GROUPS[group]:
        assert f"\n  {name} " in out
    code, _, err = await called("rs-delivery", group, "lisst" if group == "letter" else "nonsense")
    assert code == 2
    assert ("did you mean 'list'" in err) == (group == "letter")


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, table in GROUPS.items() for name in table]
)
def test_the_table_says_of_a_command_of_a_group_what_the_command_says(
    group: str, name: str
) -> None:
    context = cli.make_context("rs-delivery", [group], resilient_parsing=True)
    found = cli.get_command(context, group)
    assert found is not None
    command = found.get_command(context, name)  # type: ignore[attr-defined]
    assert command.name == name
    assert command.get_short_help_str(limit=1000) == GROUPS[group][name].help


@pytest.mark.parametrize(
    ("call", "of_client"),
    [
        (["worker"], False),
        (["worker", "drain", "w"], False),
        (["worker", "drain", "w", "--url", "http://x"], True),
        (["worker", "list"], True),
        (["worker", "--help"], False),
        (["letter", "list"], True),
        (["maintenance", "show"], False),
        (["maintenance", "on", "--profile", "x"], True),
        (["maintenance", "--help"], False),
        (["list"], False),
        (["list", "--profile=x"], True),
    ],
)
@pytest.mark.parametrize("profile", [None, "site"])
def test_delivery_does_on_its_database_what_it_did(
    call: list[str], of_client: bool, profile: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `DELIVERY_PROFILE` names a service, what both can do is asked of that."""
    monkeypatch.delenv("DELIVERY_PROFILE", raising=False)
    if profile is not None:
        monkeypatch.setenv("DELIVERY_PROFILE", profile)
    both = call in (["list"], ["maintenance", "show"], ["worker", "drain", "w"])
    expected = of_client or (both and profile is not None)
    context = app.cli.cli.make_context("delivery", call, resilient_parsing=True)
    _, command, _ = app.cli.cli.resolve_command(context, call)
    assert command is not None
    assert (command is imported(COMMANDS[call[0]])) is expected
