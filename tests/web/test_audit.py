"""The audit trail: what is in it, and how it is taken out."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientPayloadError

from app.audit import AuditEntry
from app.errors import StoreUnavailableError
from app.run.wiring.tenants import ConfigurationParts
from app.store import PostgresAudit
from tests.builders import make_actor, make_done
from tests.web.conftest import TENANT, Api, MakeClient, parts_for, serve
from tests.web.test_configuration import entry, file_of, take


async def trail(api: Api, **caller: Any) -> list[dict[str, Any]]:
    answer = await api.call("GET", "/audit", **caller)
    assert answer.status == 200
    content: list[dict[str, Any]] = (await answer.json())["content"]
    return content


async def test_an_export_of_the_configuration_is_in_the_trail(api: Api) -> None:
    assert (await api.call("GET", "/microservice/configuration")).status == 200
    assert (await api.call("HEAD", "/microservice/configuration")).status == 200
    assert [(row["action"], row["subject"]) for row in await trail(api)] == [
        ("export", "configuration")
    ]


async def test_an_import_and_a_maintenance_are_in_the_trail(api: Api) -> None:
    assert (await take(api, file_of(entry("request_ttl", 5)))).status == 201
    assert (await api.call("PUT", f"/maintenance/{TENANT}/enable")).status == 200
    said = [(row["action"], row["subject"], row["after"]) for row in await trail(api)]
    assert ("set", "request_ttl", 5) in said
    assert ("set", "maintenance", True) in said


async def fill(pool: asyncpg.Pool, count: int) -> None:
    actor = make_actor()
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO audit (tenant, actor, role, action, subject, before, after) "
            "SELECT $1, $2, $3, 'set', 'request_ttl', to_json(n - 1), to_json(n) "
            "FROM generate_series(1, $4) AS n",
            *(actor.tenant, actor.name, actor.role, count),
        )
    await PostgresAudit(pool).record(make_done(make_actor(tenant="swot")))


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"params": {"format": "csv"}}, "text/csv"),
        ({"headers": {"Accept": "text/csv"}}, "text/csv"),
        ({"headers": {"Accept": "text/html, text/csv;q=0.9"}}, "text/csv"),
        ({"params": {"format": "jsonl"}}, "application/x-ndjson"),
        ({"headers": {"Accept": "application/x-ndjson"}}, "application/x-ndjson"),
        ({"headers": {"Accept": "application/jsonl"}}, "application/x-ndjson"),
        ({"headers": {"Accept": "*/*"}}, "application/json"),
        ({"params": {"format": "json"}, "headers": {"Accept": "text/csv"}}, "application/json"),
    ],
)
async def test_the_trail_is_answered_as_it_is_asked_for(
    api: Api, pool: asyncpg.Pool, how: dict[str, Any], kind: str
) -> None:
    await fill(pool, 3)
    answer = await api.call("GET", "/audit", **how)
    assert (answer.status, answer.content_type) == (200, kind)
    text = await answer.text()
    found: list[Any]
    if kind == "text/csv":
        found = [int(row["after"]) for row in csv.DictReader(io.StringIO(text))]
    elif kind == "application/json":
        found = [row["after"] for row in json.loads(text)["content"]]
    else:
        found = [json.loads(line)["after"] for line in text.splitlines()]
    assert found == [3, 2, 1]
    if kind != "application/json":
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="audit.')


async def test_a_file_has_all_entries_however_many_and_is_read_page_by_page(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, pool: asyncpg.Pool
) -> None:
    await fill(pool, 2500)
    sizes = []

    class Counting(PostgresAudit):
        async def entries(self, *arguments: Any, **more: Any) -> list[AuditEntry]:
            found = await super().entries(*arguments, **more)
            sizes.append(len(found))
            return found

    api = await serve(aiohttp_client, parts_for(configuration, audit=Counting(pool)))
    answer = await api.call("GET", "/audit?format=jsonl")
    lines = (await answer.text()).splitlines()
    assert [json.loads(line)["after"] for line in lines] == list(range(2500, 0, -1))
    assert sizes == [1000, 1000, 500]
    some = await (await api.call("GET", "/audit?format=csv&limit=1500")).text()
    assert len(some.splitlines()) == 1501


async def test_a_file_that_is_cut_short_has_no_end(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, pool: asyncpg.Pool
) -> None:
    await fill(pool, 1500)

    class Failing(PostgresAudit):
        async def entries(self, tenant: str | None, **more: Any) -> list[AuditEntry]:
            if more["before"] < 2**62:
                raise StoreUnavailableError("PostgreSQL is away")
            return await super().entries(tenant, **more)

    api = await serve(aiohttp_client, parts_for(configuration, audit=Failing(pool)))
    answer = await api.call("GET", "/audit?format=csv")
    assert answer.status == 200
    with pytest.raises(ClientPayloadError):
        await answer.read()


async def test_the_trail_is_narrowed_by_time(api: Api, pool: asyncpg.Pool) -> None:
    await fill(pool, 3)
    async with pool.acquire() as connection:
        await connection.execute(
            "UPDATE audit SET at = now() - make_interval(days => 10 - 3 * (after::text)::int) "
            "WHERE tenant = $1",
            TENANT,
        )
    day = timedelta(days=1)
    now = datetime.now(UTC)

    async def found(form: str, **window: datetime) -> list[int]:
        params = {name: at.isoformat() for name, at in window.items()} | {"format": form}
        answer = await api.call("GET", "/audit", params=params)
        if form == "json":
            return [row["after"] for row in (await answer.json())["content"]]
        return [json.loads(line)["after"] for line in (await answer.text()).splitlines()]

    for form in ("json", "jsonl"):
        assert await found(form, since=now - 5 * day) == [3, 2]
        assert await found(form, until=now - 5 * day) == [1]
        assert await found(form, since=now - 5 * day, until=now - 2 * day) == [2]
    assert (await api.call("GET", "/audit?since=yesterday")).status == 422
    assert (await api.call("GET", "/audit?format=xml")).status == 422
    assert (await api.call("GET", "/audit?limit=1001")).status == 422


async def test_the_trail_is_narrowed_by_who_did_what_to_what(api: Api, pool: asyncpg.Pool) -> None:
    trail_of_all = PostgresAudit(pool)
    for name, action, subject in (
        ("ann", "set", "quota"),
        ("ann", "try", "s3_server"),
        ("bob", "cancel", "delivery d 1"),
    ):
        actor = make_actor(name=name)
        await trail_of_all.record(make_done(actor, action=action, subject=subject))

    async def found(**wanted: str) -> list[str]:
        answer = await api.call("GET", "/audit", params=wanted)
        return [row["subject"] for row in (await answer.json())["content"]]

    assert await found(actor="ann") == ["s3_server", "quota"]
    assert await found(action="cancel") == ["delivery d 1"]
    assert await found(subject="delivery d 1") == ["delivery d 1"]
    assert await found(actor="ann", action="set") == ["quota"]
    assert await found(actor="bob", subject="quota") == []
    assert await found(actor="") == await found()
    lines = await (await api.call("GET", "/audit?format=jsonl&actor=ann")).text()
    assert len(lines.splitlines()) == 2
    assert (await api.call("GET", "/audit", params={"actor": "a\nb"})).status == 422


async def test_the_next_page_keeps_what_was_asked(api: Api, pool: asyncpg.Pool) -> None:
    await fill(pool, 3)
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    answer = await api.call("GET", "/audit", params={"limit": "2", "since": since})
    (link,) = (await answer.json())["links"]
    following = await (await api.call("GET", link["href"])).json()
    assert [row["after"] for row in following["content"]] == [1]
