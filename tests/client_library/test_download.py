"""What is downloaded is what was delivered: over drops, expired links, and lies."""

from __future__ import annotations

import asyncio
import json
import re
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rs_delivery_client import (
    ClientError,
    ConflictError,
    ContentMissingError,
    DeliveryClient,
    FlawedError,
    Kind,
    Link,
    LinkExpiredError,
    LocalError,
    NotCheckedError,
    NotReachableError,
    Pauses,
    UnsafeError,
    verify,
)
from rs_delivery_client.paths import folded, folds_case
from rs_delivery_client.verification import verify_delivery
from tests.client_library.archives import FILES, MAKERS, Files, entry, manifest_of
from tests.client_library.fake import Fake
from tests.servers import serving

CHANGED: Files = {**FILES, "text.csv": b"other"}


@pytest.fixture
def fake() -> Fake:
    """The service, with nothing yet."""
    return Fake()


@pytest.fixture
async def client(fake: Fake) -> AsyncIterator[DeliveryClient]:
    """A client of it."""
    async with fake.running() as opened:
        yield opened


def held(fake: Fake, tmp_path: Path, kind: str = "ours.zip-auto", **more: Any) -> bytes:
    """Have the fake service hold an archive; return it."""
    suffix, make = MAKERS[kind]
    archive = make(FILES, tmp_path)
    fake.hold(archive, f"a{suffix}", manifest_of(FILES, archive, f"a{suffix}", **more))
    return archive


