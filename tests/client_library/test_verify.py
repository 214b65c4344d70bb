"""`verify` finds every flaw of an archive, and names it."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rs_delivery_client import Flaw, Kind, ManifestError, NotCheckedError, Report, verify
from tests.client_library.archives import FILES, MAKERS, Files, manifest_of, write

each_archive = pytest.mark.parametrize(("suffix", "make"), MAKERS.values(), ids=MAKERS)


def checked(place: Path, **options: Any) -> Report:
    return asyncio.run(verify(place, **options))


def found(report: Report) -> set[tuple[Kind, str | None]]:
    return {(flaw.kind, flaw.path) for flaw in report.flaws}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """Every archive of the same files, made once."""
    return {
        name: make(FILES, tmp_path_factory.mktemp("made")) for name, (_, make) in MAKERS.items()
    }


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_that_is_whole_has_no_flaw(
    name: str, made: Mapping[str, bytes], tmp_path: Path
) -> None:
    archive, suffix = made[name], MAKERS[name][0]
    place = write(tmp_path, archive, manifest_of(FILES, archive), f"a{suffix}")
    report = checked(place)
    assert found(report) == set()
    assert (report.files, report.listed) == (len(FILES), len(FILES))
    assert report.size == sum(map(len, FILES.values()))


@pytest.mark.parametrize("name", MAKERS)
def test_each_flipped_bit_is_found(name: str, made: Mapping[str, bytes], tmp_path: Path) -> None:
    archive, suffix = made[name], MAKERS[name][0]
    place = write(tmp_path, archive, manifest_of(FILES, archive), f"a{suffix}")
    chance = random.Random(name)
    for _ in range(60):
        at = chance.randrange(len(archive) * 8)
        damaged = bytearray(archive)
        damaged[at // 8] ^= 1 << at % 8
        place.write_bytes(damaged)
        assert (Kind.WRONG_MD5, None) in found(checked(place)), at


@pytest.mark.parametrize("name", MAKERS)
def test_a_flipped_bit_of_a_file_names_that_file_alone(
    name: str, made: Mapping[str, bytes], tmp_path: Path
) -> None:
    """Without a digest of the archive as a whole: the manifest's of the file is what tells."""
    archive, suffix = made[name], MAKERS[name][0]
    noisy = FILES["noise.bin"]
    at = archive.find(noisy[20_000:20_016])
    if at < 0:
        pytest.skip("compressed, it has no place of its own")
    damaged = bytearray(archive)
    damaged[at] ^= 16
    place = write(tmp_path, bytes(damaged), manifest_of(FILES), f"a{suffix}")
    report = checked(place)
    if suffix == ".tar.zst":  # what follows in a frame is lost with it
        assert not report.ok
        assert {flaw.kind for flaw in report.flaws if flaw.path == "noise.bin"}
        return
    assert {flaw.path for flaw in report.flaws} == {"noise.bin"}
    assert Kind.WRONG_MD5 in report.kinds


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_that_ends_too_soon_is_found(
    name: str, made: Mapping[str, bytes], tmp_path: Path
) -> None:
    archive, suffix = made[name], MAKERS[name][0]
    place = write(tmp_path, archive, manifest_of(FILES), f"a{suffix}")
    chance = random.Random(name)
    # A tar is whole with the mark of its end; GNU's fills a record of 10 KiB up behind that.
    ends = [*(chance.randrange(1, len(archive) - 10_240) for _ in range(20))]
    if suffix != ".tar":
        ends += [len(archive) - 1, len(archive) - 4]
    for end in ends:
        place.write_bytes(archive[:end])
        report = checked(place)
        assert not report.ok, end
        assert report.kinds.keys() & {Kind.TRUNCATED, Kind.DAMAGED}, (end, report.flaws)


@pytest.mark.parametrize("name", MAKERS)
def test_bytes_behind_the_end_are_found(
    name: str, made: Mapping[str, bytes], tmp_path: Path
) -> None:
    suffix = MAKERS[name][0]
    place = write(tmp_path, made[name] + b"and more", manifest_of(FILES), f"a{suffix}")
    assert checked(place).kinds.keys() & {Kind.TRAILING, Kind.DAMAGED}


