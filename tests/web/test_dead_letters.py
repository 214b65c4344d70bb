"""`/dead-letters`: by pages, by filter, mended; each administrator those of their tenant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from app.store import PostgresDeadLetters
from app.views.dead_letters import BuriedLetter
from streams.amqp.dead_letters import QUEUES
from streams.channels import REQUESTS
from tests.builders import make_buried
from tests.web.conftest import TENANT, Api
from tests.web.test_audit import trail

INSTANCE_ADMIN = {"role": "INSTANCE_ADMIN"}
GOOD = '{"correlationId": "c", "order": {"user": "u@example.org", "queries": ["x"]}}'


@pytest.fixture
def table(pool: asyncpg.Pool) -> PostgresDeadLetters:
    """What the application reads."""
    return PostgresDeadLetters(pool)


def letter(name: str, **changes: Any) -> BuriedLetter:
    """Return a request that was buried: a message with no properties but a tenant's header."""
    header = b"\x0eregards.tenantS" + len(TENANT).to_bytes(4, "big") + TENANT.encode()
    properties = (1 << 13).to_bytes(2, "big") + len(header).to_bytes(4, "big") + header
    given = {"place": QUEUES["requests"], "origin": REQUESTS.queue.name, "properties": properties}
    return make_buried(f"amqp:requests:{name}", **given | changes)


async def got(api: Api, path: str = "/dead-letters", **caller: Any) -> Any:
    answer = await api.call("GET", path, **caller)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def test_letters_are_listed_by_pages(api: Api, table: PostgresDeadLetters) -> None:
    for number in range(5):
        await table.keep([letter(f"{number}")], again=True)
    first = await got(api, "/dead-letters?size=2&reason=json")
    assert (first["total"], first["truncated"]) == (5, True)
    second = await got(api, first["links"][0]["href"])
    last = await got(api, second["links"][0]["href"])
    assert (last["truncated"], last["links"]) == (False, [])
    names = [shown["id"][-1] for page in (first, second, last) for shown in page["content"]]
    assert names == ["0", "1", "2", "3", "4"]
    shown = first["content"][0]
    assert datetime.fromisoformat(shown.pop("buriedAt")) <= datetime.now(UTC)
    assert shown == {
        "id": "amqp:requests:0",
        "place": QUEUES["requests"],
        "tenant": TENANT,
        "correlationId": "c",
        "bytes": 1,
        "reason": "the body is no JSON",
        "text": "{",
        "goesTo": REQUESTS.queue.name,
    }


async def test_an_administrator_sees_and_touches_those_of_their_tenant_alone(
    api: Api, table: PostgresDeadLetters
) -> None:
    others = {"tenant": "swot"}
    await table.keep([letter("mine"), letter("theirs", **others)], again=True)
    await table.keep([letter("of none", tenant=None), letter("x", ours=False)], again=True)
    assert [shown["id"] for shown in (await got(api))["content"]] == ["amqp:requests:mine"]
    assert (await got(api, "/dead-letters?tenant=swot"))["content"] == []
    assert (await got(api, **INSTANCE_ADMIN))["total"] == 4
    assert (await got(api, "/dead-letters?tenant=swot", **INSTANCE_ADMIN))["total"] == 1
    for name in ("theirs", "of none", "x"):
        path = f"/dead-letters/amqp:requests:{name}"
        assert (await api.call("GET", path)).status == 404
        assert (await api.call("PUT", path, json={"text": GOOD})).status == 404
        assert (await api.call("DELETE", path)).status == 404
        assert (await api.call("POST", f"{path}/requeue")).status == 404
        for many in ("requeue", "remove"):
            body = {"ids": [f"amqp:requests:{name}"]}
            assert (await api.call("POST", f"/dead-letters/{many}", json=body)).status == 404
    all_of_them = {"filter": {}, "dryRun": True}
    callers: list[tuple[dict[str, Any], int]] = [
        ({}, 1),
        ({"tenant": "swot"}, 1),
        ({**INSTANCE_ADMIN}, 4),
    ]
    for caller, count in callers:
        answer = await api.call("POST", "/dead-letters/remove", json=all_of_them, **caller)
        assert len((await answer.json())["content"]) == count
    for role in ("EXPLOIT", "REGISTERED_USER"):
        for method, path in (
            ("GET", "/dead-letters"),
            ("GET", "/dead-letters/amqp:requests:mine"),
            ("PUT", "/dead-letters/amqp:requests:mine"),
            ("DELETE", "/dead-letters/amqp:requests:mine"),
            ("POST", "/dead-letters/amqp:requests:mine/requeue"),
            ("POST", "/dead-letters/remove"),
        ):
            assert (await api.call(method, path, role=role)).status == 403, path
    assert (await got(api, **INSTANCE_ADMIN))["total"] == 4