def tree(root: Path) -> dict[str, bytes]:
    """Return the files in a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


NAME = "d 1/é"


async def test_an_archive_arrives_whole_and_verified(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = held(fake, tmp_path)
    got = await client.download(NAME, tmp_path / "to")
    assert got.path == tmp_path / "to" / "a.zip"
    assert got.path.read_bytes() == archive
    assert got.report.ok
    assert got.report.listed == len(FILES)
    assert {path.name for path in got.path.parent.iterdir()} == {"a.zip", "a.zip.manifest.json"}
    assert (await verify(got.path)).ok


async def test_what_is_there_already_is_checked_and_not_fetched(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    held(fake, tmp_path)
    await client.download(NAME, tmp_path / "to")
    sent = fake.sent
    assert (await client.download(NAME, tmp_path / "to")).report.ok
    assert fake.sent - sent == len(fake.objects["manifest.json"])


async def test_something_else_of_that_name_is_left_alone(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    held(fake, tmp_path)
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(FlawedError, match="move it away"):
        await client.download(NAME, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == b"mine"


@pytest.mark.parametrize("seed", range(20))
async def test_drops_and_expired_links_cost_no_byte_twice(
    seed: int, fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = held(fake, tmp_path)
    fake.seed.seed(seed)
    fake.drops, fake.uses = 5, 1
    got = await client.download(NAME, tmp_path / "to")
    assert got.path.read_bytes() == archive
    assert fake.drops == 0
    assert fake.asked["POST link"] > 3
    # What was sent and lost on the way may come again, and no more.
    assert fake.sent <= len(archive) + len(fake.objects["manifest.json"]) + 6 * 65536 * 4


async def test_the_next_call_goes_on_where_the_last_one_broke_off(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = held(fake, tmp_path / "made")
    del fake.objects["manifest.json"]
    client.pauses, fake.drops = Pauses(tries=1), 1
    with pytest.raises(NotReachableError, match="bytes were had"):
        await client.download(NAME, tmp_path)
    had = (tmp_path / "a.zip.part").stat().st_size
    assert 0 < had < len(archive)
    got = await client.download(NAME, tmp_path)
    assert fake.ranges == [f"bytes={had}-"]
    assert got.path.read_bytes() == archive
    assert "without a manifest" in got.report.notes[0]


async def test_what_has_changed_since_is_fetched_from_its_first_byte(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = held(fake, tmp_path)
    (tmp_path / "a.zip.part").write_bytes(b"of another time")
    state = {"delivery": "0-1", "etag": '"old"'}
    (tmp_path / "a.zip.part.json").write_text(json.dumps(state))
    assert (await client.download(NAME, tmp_path)).path.read_bytes() == archive


async def test_a_part_of_another_delivery_is_not_gone_on_with(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = held(fake, tmp_path)
    (tmp_path / "a.zip.part").write_bytes(archive[:100])
    state = {"delivery": "0-2", "etag": None}
    (tmp_path / "a.zip.part.json").write_text(json.dumps(state))
    assert (await client.download(NAME, tmp_path)).report.ok
    assert fake.ranges == []


async def test_a_damaged_part_is_found_and_all_is_fetched_once_more(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = held(fake, tmp_path)
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    state = {"delivery": "0-1", "etag": None}
    (tmp_path / "a.zip.part.json").write_text(json.dumps(state))
    got = await client.download(NAME, tmp_path)
    assert got.path.read_bytes() == archive
    assert fake.ranges == ["bytes=1000-"]


async def test_a_server_that_knows_no_ranges_is_read_past_what_was_had(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = held(fake, tmp_path)
    fake.forgets_ranges, fake.drops = True, 4
    assert (await client.download(NAME, tmp_path)).path.read_bytes() == archive


async def test_without_links_the_service_hands_the_bytes_out(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = held(fake, tmp_path)
    fake.has_links, fake.drops = False, 3
    assert (await client.download(NAME, tmp_path)).path.read_bytes() == archive


async def test_without_links_files_come_one_at_a_time(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    fake.hold_files(FILES, manifest_of(FILES))
    fake.has_links = False
    await client.download(NAME, tmp_path)
    assert fake.most_at_once == 1


async def test_where_nothing_is_handed_out_the_service_says_why(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    held(fake, tmp_path)
    fake.has_links = fake.hands_out = False
    with pytest.raises(ContentMissingError, match="an operator may allow it"):
        await client.download(NAME, tmp_path)


async def test_an_archive_that_is_not_what_was_delivered_is_kept_aside(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = bytearray(held(fake, tmp_path))
    archive[len(archive) // 2] ^= 1
    fake.objects[""] = bytes(archive)
    with pytest.raises(FlawedError, match="kept as") as caught:
        await client.download(NAME, tmp_path)
    assert Kind.WRONG_MD5 in caught.value.report.kinds
    assert not (tmp_path / "a.zip").exists()
    assert (tmp_path / "a.zip.flawed").read_bytes() == archive


async def test_a_delivery_that_is_not_done_is_not_fetched(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    fake.delivery["state"] = "TRANSFERRING"
    with pytest.raises(ConflictError, match="wait until it is DONE"):
        await client.download(NAME, tmp_path)


async def test_why_there_is_nothing_to_fetch_or_to_check_is_told_with_where_the_report_is(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    fake.delivery |= {"state": "ERROR", "errorType": "EXPIRED", "errorMessage": "too late"}
    with pytest.raises(ConflictError, match=r"nothing to fetch: EXPIRED: too late$"):
        await client.download(NAME, tmp_path)
    fake.delivery["reportUrl"] = "s3://b/c/report.json"
    told = "EXPIRED: too late; what happened to each file is told by s3://b/c/report.json"
    with pytest.raises(ConflictError, match=re.escape(f"nothing to fetch: {told}")):
        await client.download(NAME, tmp_path)
    with pytest.raises(NotCheckedError, match=re.escape(f"nothing to check: {told}")):
        await verify_delivery(client, NAME)


async def test_a_name_that_leads_elsewhere_is_refused(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    held(fake, tmp_path)
    fake.delivery["archiveName"] = "../a.zip"
    with pytest.raises(UnsafeError, match="leads out"):
        await client.download(NAME, tmp_path / "to")


@pytest.mark.parametrize("kind", ["ours.zip-auto", "ours.tar-auto", "ours.tar.zst-auto"])
async def test_an_archive_is_unpacked_while_it_arrives(
    kind: str, fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    held(fake, tmp_path / "made", kind)
    fake.drops, fake.uses = 3, 2
    got = await client.download(NAME, tmp_path / "to", unpack=True)
    assert got.path == tmp_path / "to" / "a"
    found = tree(got.path)
    assert json.loads(found.pop("manifest.json")) == json.loads(fake.objects["manifest.json"])
    assert found == FILES
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["a"]
    assert (await verify(got.path)).ok


async def test_of_a_flawed_archive_nothing_stays_unpacked(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = bytearray(held(fake, tmp_path / "made"))
    archive[-30] ^= 1
    fake.objects[""] = bytes(archive)
    with pytest.raises(FlawedError, match="nothing of it is kept"):
        await client.download(NAME, tmp_path / "to", unpack=True)
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize(
    "path", ["../out", "/out", "a/../../out", "a\\b", "C:x", "a/C:x", "a\nb", "a//b"]
)
@pytest.mark.parametrize("kind", ["zipfile-stored", "tarfile-pax"])
async def test_a_name_that_leads_out_of_the_folder_is_not_unpacked(
    path: str, kind: str, fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    suffix, make = MAKERS[kind]
    files = {path: b"x"}
    archive = make(files, tmp_path)
    fake.hold(archive, f"a{suffix}", manifest_of(files, archive))
    with pytest.raises(UnsafeError, match="is not written to a disk"):
        await client.download(NAME, tmp_path / "to", unpack=True)
    assert list((tmp_path / "to").iterdir()) == []
    assert not (tmp_path / "out").exists()


async def test_links_in_a_tar_are_not_unpacked(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    import io  # noqa: PLC0415 - for this one
    import tarfile  # noqa: PLC0415

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    fake.hold(out.getvalue(), "a.tar", manifest_of({"a": b""}, out.getvalue()))
    with pytest.raises(UnsafeError, match="it is a symbolic link"):
        await client.download(NAME, tmp_path / "to", unpack=True)


async def test_a_bomb_ends_at_what_its_manifest_tells(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = MAKERS["zipfile-deflated"][1]({"a": bytes(50_000_000)}, tmp_path)
    fake.hold(archive, "a.zip", manifest_of({"a": bytes(1000)}))
    with pytest.raises(UnsafeError, match="more in the archive than was told"):
        await client.download(NAME, tmp_path / "to", unpack=True)
    assert list((tmp_path / "to").iterdir()) == []


async def test_two_names_that_are_one_file_are_refused(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    files = {"a": b"1", "a/b": b"2"}
    archive = MAKERS["zipfile-stored"][1](files, tmp_path)
    fake.hold(archive, "a.zip", manifest_of(files, archive))
    with pytest.raises((UnsafeError, LocalError)):
        await client.download(NAME, tmp_path / "to", unpack=True)


async def test_a_folder_that_is_there_is_not_unpacked_into(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    held(fake, tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(LocalError, match="move it away"):
        await client.download(NAME, tmp_path, unpack=True)


async def test_files_arrive_as_they_are_and_the_manifest_last(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    fake.hold_files(FILES, manifest_of(FILES))
    fake.drops, fake.uses = 6, 1
    got = await client.download(NAME, tmp_path)
    assert got.path == tmp_path / "d 1%2F%C3%A9"
    found = tree(got.path)
    del found["manifest.json"]
    assert found == FILES
    assert not got.path.with_name(got.path.name + ".parts").exists()
    assert (await verify(got.path)).ok


async def test_files_that_are_there_are_not_fetched_again(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    fake.hold_files(FILES, manifest_of(FILES))
    got = await client.download(NAME, tmp_path)
    (got.path / "text.csv").write_bytes(b"damaged")
    (got.path / "empty").unlink()
    sent = fake.sent
    assert (await client.download(NAME, tmp_path)).report.ok
    assert fake.sent - sent == len(fake.objects["manifest.json"]) + len(FILES["text.csv"])
    assert (got.path / "text.csv").read_bytes() == FILES["text.csv"]


async def test_a_wrong_file_is_named_and_the_others_stay(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    fake.hold_files(dict(CHANGED), manifest_of(FILES))
    with pytest.raises(FlawedError) as caught:
        await client.download(NAME, tmp_path)
    assert {flaw.path for flaw in caught.value.report.flaws} == {"text.csv"}
    found = tree(tmp_path / "d 1%2F%C3%A9")
    assert found == {path: content for path, content in FILES.items() if path != "text.csv"}


async def test_a_manifest_that_is_not_the_delivered_one_is_refused(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    fake.hold_files(FILES, manifest_of(FILES))
    fake.objects["manifest.json"] = json.dumps(manifest_of(CHANGED)).encode()
    with pytest.raises(FlawedError, match="the manifest is not the one"):
        await client.download(NAME, tmp_path)


async def test_a_manifest_of_files_that_lead_out_writes_nothing(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    manifest = manifest_of({"a": b"1"})
    manifest["files"].append(entry("../out", b"x"))
    fake.hold_files({"a": b"1", "../out": b"x"}, manifest)
    with pytest.raises(UnsafeError, match="leads out"):
        await client.download(NAME, tmp_path / "to")
    assert tree(tmp_path) == {}


async def test_names_that_are_one_on_a_disk_that_folds_case_are_refused(
    fake: Fake, client: DeliveryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the one would be written over the other, and both would count as fetched."""
    files = {"a/Name.tif": b"1", "a/name.tif": b"2", "b": b"3"}
    fake.hold_files(files, manifest_of(files))
    monkeypatch.setattr("rs_delivery_client.download.folds_case", lambda _folder: True)
    with pytest.raises(UnsafeError, match="only in case"):
        await client.download(NAME, tmp_path / "folds")
    assert tree(tmp_path / "folds") == {}
    monkeypatch.undo()
    if folds_case(tmp_path):
        pytest.skip("this disk folds case")
    got = await client.download(NAME, tmp_path / "keeps")
    found = tree(got.path)
    del found["manifest.json"]
    assert found == files