@each_archive
def test_a_missing_and_an_extra_file_are_named(suffix: str, make: Any, tmp_path: Path) -> None:
    others = {path: content for path, content in FILES.items() if path != "empty"}
    others["strange.txt"] = b"who am I?"
    place = write(tmp_path, make(others, tmp_path), manifest_of(FILES), f"a{suffix}")
    assert found(checked(place)) == {(Kind.MISSING, "empty"), (Kind.EXTRA, "strange.txt")}


@each_archive
def test_a_renamed_file_is_missing_and_extra(suffix: str, make: Any, tmp_path: Path) -> None:
    others = {"texts.csv" if p == "text.csv" else p: content for p, content in FILES.items()}
    place = write(tmp_path, make(others, tmp_path), manifest_of(FILES), f"a{suffix}")
    assert found(checked(place)) == {(Kind.MISSING, "text.csv"), (Kind.EXTRA, "texts.csv")}


@each_archive
def test_another_order_is_no_flaw(suffix: str, make: Any, tmp_path: Path) -> None:
    others = dict(reversed(FILES.items()))
    place = write(tmp_path, make(others, tmp_path), manifest_of(FILES), f"a{suffix}")
    assert found(checked(place)) == set()


@each_archive
def test_wrong_content_and_wrong_size_are_named(suffix: str, make: Any, tmp_path: Path) -> None:
    others = {**FILES, "text.csv": FILES["text.csv"].upper()[::-1], "empty": b"not so"}
    place = write(tmp_path, make(others, tmp_path), manifest_of(FILES), f"a{suffix}")
    assert found(checked(place)) == {
        (Kind.WRONG_MD5, "text.csv"),
        (Kind.WRONG_SIZE, "empty"),
        (Kind.WRONG_MD5, "empty"),
    }


def test_a_name_that_is_there_twice_is_named(tmp_path: Path) -> None:
    _, make = MAKERS["tarfile-pax"]
    first, second = make({"a": b"1"}, tmp_path), make({"a": b"1"}, tmp_path)
    place = write(tmp_path, first[:1024] + second, manifest_of({"a": b"1"}), "a.tar")
    assert found(checked(place)) == {(Kind.DUPLICATE, "a")}


@pytest.mark.parametrize("name", ["ours.zip-auto", "zipfile-piped-stored", "ours.tar-auto"])
def test_behind_a_damaged_header_reading_goes_on(
    name: str, made: Mapping[str, bytes], tmp_path: Path
) -> None:
    archive, suffix = made[name], MAKERS[name][0]
    at = archive.find(b"noise.bin")
    header = archive.rfind(b"PK\x03\x04", 0, at) if suffix == ".zip" else at
    damaged = bytearray(archive)
    damaged[header] ^= 4
    report = checked(write(tmp_path, bytes(damaged), manifest_of(FILES), f"a{suffix}"))
    assert (Kind.MISSING, "noise.bin") in found(report)
    assert (Kind.DAMAGED, None) in found(report)
    assert {path for kind, path in found(report) if kind is Kind.MISSING} == {"noise.bin"}


@pytest.mark.parametrize("name", [name for name in MAKERS if MAKERS[name][0] == ".zip"])
def test_a_directory_that_says_otherwise_is_found(
    name: str, made: Mapping[str, bytes], tmp_path: Path
) -> None:
    """Readers go by the directory, so a member that is right under a wrong entry is no use."""
    archive = bytearray(made[name])
    entry = archive.find(b"PK\x01\x02")
    archive[entry + 16] ^= 1  # its CRC-32
    report = checked(write(tmp_path, bytes(archive), manifest_of(FILES), "a.zip"))
    assert found(report) == {(Kind.DAMAGED, "text.csv")}


def test_a_member_that_the_directory_hides_is_found(tmp_path: Path) -> None:
    """The bytes of a whole archive, in front of another one."""
    _, make = MAKERS["zipfile-deflated"]
    hidden = make({"b": b"2"}, tmp_path)
    local = hidden[: hidden.find(b"PK\x01\x02")]
    place = write(tmp_path, local + make({"a": b"1"}, tmp_path), manifest_of({"a": b"1"}), "a.zip")
    report = checked(place)
    assert (Kind.EXTRA, "b") in found(report)
    assert Kind.DAMAGED in report.kinds


def test_without_a_manifest_a_zip_is_checked_by_its_own_word(tmp_path: Path) -> None:
    archive = MAKERS["zipfile-deflated"][1](FILES, tmp_path)
    report = checked(write(tmp_path, archive, None, "a.zip"))
    assert report.ok
    assert report.files == len(FILES)
    assert "CRC-32" in report.notes[0]