async def test_a_letter_that_was_mended_meanwhile_is_left_as_it_is(
    api: Api, table: PostgresDeadLetters
) -> None:
    await table.keep([letter("a")], again=True)
    path = "/dead-letters/amqp:requests:a"
    seen = (await api.call("GET", path)).headers["ETag"]
    answer = await api.call("PUT", path, json={"text": GOOD}, headers={"If-Match": seen})
    now = answer.headers["ETag"]
    assert (answer.status, now == seen) == (200, False)
    for given in (seen, f"W/{now}", "no tag"):
        answer = await api.call(
            "PUT", path, json={"text": "{}", "force": True}, headers={"If-Match": given}
        )
        assert answer.status == 412
        told = await answer.json()
        assert told["code"] == "DEAD_LETTER_CHANGED"
        assert "was mended by admin@example.org meanwhile" in told["message"]
    assert (await got(api, path))["mendedBody"] == {"text": GOOD}
    for given in (f"{seen}, {now}", "*"):
        answer = await api.call("PUT", path, json={"text": GOOD}, headers={"If-Match": given})
        assert answer.status == 200
    assert (await api.call("PUT", path, json={"text": GOOD})).status == 200  # none is demanded
    absent = await api.call(
        "PUT", "/dead-letters/amqp:no", json={"text": GOOD}, headers={"If-Match": seen}
    )
    assert absent.status == 404


async def test_a_letter_is_shown_whole_and_mended(api: Api, table: PostgresDeadLetters) -> None:
    await table.keep([letter("a", body=b"{"), letter("b", body=b"\xff\0")], again=True)
    path = "/dead-letters/amqp:requests:a"
    shown = await got(api, path)
    assert (shown["body"], shown["headers"]) == ({"text": "{"}, {"regards.tenant": TENANT})
    assert (await got(api, "/dead-letters/amqp:requests:b"))["body"] == {"base64": "/wA="}
    answer = await api.call("PUT", path, json={"text": GOOD})
    assert answer.status == 200
    mended = await answer.json()
    assert mended["mendedBody"] == {"text": GOOD}
    assert (mended["body"], mended["mendedBy"]) == ({"text": "{"}, "admin@example.org")
    assert (await got(api, "/dead-letters?mended=true"))["total"] == 1
    (entry,) = await trail(api)
    assert (entry["action"], entry["subject"]) == ("mend", "dead letter amqp:requests:a")
    assert entry["after"] == {"bytes": len(GOOD)}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"text": "{"}, "it would be refused again: the body is no JSON"),
        ({"text": '{"correlationId": "c"}'}, "it would be refused again: order is missing"),
        ({"base64": "!"}, "text, base64: can't be read"),
        ({"base64": "\u0004µ"}, "text, base64: can't be read"),
        ({"text": "a", "base64": "YQ=="}, "give one of them"),
        ({}, "give one of them"),
        ({"text": GOOD, "tennant": TENANT}, "tennant: "),
        ({"tenant": "\0", "force": True}, "the body holds a NUL character"),
        ({"text": 5}, "text: Input should be a valid string"),
        ({"text": GOOD, "tenant": "swot"}, "it is of another tenant than sentinel"),
        ({"text": GOOD, "tenant": "swot", "force": True}, "it is of another tenant"),
    ],
)
async def test_a_mend_that_is_wrong_is_told_in_words(
    api: Api, table: PostgresDeadLetters, body: dict[str, Any], said: str
) -> None:
    await table.keep([letter("a")], again=True)
    answer = await api.call("PUT", "/dead-letters/amqp:requests:a", json=body)
    assert answer.status == 422
    assert said in (await answer.json())["message"]
    assert "mendedAt" not in (await got(api, "/dead-letters/amqp:requests:a"))


