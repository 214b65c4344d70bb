"""`verify` and `download` as commands: what they print, and how they end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client_library.archives import FILES, MAKERS, manifest_of, write
from tests.client_library.fake import TOKEN, Fake
from tests.client_library.program import PROGRAMS
from tests.client_library.program import called as program_called
from tests.client_library.test_client import progress, state

each_program = pytest.mark.parametrize("program", PROGRAMS)


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """The service, with nothing yet."""
    made = Fake()
    async with made.running():
        yield made


async def called(program: str, *arguments: object, url: str = "") -> tuple[int, str, str]:
    environment = {"DELIVERY_TOKEN": TOKEN} | ({"DELIVERY_URL": url} if url else {})
    return await program_called(program, *arguments, environment=environment)


@each_program
async def test_what_is_whole_ends_with_0(program: str, tmp_path: Path) -> None:
    archive = MAKERS["ours.zip-auto"][1](FILES, tmp_path)
    place = write(tmp_path, archive, manifest_of(FILES, archive), "a.zip")
    code, out, err = await called(program, "verify", place)
    assert (code, err) == (0, "")
    assert f"a.zip is whole: {len(FILES)} files of {len(FILES)} listed" in out


@each_program
async def test_each_flaw_is_a_line_and_the_end_is_1(program: str, tmp_path: Path) -> None:
    archive = MAKERS["ours.zip-auto"][1]({**FILES, "more\x1b": b""}, tmp_path)
    place = write(tmp_path, archive, manifest_of({**FILES, "lost": b""}), "a.zip")
    code, out, err = await called(program, "verify", place)
    assert code == 1
    assert out.splitlines() == [
        "extra: more?: the manifest does not list it",
        "missing: lost: it is listed, and not there",
    ]
    assert "has 2 flaws (1 extra, 1 missing)" in err
    code, out, err = await called(program, "verify", "--json", place)
    *flaws, end = map(json.loads, out.splitlines())
    assert (code, err) == (1, "")
    assert [(flaw["flaw"], flaw["path"]) for flaw in flaws] == [
        ("extra", "more\x1b"),
        ("missing", "lost"),
    ]
    assert (end["result"], end["flaws"]) == ("flawed", 2)


@each_program
async def test_what_can_not_be_checked_ends_with_3(program: str, tmp_path: Path) -> None:
    code, _, err = await called(program, "verify", tmp_path)
    assert code == 3
    assert err.startswith(f"{program}: {tmp_path} has no manifest.json")


@each_program
@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["--md5", "x", "a.zip"], ["--id", "d"]),
        *(["/no/such.zip"], [".", "--manifest", "/no/such.json"]),
    ],
)
async def test_a_mistake_in_the_call_ends_with_2(program: str, arguments: list[str]) -> None:
    code, _, err = await called(program, "verify", *arguments)
    assert code == 2
    assert "Error: " in err


@each_program
async def test_a_service_that_is_away_ends_with_69(program: str, tmp_path: Path) -> None:
    away = "http://127.0.0.1:1"
    code, _, err = await called(program, "download", "d", "--tries", 1, url=away)
    assert (code, err) == (69, f"{program}: {away} does not answer (connection refused)\n")
    code, _, err = await called(program, "verify", f"{away}/a.zip", "--tries", 1)
    says = f"{away}/a.zip does not answer (connection refused), once; 0 bytes were had"
    assert (code, err) == (69, f"{program}: {says}\n")


@each_program
async def test_a_download_that_no_way_leads_to_names_both(
    program: str, fake: Fake, tmp_path: Path
) -> None:
    fake.hold(b"", "a.zip", None)
    fake.has_links = fake.hands_out = False
    code, _, err = await called(program, "download", "d 1/é", "--to", tmp_path, url=fake.url)
    assert code == 3
    assert err == f"{program}: an operator may allow it; and this place gives no links\n"


@each_program
async def test_a_missing_token_is_told_with_where_to_give_it(
    program: str, fake: Fake, tmp_path: Path
) -> None:
    fake.hold(b"", "a.zip", None)
    arguments = ("download", "d 1/é", "--to", tmp_path, "--token", "another")
    code, _, err = await called(program, *arguments, url=fake.url)
    assert code == 4
    says = f"; sign in with `{program} login`, or give a token: --token, or DELIVERY_TOKEN\n"
    assert err == f"{program}: the token is not valid{says}"


@each_program
async def test_a_delivery_is_downloaded_by_its_id(program: str, fake: Fake, tmp_path: Path) -> None:
    archive = MAKERS["ours.zip-auto"][1](FILES, tmp_path)
    fake.hold(archive, "a.zip", manifest_of(FILES, archive))
    to = tmp_path / "to"
    code, out, err = await called(program, "download", "d 1/é", "--to", to, url=fake.url)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == str(to / "a.zip")
    assert (to / "a.zip").read_bytes() == archive
    code, out, _ = await called(
        program, "download", "d 1/é", "--to", to, "--unpack", "--json", url=fake.url
    )
    assert code == 0
    assert json.loads(out)["path"] == str(to / "a")
    assert (to / "a" / "text.csv").read_bytes() == FILES["text.csv"]


@each_program
async def test_a_delivery_is_verified_by_its_id(program: str, fake: Fake, tmp_path: Path) -> None:
    archive = MAKERS["ours.tar-auto"][1](FILES, tmp_path)
    fake.hold(archive, "a.tar", None)  # the service tells its digest
    code, out, err = await called(program, "verify", "--id", "d 1/é", url=fake.url)
    size = sum(map(len, FILES.values()))
    assert (code, out) == (0, f"d 1/é is whole: {len(FILES)} files, {size:,} bytes read\n")
    assert "without a manifest" in err
    place = write(tmp_path, archive[:-512] + b"x" * 512, None, "a.tar")
    code, out, _ = await called(program, "verify", "--id", "d 1/é", place, url=fake.url)
    assert code == 1
    assert "wrong_md5: its MD5 is" in out


async def test_a_request_is_sent_and_waited_for(fake: Fake, tmp_path: Path) -> None:
    request = tmp_path / "r.json"
    request.write_text('{"correlationId": "d", "order": {}}')
    fake.delivery |= {"url": "s3://b/k"}
    assert await called("rs-delivery", "submit", request, url=fake.url) == (0, "d 1/é\n", "")
    assert fake.bodies == [{"correlationId": "d", "order": {}}]
    assert await called("rs-delivery", "wait", "d 1/é", url=fake.url) == (0, "s3://b/k\n", "")
    fake.delivery |= {"state": "ERROR", "errorType": "EXPIRED", "errorMessage": "too late"}
    code, _, err = await called("rs-delivery", "wait", "d 1/é", url=fake.url)
    assert (code, err) == (
        1,
        "rs-delivery: d 1/é ended in ERROR (EXPIRED): too late\n",
    )


async def test_what_happens_is_told_a_line_each(fake: Fake) -> None:
    fake.delivery |= {"url": "s3://b/k"}
    frames = [state(1, "TRANSFERRING"), progress(1), progress(1), progress(5), state(2, "DONE")]
    fake.frames = [frames]
    code, out, err = await called("rs-delivery", "watch", "d 1/é", url=fake.url)
    assert (code, err) == (0, "")
    *told, last = out.splitlines()
    assert [line.partition("  ")[2] for line in told] == [
        "d 1/é  TRANSFERRING",
        "10 %, 1 B of 10 B, 0/0 files",
        "50 %, 5 B of 10 B, 0/0 files",
        "d 1/é  DONE",
    ]
    assert last == "d 1/é is done: s3://b/k"


async def test_a_request_is_sent_waited_for_and_fetched_in_one_call(
    fake: Fake, tmp_path: Path
) -> None:
    archive = MAKERS["ours.zip-auto"][1](FILES, tmp_path)
    fake.hold(archive, "a.zip", manifest_of(FILES, archive))
    request = tmp_path / "r.json"
    request.write_text('{"correlationId": "d", "order": {}}')
    arguments = ("submit", request, "--target", "t", "--download", tmp_path / "to")
    code, out, _ = await called("rs-delivery", *arguments, url=fake.url)
    assert code == 0
    assert out.splitlines()[:2] == ["d 1/é", str(tmp_path / "to" / "a.zip")]
    assert fake.bodies == [{"correlationId": "d", "order": {}, "targetDelivery": "t"}]
    assert (tmp_path / "to" / "a.zip").read_bytes() == archive


async def test_a_link_is_printed_alone(fake: Fake) -> None:
    fake.hold(b"", "a.zip", None)
    code, out, err = await called("rs-delivery", "link", "d 1/é", "--ttl", 60, url=fake.url)
    assert (code, err) == (0, "")
    assert out.startswith(f"{fake.url}/o/")
    fake.has_links = False
    code, out, err = await called("rs-delivery", "link", "d 1/é", url=fake.url)
    assert (code, out, err) == (5, "", "rs-delivery: this place gives no links\n")