def test_two_ways_to_write_a_letter_are_one_name_where_case_is_folded() -> None:
    assert folded("\u00e9.tif") == folded("e\u0301.TIF") == folded("\u00c9.tif")
    assert folded("a") != folded("b")


async def test_what_a_link_is_signed_with_is_in_no_error(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    """Not in what it says, nor in what it came of: servers that lead elsewhere, or talk no HTTP."""
    held(fake, tmp_path)

    class Odd:
        how = ""

        async def handle(self, request: web.Request) -> web.StreamResponse:
            if self.how == "in a circle":
                return web.Response(status=302, headers={"Location": str(request.url)})
            if self.how == "to no address":
                return web.Response(
                    status=302, headers={"Location": f"gopher://x/?{request.query_string}"}
                )
            if self.how == "to a broken one":
                return web.Response(
                    status=302, headers={"Location": f"http://[::/?{request.query_string}"}
                )
            assert request.transport is not None
            request.transport.write(b"what is this?\r\n\r\n")
            request.transport.close()
            return web.Response()

    odd = Odd()
    async with serving(odd.handle) as port:
        for how in ("in a circle", "to no address", "to a broken one", "no HTTP"):
            odd.how = how
            link = Link(url=f"http://127.0.0.1:{port}/a?X-Amz-Signature=secret")
            assert "secret" not in repr(link)
            pauses = Pauses(tries=2, first=0.0, most=0.0)
            with pytest.raises(ClientError) as caught:
                await verify(link.url, md5="0" * 32, pauses=pauses)
            told = "".join(traceback.format_exception(caught.value))
            assert "secret" not in told, how
            assert f"127.0.0.1:{port}/a" in str(caught.value)


async def test_a_symbolic_link_in_the_way_is_not_followed(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    fake.hold_files(FILES, manifest_of(FILES))
    root = tmp_path / "to" / "d 1%2F%C3%A9"
    root.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeError, match="symbolic link"):
        await client.download(NAME, tmp_path / "to")
    assert tree(tmp_path / "elsewhere") == {}


async def test_a_link_alone_is_verified_and_says_when_it_has_run_out(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    archive = held(fake, tmp_path)
    manifest = tmp_path / "m.json"
    manifest.write_bytes(fake.objects["manifest.json"])
    link, other = await client.link(NAME), await client.link(NAME, path="manifest.json")
    fake.drops = 3
    assert (await verify(link.url, manifest=manifest)).ok
    report = await verify(link.url, manifest=other.url)
    assert report.ok
    assert "secret" not in report.what
    fake.objects[""] = archive[:-1]
    assert not (await verify(link.url, manifest=manifest)).ok
    fake.uses = 0
    link = await client.link(NAME)
    with pytest.raises(LinkExpiredError, match="ask for another one") as caught:
        await verify(link.url, manifest=manifest)
    assert "secret" not in str(caught.value)


async def test_a_check_that_is_given_up_ends(
    fake: Fake, client: DeliveryClient, tmp_path: Path
) -> None:
    held(fake, tmp_path)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Bar:
        def begin(self, total: int | None) -> None:
            pass

        def advance(self, count: int) -> None:
            loop.call_soon_threadsafe(begun.set)

    link = await client.link(NAME)
    checking = asyncio.create_task(verify(link.url, progress=Bar()))
    await begun.wait()
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