def test_without_a_manifest_a_tar_needs_its_digest(tmp_path: Path) -> None:
    archive = MAKERS["gnu-tar"][1](FILES, tmp_path)
    place = write(tmp_path, archive, None, "a.tar")
    with pytest.raises(NotCheckedError, match="nothing tells what its files should be"):
        checked(place)
    told = manifest_of(FILES, archive)["archive"]
    assert checked(place, md5=told["md5"].upper(), size=told["size"]).ok
    assert found(checked(place, md5="0" * 32, size=1)) == {
        (Kind.WRONG_MD5, None),
        (Kind.WRONG_SIZE, None),
    }


def test_flaws_are_told_as_they_are_found(tmp_path: Path) -> None:
    told: list[Flaw] = []
    archive = MAKERS["zipfile-deflated"][1]({"a": b"1"}, tmp_path)
    listed = {"a": b"1", **{f"missing-{n}": b"" for n in range(2000)}}
    place = write(tmp_path, archive, manifest_of(listed), "a.zip")
    report = checked(place, on_flaw=told.append)
    assert report.count == len(told) == 2000
    assert len(report.flaws) == 1000
    assert report.kinds == Counter({Kind.MISSING: 2000})


def test_a_folder_is_checked_by_the_archive_that_its_manifest_tells_of(tmp_path: Path) -> None:
    archive = MAKERS["zipfile-deflated"][1](FILES, tmp_path)
    manifest = manifest_of(FILES, archive, name="a.zip")
    (tmp_path / "a.zip").write_bytes(archive)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert checked(tmp_path).ok
    (tmp_path / "a.zip").write_bytes(archive[:-1])
    assert Kind.TRUNCATED in checked(tmp_path).kinds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that were delivered as they are, and their manifest."""
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest_of(FILES)), "utf-8")
    return tmp_path


def test_a_folder_of_files_is_checked(folder: Path) -> None:
    report = checked(folder)
    assert report.ok
    assert report.files == len(FILES)
    assert checked(folder / "manifest.json").ok


def test_each_flaw_of_a_folder_is_named(folder: Path) -> None:
    (folder / "empty").unlink()
    (folder / "folder" / "more").write_bytes(b"")
    (folder / "text.csv").write_bytes(FILES["text.csv"].swapcase() + b"!")
    (folder / "last.zip").unlink()
    (folder / "last.zip").symlink_to(folder / "noise.bin")
    assert found(checked(folder)) == {
        (Kind.MISSING, "empty"),
        (Kind.EXTRA, "folder/more"),
        (Kind.WRONG_SIZE, "text.csv"),
        (Kind.WRONG_MD5, "text.csv"),
        (Kind.UNREADABLE, "last.zip"),
    }


def test_a_manifest_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    names: Files = {"../secret": b"x"}
    (tmp_path / "in" / "manifest.json").write_text(json.dumps(manifest_of(names)))
    assert found(checked(tmp_path / "in")) == {(Kind.UNREADABLE, "../secret")}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        ('{"files": [{"path": "a"}', "not JSON"),
        ('{"files": []}', "lists no files"),
        ("[]", "lists no files"),
        ('{"files": [{"size": 1}]}', "file number 1 without a path"),
        ('{"files": [{"path": "a", "size": -1}]}', "no size of a"),
        ('{"files": [{"path": "a", "md5": "xyz"}]}', "32 hexadecimal digits"),
        ('{"files": [{"path": "a"}]} {}', "JSON"),
    ],
)
def test_what_is_no_manifest_is_said_to_be_none(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ManifestError, match=says):
        checked(tmp_path)


def test_fields_of_a_later_version_are_passed_over(folder: Path) -> None:
    manifest = {"schema": {"x": [1, {"files": [1]}]}, **manifest_of(FILES), "later": [None, 1.5]}
    manifest["files"][0] |= {"sha512": "…", "crc32": None, "tags": ["a", {"b": 1}]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert checked(folder).ok


def test_files_that_could_not_be_delivered_are_said(folder: Path) -> None:
    manifest = manifest_of(FILES, missing=[{"path": "gone.tif", "cause": "410"}])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    report = checked(folder)
    assert (report.ok, report.left_out) == (True, 1)
    assert "1 more files could not be delivered" in report.notes[0]
