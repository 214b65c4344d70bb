"""The client's commands on the service itself: what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from app import __version__
from app.codes import CATALOGUE, Code
from app.delivery.targets import DEFAULT_TARGET
from app.errors import NotAcceptedError
from app.run.wiring.tenants import ConfigurationParts
from app.store import PostgresDeadLetters, PostgresTracking, PostgresWorkers
from app.store.schema import steps
from rs_delivery_client.cli.completion import known
from rs_delivery_client.cli.place import Place
from tests.client_library.program import called
from tests.integration.conftest import Deliveries
from tests.web.conftest import TENANT, MakeClient, parts_for, serve, token
from tests.web.test_dead_letters import letter
from web.api.console import Console
from web.api.sign_in import SignIns
from web.feed import Feed

Call = Callable[..., Awaitable[tuple[int, str, str]]]
PASSWORDS = {("u@x.org", "right")}


async def _sign_in(tenant: str, user: str, password: str) -> str:
    if (user, password) not in PASSWORDS:
        raise NotAcceptedError("no")
    return token(tenant=tenant, email=user)


@pytest.fixture
async def url(
    pool: asyncpg.Pool, configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> AsyncIterator[str]:
    """Where the service is."""
    feed = Feed(PostgresTracking(pool), list)
    await feed.start()
    sign_ins = SignIns(_sign_in, served=configuration.tenants.known, per_minute=100)
    parts = parts_for(configuration, feed=feed, console=Console(sign_ins))
    api = await serve(aiohttp_client, parts)
    yield str(api.client.make_url("")).rstrip("/")
    await feed.stop()


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    """Where profiles are kept."""
    return tmp_path / "profiles.json"


@pytest.fixture
def rs_delivery(profiles: Path) -> Call:
    """The command, with profiles of its own."""

    async def call(*arguments: object, text: str | None = None) -> tuple[int, str, str]:
        where = {"DELIVERY_PROFILES": profiles}
        return await called("rs-delivery", *arguments, text=text, environment=where)

    return call


@pytest.fixture
async def signed_in(url: str, rs_delivery: Call) -> Call:
    """The command of an administrator who has signed in."""
    code, _, err = await rs_delivery("login", "--url", url, "--with-token", text=token())
    assert code == 0, err
    return rs_delivery


async def test_a_token_that_was_given_is_kept_and_never_shown(
    url: str, profiles: Path, rs_delivery: Call
) -> None:
    given = token()
    code, out, err = await rs_delivery("login", "--url", url, "--with-token", text=f"{given}\n")
    assert code == 0
    assert out.startswith(
        f"signed in to {url} as admin@example.org (PROJECT_ADMIN) of tenant {TENANT}, for "
    )
    assert f"profile default; the token is in {profiles}, which no other user reads" in err
    assert json.loads(profiles.read_text())["profiles"]["default"]["token"] == given
    assert profiles.stat().st_mode & 0o777 == 0o600
    code, more, _ = await rs_delivery("whoami")
    assert (code, more.partition(", for ")[0]) == (
        0,
        f"admin@example.org (PROJECT_ADMIN) of tenant {TENANT} at {url}",
    )
    code, as_json, _ = await rs_delivery("whoami", "--json")
    told = json.loads(as_json)
    assert (told["name"], told["role"], told["url"]) == ("admin@example.org", "PROJECT_ADMIN", url)
    assert given not in out + err + more + as_json


async def test_a_user_of_regards_signs_in_by_a_password(url: str, rs_delivery: Call) -> None:
    who = ("--tenant", TENANT, "--user", "u@x.org", "--password-stdin")
    code, out, err = await rs_delivery("login", "--url", url, *who, text="wrong")
    assert (code, out) == (4, "")
    assert err == "rs-delivery: REGARDS knows no such user and password for this tenant\n"
    code, out, _ = await rs_delivery("login", "--url", url, *who, text="right\n")
    assert code == 0
    assert f"as u@x.org (PROJECT_ADMIN) of tenant {TENANT}" in out


async def test_a_token_that_is_not_believed_is_not_kept(
    url: str, profiles: Path, rs_delivery: Call
) -> None:
    bad = token(key="another-secret-that-is-long-enough-for-HS512-0123456789-abcdefghijklmnopqr")
    code, out, err = await rs_delivery("login", "--url", url, "--with-token", text=bad)
    assert (code, out) == (4, "")
    assert bad not in err
    assert not profiles.exists()


async def test_who_signed_out_is_told_to_sign_in(signed_in: Call, url: str) -> None:
    code, out, _ = await signed_in("logout")
    assert (code, out) == (0, f"signed out of {url} (profile default)\n")
    code, out, err = await signed_in("whoami")
    assert (code, out) == (4, "")
    assert "sign in with `rs-delivery login`, or give a token" in err
    code, out, _ = await signed_in("profiles")
    assert (code, out) == (0, f"* default  {url}  signed out\n")


async def test_the_default_profile_leads_elsewhere_only_where_that_is_said(
    signed_in: Call, url: str, profiles: Path
) -> None:
    before = profiles.read_text()
    other = url.replace("127.0.0.1", "localhost")
    arguments = ("login", "--url", other, "--with-token")
    code, out, err = await signed_in(*arguments, text=token())
    assert (code, out, profiles.read_text()) == (2, "", before)
    assert f"the default profile default is of {url}: add --profile NAME to sign in" in err
    assert (await signed_in(*arguments, "--profile", "other", text=token()))[0] == 0
    code, _, err = await signed_in(*arguments, text=token())
    assert (code, "add --profile other" in err) == (2, True)
    assert (await signed_in(*arguments, "--profile", "default", text=token()))[0] == 0
    kept = json.loads(profiles.read_text())["profiles"]
    assert {entry["url"] for entry in kept.values()} == {other}


async def test_a_mistake_in_signing_in_is_a_sentence(url: str, rs_delivery: Call) -> None:
    for arguments, text, says in (
        ((), None, "say where the service is"),
        (("--url", url), None, "there is no terminal to ask at"),
        (("--url", url, "--with-token"), "", "and there is nothing"),
        (("--url", url, "--with-token"), "two words", "the token holds what no token does"),
        (("--url", url, "--with-token", "--user", "u"), "t", "give one of --with-token, --device"),
        (("--url", url, "--password-stdin"), "p", "needs --tenant and --user"),
        (("--url", "nonsense", "--with-token"), "t", "must begin with https://"),
    ):
        code, out, err = await rs_delivery("login", *arguments, text=text)
        assert (code, out) == (2, ""), err
        assert says in err
        assert "Traceback" not in err


async def test_delivery_has_the_commands_of_the_client(url: str, profiles: Path) -> None:
    where = {"DELIVERY_PROFILES": profiles}
    code, _, err = await called(
        "delivery", "login", "--url", url, "--with-token", text=token(), environment=where
    )
    assert code == 0, err
    code, out, _ = await called("delivery", "whoami", environment=where)
    assert code == 0
    assert out.startswith("admin@example.org (PROJECT_ADMIN)")


async def test_deliveries_are_listed_and_shown(signed_in: Call, deliveries: Deliveries) -> None:
    code, out, err = await signed_in("list")
    assert (code, out, err) == (0, "", "no deliveries\n")
    await deliveries.ready("d-ready")
    await deliveries.fail(await deliveries.granted("d-failed"), "no such bucket")
    code, out, err = await signed_in("list")
    head, *rows = out.splitlines()
    assert (code, err) == (0, "2 deliveries\n")
    assert head.split() == ["ID", "STATE", "FOR", "SIZE", "TARGET", "USER", "WHY"]
    assert rows[0].startswith("d-failed  ERROR")
    assert rows[0].endswith("no such bucket")
    assert rows[1].startswith("d-ready   READY, waiting")
    code, out, _ = await signed_in("list", "--active", "--json", "correlationId,state,code")
    assert (code, json.loads(out)) == (
        0,
        {"correlationId": "d-ready", "state": "READY", "code": None},
    )
    code, out, _ = await signed_in("show", "d-failed")
    assert code == 0
    assert out.startswith("d-failed  ERROR\n  why       ")
    assert re.search(
        r"^  asked     \d{4}-\d\d-\d\d \d\d:\d\d [+-]\d\d:\d\d \(\d+ s ago\) by ", out, re.MULTILINE
    )
    code, out, _ = await signed_in("show", "--json", "d-ready")
    assert (code, json.loads(out)["correlationId"]) == (0, "d-ready")
    code, out, _ = await signed_in("explain", "d-failed")
    assert (code, "  why:   no such bucket\n" in out) == (0, True)
    code, out, _ = await signed_in("files", "d-ready", "--json", "member")
    listed = [json.loads(line) for line in out.splitlines()]
    assert listed
    assert all(set(file) == {"member"} for file in listed)


async def test_what_is_not_there_ends_with_3(signed_in: Call) -> None:
    for command in ("show", "files", "explain"):
        code, out, err = await signed_in(command, "none")
        assert (code, out) == (3, "")
        assert err.startswith("rs-delivery: ")
        assert err.count("\n") == 1


async def test_a_role_that_may_not_ends_with_4(url: str, rs_delivery: Call) -> None:
    given = token(role="REGISTERED_USER")
    code, out, err = await rs_delivery("status", "--url", url, "--token", given)
    assert (code, out) == (4, "")
    assert err.count("\n") == 1


async def test_status_tells_what_is_wrong_and_ends_with_1(
    signed_in: Call, deliveries: Deliveries
) -> None:
    await deliveries.ready("d")
    code, out, err = await signed_in("status")
    assert code == 1
    assert re.search(r"^✖ .*  [A-Z_]+$", out, re.MULTILINE)
    assert re.fullmatch(r"rs-delivery: \d+ problems? needs? you\n", err)
    code, out, err = await signed_in("status", "--json", "code,severity")
    assert (code, err) == (1, "")
    assert {"code", "severity"} == set(json.loads(out.splitlines()[0]))
    code, out, _ = await signed_in("targets")
    assert code == 0
    assert out.splitlines()[0].split()[:3] == ["TARGET", "STATE", "FOR"]
    assert len(out.splitlines()) > 1


async def test_status_tells_of_a_database_that_is_newer_than_who_runs(
    signed_in: Call, pool: asyncpg.Pool
) -> None:
    await PostgresWorkers(pool, worker="w", version=__version__, slots=1).heartbeat()
    assert await signed_in("status") == (0, "nothing needs you\n", "")
    await pool.execute("INSERT INTO schema_migration (number, name) VALUES (9999, 'later')")
    code, out, err = await signed_in("status")
    known = steps()[-1][0]
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"▲ the database is at migration 9999, this program knows {known}",
        "    finish the upgrade: use the newer version that migrated it",
        f"▲ 1 worker of {__version__} knows migration {known}: the database is newer",
        "nothing needs you",
    ]
    assert await signed_in("status", "--json") == (0, "", "")


async def test_delivery_asks_over_http_where_a_service_is_named(
    url: str, deliveries: Deliveries
) -> None:
    await deliveries.ready("d")
    arguments = ("--url", url, "--token", token(), "--json", "correlationId")
    code, out, err = await called("delivery", "list", *arguments)
    assert (code, err, json.loads(out)) == (0, "", {"correlationId": "d"})
    # Its own is not asked by that: this database is not there.
    where = {"DELIVERY_DATABASE_URL": "postgresql://127.0.0.1:1/none", "DELIVERY_URL": url}
    more = {"DELIVERY_START_TIMEOUT": "1", "DELIVERY_TOKEN": token()}
    code, _, err = await called("delivery", "list", environment=where | more)
    assert code == 69
    assert err.count("\n") == 1


async def test_a_request_is_judged_sent_and_steered(
    signed_in: Call, deliveries: Deliveries, tmp_path: Path
) -> None:
    file = tmp_path / "r.json"
    order = {"user": "u@x.org", "queries": ["providerId:P"]}
    file.write_text(json.dumps({"correlationId": "d", "order": order}))
    code, out, err = await signed_in("submit", file, "--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("it would be granted")
    assert (await signed_in("show", "d"))[0] == 3
    code, out, err = await signed_in("submit", file, "--label", "x", "--wait", "--timeout", "1")
    assert (code, out) == (8, "d\n")
    assert err.splitlines()[-1] == "rs-delivery: d has not ended within 1 s; it goes on"
    code, out, _ = await signed_in("list", "--label", "x", "--json", "correlationId")
    assert json.loads(out) == {"correlationId": "d"}
    assert (await signed_in("wait", "d", "--timeout", "0.5"))[0] == 8
    assert (await signed_in("cancel", "d", "--dry-run"))[1] == "d: GRANTED, waiting\n"
    assert await signed_in("cancel", "d", "--reason", "enough") == (0, "d cancelled\n", "")
    code, out, err = await signed_in("cancel", "d")
    assert (code, out, err.count("\n")) == (5, "", 1)
    code, _, err = await signed_in("watch", "d")
    assert (code, err.count("\n")) == (1, 1)
    assert "enough" in err
    code, out, err = await signed_in("retry", "d", "none")
    assert (code, out) == (1, "d is tried again (GRANTED)\n")
    assert err.splitlines()[-1] == "rs-delivery: 1 of 2 were refused"


async def test_all_that_a_filter_finds_are_cancelled_and_tried_again(
    signed_in: Call, deliveries: Deliveries
) -> None:
    await deliveries.granted("one")
    await deliveries.ready("two")
    await deliveries.fail(await deliveries.granted("over"), "for the test")
    found = ("--since", "2020-01-01", "--target", DEFAULT_TARGET, "--activity", "waiting")
    listed = await signed_in("list", *found, "--json", "correlationId")
    assert sorted(json.loads(line)["correlationId"] for line in listed[1].splitlines()) == [
        "one",
        "two",
    ]
    code, out, err = await signed_in("cancel", *found, "--yes")
    assert (code, err) == (0, "would cancel 2 deliveries\n2 of 2 deliveries cancelled\n")
    assert [line.split()[:2] for line in sorted(out.splitlines()[1:])] == [
        ["one", "GRANTED,"],
        ["two", "READY,"],
    ]
    code, out, err = await signed_in("cancel", "--all", "--yes")
    assert (code, err) == (0, "would cancel 0 deliveries, and leave 3\n")
    assert out.count("there is nothing to cancel") == 3
    code, _, err = await signed_in("retry", "--state", "ERROR", "--text", "o", "--force", "--yes")
    assert (code, err.splitlines()[-1]) == (0, "3 of 3 deliveries tried again")


async def test_what_would_be_denied_is_told_rule_by_rule(signed_in: Call, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"correlationId": "d", "order": {"user": "u", "queries": []}}))
    code, out, err = await signed_in("submit", file, "--dry-run")
    assert code == 1
    assert re.search(r"^broken: .*queries", out, re.MULTILINE)
    assert err.startswith("rs-delivery: it would be denied (")
    code, out, err = await signed_in("submit", file)
    assert (code, out) == (1, "")
    assert "queries" in err


async def test_a_shell_completes_ids_with_what_they_are(
    url: str, deliveries: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deliveries.ready("d-ready")
    await deliveries.granted("other")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = Place(url=url, token=token())
    found = await asyncio.to_thread(known, lambda: place, "d", patience=60)
    assert found == [("d-ready", "READY")]
    code, out, _ = await called("rs-delivery", "completion", "zsh")
    assert (code, "_RS_DELIVERY_COMPLETE=zsh_complete" in out) == (0, True)
    environment = {
        "_RS_DELIVERY_COMPLETE": "zsh_complete",
        "COMP_WORDS": "rs-delivery show d",
        "COMP_CWORD": "2",
        "DELIVERY_URL": url,
        "DELIVERY_TOKEN": place.token or "",
        "XDG_CACHE_HOME": tmp_path,
    }
    # At once, or, on a machine that is busy, as it was told before.
    code, out, err = await called("rs-delivery", environment=environment)
    assert (code, out, err) == (0, "plain\nd-ready\nREADY\n", "")


@pytest.fixture
async def instance(url: str, rs_delivery: Call) -> Call:
    """The command of who administers all tenants."""
    given = token(role="INSTANCE_ADMIN", tenant="instance")

    async def call(*arguments: object, text: str | None = None) -> tuple[int, str, str]:
        return await rs_delivery(*arguments, "--url", url, "--token", given, text=text)

    return call


async def test_a_worker_is_drained_and_works_again(instance: Call, pool: asyncpg.Pool) -> None:
    await PostgresWorkers(pool, worker="w-1", version="1", slots=3).heartbeat()
    code, out, err = await instance("worker", "list")
    assert (code, err) == (0, "1 worker\n")
    assert out.splitlines()[1].split()[:5] == ["w-1", "working", "0", "of", "3"]
    code, out, err = await instance(
        "worker", "drain", "w-1", "--reason", "new disks", "--for", "1h", "--wait"
    )
    assert (code, err) == (0, "")
    assert re.search(r": new disks \(what runs stops, .*, until \d{4}-", out)
    assert out.endswith("worker w-1 has no transfer under way\n")
    assert re.search(
        r"^w-1 +drained .* new disks$", (await instance("worker", "list"))[1], re.MULTILINE
    )
    code, out, _ = await instance("worker", "list", "--json", "id,pause")
    assert (json.loads(out)["id"], json.loads(out)["pause"]["reason"]) == ("w-1", "new disks")
    assert (await instance("worker", "resume", "w-1"))[:2] == (0, "worker w-1 works again\n")
    code, out, err = await instance("worker", "resume", "w-1")
    assert (code, out, err) == (3, "", "rs-delivery: worker w-1 is not drained\n")
    code, _, err = await instance("worker", "drain", "w-9", "--reason", "x")
    assert (code, "w-1" in err) == (3, True)


async def test_a_target_is_paused_resumed_and_tried(signed_in: Call) -> None:
    paused = ("target", "pause", DEFAULT_TARGET, "--reason", "disks")
    code, out, err = await signed_in(*paused, "--stop")
    assert (code, err) == (0, "")
    assert "disks (what runs stops, and goes on where it stopped)" in out
    code, _, err = await signed_in(*paused, "--for", "1h", "--until", "2100-01-01")
    assert (code, "--until or --for" in err) == (2, True)
    code, out, _ = await signed_in("target", "resume", DEFAULT_TARGET)
    assert (code, out) == (0, f"transfers to {DEFAULT_TARGET} are resumed\n")
    code, out, err = await signed_in("target", "check", DEFAULT_TARGET)
    assert (code, err) == (0, "")
    assert all(line.startswith(f"✔ {DEFAULT_TARGET}  ") for line in out.splitlines())
    assert (await signed_in("setting", "set", "delivery_bucket", "no-such-bucket"))[0] == 0
    code, out, err = await signed_in("target", "check", DEFAULT_TARGET)
    assert code == 1
    assert re.search(rf"^✖ {DEFAULT_TARGET}  .*no-such-bucket", out, re.MULTILINE)
    assert err == f"rs-delivery: {DEFAULT_TARGET}: not all that a delivery needs is there\n"
    code, out, err = await signed_in("target", "check", "nowhere")
    assert (code, out) == (3, "")
    assert f"there is no target nowhere; there are {DEFAULT_TARGET}" in err


async def test_dead_letters_are_looked_at_and_removed(signed_in: Call, pool: asyncpg.Pool) -> None:
    table = PostgresDeadLetters(pool)
    await table.keep([letter("0"), letter("1", reason="not json\x1b")], again=True)
    code, out, err = await signed_in("letter", "list")
    assert (code, err) == (0, "2 dead letters\n")
    assert "\x1b" not in out
    code, out, err = await signed_in("letter", "list", "--limit", "1", "--json", "id,reason")
    assert (code, json.loads(out)["id"]) == (0, "amqp:requests:0")
    code, out, _ = await signed_in("letter", "show", "amqp:requests:0")
    assert (code, out.splitlines()[0].partition("  ")[0]) == (0, "amqp:requests:0")
    body = await signed_in("letter", "show", "amqp:requests:0", "--body")
    assert body == (0, letter("0").body.decode(), "")
    assert (await signed_in("letter", "show", "none"))[0] == 3
    code, out, err = await signed_in("letter", "put-back", "--reason", "not json", "--dry-run")
    assert (code, err) == (0, "1 of 1 dead letter would be put back\n")
    assert out.startswith("amqp:requests:1 would be put back into ")
    for arguments, says in (
        (("put-back",), "give IDs"),
        (("put-back", "a", "--all"), "give IDs"),
        (("remove", "--all"), "add --yes"),
    ):
        code, out, err = await signed_in("letter", *arguments)
        assert (code, out) == (2, "")
        assert says in err


async def test_a_tenant_is_put_into_maintenance_and_taken_out_of_it(signed_in: Call) -> None:
    none = (0, f"tenant {TENANT} is in no maintenance\n", "")
    assert await signed_in("maintenance", "show") == none
    code, out, _ = await signed_in("maintenance", "show", "--json")
    assert (code, json.loads(out)) == (0, {"tenant": TENANT, "active": False})
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    said = ("--reason", "rs-order moves", "--until", tomorrow.isoformat())
    code, out, err = await signed_in("maintenance", "on", *said)
    assert (code, err) == (0, "")
    assert re.fullmatch(
        rf"tenant {TENANT} is in maintenance since \S+ \S+ \S+, by admin@example.org, "
        r"until \S+ \S+ \S+: rs-order moves\n",
        out,
    )
    assert (await signed_in("list", "--tries", "1"))[0] == 69  # it is told to come again
    code, out, _ = await signed_in("maintenance", "on", "--for", "2h", "--json", "active,reason")
    assert (code, json.loads(out)) == (0, {"active": True, "reason": None})
    _, out, _ = await signed_in("maintenance", "show", "--json", "until,enabledBy")
    told = json.loads(out)
    left = datetime.fromisoformat(told["until"]) - datetime.now(UTC)
    assert timedelta(hours=1) < left <= timedelta(hours=2)
    assert told["enabledBy"] == "admin@example.org"
    assert await signed_in("maintenance", "off") == none
    assert (await signed_in("list"))[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "flaw"),
    [
        (("--until", "2020-01-01"), 1, "until: "),
        (("--reason", "x" * 301), 1, "reason: "),
        (("--until", "2999-01-01", "--for", "1h"), 2, "not both"),
        (("--until", "tomorrow"), 2, "is no time such as"),
        (("--for", "999999999w"), 2, "--for is too long"),
    ],
)
async def test_what_can_not_be_said_of_a_maintenance_begins_none(
    signed_in: Call, words: tuple[str, ...], code: int, flaw: str
) -> None:
    ended, out, err = await signed_in("maintenance", "on", *words)
    assert (ended, out) == (code, "")
    assert flaw in err
    assert (await signed_in("maintenance", "show"))[1] == f"tenant {TENANT} is in no maintenance\n"


async def test_a_role_that_may_begin_no_maintenance_ends_with_4(
    url: str, rs_delivery: Call
) -> None:
    given = token(role="EXPLOIT")
    await rs_delivery("login", "--url", url, "--with-token", text=given)
    assert (await rs_delivery("maintenance", "on"))[0] == 4


async def test_a_setting_is_changed_as_it_was_shown(signed_in: Call, tmp_path: Path) -> None:
    code, out, _ = await signed_in("setting", "list", "--json", "name,value")
    assert {"request_ttl", "s3_server"} <= {json.loads(line)["name"] for line in out.splitlines()}
    before = (await signed_in("setting", "get", "request_ttl"))[1].strip()
    code, out, err = await signed_in("setting", "set", "request_ttl", "7", "--dry-run")
    assert (code, err) == (0, "nothing was changed\n")
    assert out.splitlines()[-2:] == [f"-{before}", "+7"]
    assert await signed_in("setting", "get", "request_ttl") == (0, f"{before}\n", "")
    code, _, err = await signed_in("setting", "set", "request_ttl", "7")
    assert (code, err) == (0, "request_ttl is set\n")
    code, out, err = await signed_in("setting", "set", "request_ttl", "7")
    assert (code, out, err) == (0, "", "request_ttl has this value already\n")
    code, out, err = await signed_in("setting", "reset", "request_ttl")
    assert (code, out.splitlines()[-2:]) == (2, ["-7", f"+{before}"])
    assert "add --yes" in err
    assert (await signed_in("setting", "reset", "request_ttl", "--yes"))[0] == 0
    assert (await signed_in("setting", "get", "request_ttl"))[1] == f"{before}\n"
    file = tmp_path / "v.json"
    server = json.loads((await signed_in("setting", "get", "s3_server"))[1])
    file.write_text(json.dumps({**server, "secret": "hush", "region": "eu-1"}))
    code, out, err = await signed_in("setting", "set", "s3_server", "--file", file)
    assert (code, "hush" in out + err) == (0, False)
    assert '+  "region": "eu-1"' in out
    for arguments, code, says in (
        (("get", "none"), 3, "none"),
        (("set", "request_ttl", "-1"), 2, "No such option"),
        (("set", "request_ttl", "soon"), 1, "request_ttl"),
        (("set", "request_ttl"), 2, "give VALUE, or --file"),
    ):
        found, _, err = await signed_in("setting", *arguments)
        assert (found, says in err) == (code, True), err


async def test_what_a_code_means_is_asked_of_the_service_and_known_without_it(
    url: str, rs_delivery: Call, tmp_path: Path
) -> None:
    user = ("--url", url, "--token", token(role="REGISTERED_USER"))
    code, out, err = await rs_delivery("explain", "TARGET_REFUSED", *user)
    assert (code, err) == (0, "")
    assert out.startswith(f"TARGET_REFUSED: {CATALOGUE[Code.TARGET_REFUSED].title}\n")
    assert await rs_delivery("explain", "TARGET_REFUSED") == (0, out, "")
    code, _, err = await rs_delivery("explain", "NO_SUCH_CODE", *user)
    assert (code, "and NO_SUCH_CODE is no code that is known" in err) == (3, True)