async def test_a_mend_that_would_be_refused_is_taken_by_force(
    api: Api, table: PostgresDeadLetters
) -> None:
    await table.keep([letter("a")], again=True)
    body = {"text": "{}", "force": True}
    answer = await api.call("PUT", "/dead-letters/amqp:requests:a", json=body)
    assert answer.status == 200
    (entry,) = await trail(api)
    assert entry["after"] == {"bytes": 2, "forced": True}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "ids, filter: give one; 1 to 500 ids"),
        ({"ids": ["a"], "filter": {}}, "give one"),
        ({"ids": []}, "ids: List should have at least 1 item"),
        ({"ids": "a"}, "ids: Input should be a valid list"),
        ({"filter": {"since": "yesterday"}}, "filter"),
        ({"filter": {"reason": [1]}}, "its values must be texts"),
        ({"filter": {"reason": ""}}, "none of them empty"),
        ({"filter": {"tenant": " "}}, "none of them empty"),
        ({"filter": {}, "after": -1}, "after: "),
        ({"filter": {}, "after": 2**63}, "after: "),
        ({"ids": ["\0"]}, "the body holds a NUL character"),
        ({"ids": ["\ud800"]}, "the body holds half of a surrogate pair"),
        ([1], "the body"),
    ],
)
async def test_a_choice_that_is_none_is_told(api: Api, body: Any, said: str) -> None:
    for path in ("/dead-letters/requeue", "/dead-letters/remove"):
        answer = await api.call("POST", path, json=body)
        assert answer.status == 422
        assert said in (await answer.json())["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"filter": {"tennant": TENANT}}, "filter.tennant: "),
        ({"filter": {}, "dryrun": True}, "dryrun: "),
        ({"ids": ["amqp:requests:a"], "dryrun": True}, "dryrun: "),
    ],
)
async def test_a_choice_with_a_name_that_is_unknown_touches_none(
    api: Api, table: PostgresDeadLetters, body: Any, said: str
) -> None:
    await table.keep([letter("a")], again=True)
    for path in ("/dead-letters/requeue", "/dead-letters/remove"):
        answer = await api.call("POST", path, json=body)
        assert answer.status == 422
        assert said in (await answer.json())["message"]
    assert (await got(api))["total"] == 1


async def test_a_parameter_that_is_unknown_is_ignored(api: Api, table: PostgresDeadLetters) -> None:
    await table.keep([letter("a")], again=True)
    assert (await got(api, "/dead-letters?tennant=swot"))["total"] == 1


async def test_a_dry_run_tells_which_and_touches_none(api: Api, table: PostgresDeadLetters) -> None:
    await table.keep(
        [letter(f"{n:03}", reason="x" if n % 2 else "y") for n in range(6)], again=True
    )
    body: dict[str, Any] = {"filter": {"reason": "X"}, "dryRun": True}
    answer = await api.call("POST", "/dead-letters/requeue", json=body)
    told = await answer.json()
    assert told["left"] == 0
    assert told["content"] == {f"amqp:requests:{n:03}": REQUESTS.queue.name for n in (1, 3, 5)}
    assert (await got(api))["total"] == 6
    nothing = await api.call("POST", "/dead-letters/requeue", json={"filter": {"reason": "z"}})
    assert await nothing.json() == {"content": {}, "left": 0}


async def test_what_a_filter_finds_is_gone_through_from_the_last_of_the_answer_before(
    api: Api, table: PostgresDeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.api.dead_letters._BATCH_SIZE", 2)
    for number in range(5):
        await table.keep([letter(f"{number}")], again=True)
    body: dict[str, Any] = {"filter": {}, "dryRun": True}
    seen, left = [], []
    while True:
        told = await (await api.call("POST", "/dead-letters/requeue", json=body)).json()
        seen.append([id_[-1] for id_ in told["content"]])
        left.append(told["left"])
        if "last" not in told:
            break
        body["after"] = told["last"]
    assert seen == [["0", "1"], ["2", "3"], ["4"]]
    assert left == [3, 1, 0]


async def test_a_dry_run_by_ids_reads_no_whole_body(
    api: Api, table: PostgresDeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def whole(*_: Any) -> None:
        raise AssertionError("a whole letter was read")

    await table.keep([letter("a"), letter("b")], again=True)
    monkeypatch.setattr(PostgresDeadLetters, "one", whole)
    body = {"ids": ["amqp:requests:b", "amqp:requests:a"], "dryRun": True}
    answer = await api.call("POST", "/dead-letters/requeue", json=body)
    assert set((await answer.json())["content"]) == {*body["ids"]}  # type: ignore[misc]
    body["ids"] = ["amqp:requests:a", "amqp:requests:c"]
    answer = await api.call("POST", "/dead-letters/requeue", json=body)
    assert answer.status == 404
    assert "amqp:requests:c" in (await answer.json())["message"]
