"""`verify` finds every flaw of an archive, and names it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

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


def _zip_of(*members: tuple[zipfile.ZipInfo | str, bytes], compression: int = 8) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for info, content in members:
            archive.writestr(info, content, compression)
    return out.getvalue()


def _tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info)
            out.write(content + bytes(-len(content) % 512))
            archive.offset += len(content) + -len(content) % 512
    return out.getvalue()


def _folder_of_tar(name: str = "folder") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_data_in_a_folder_of_a_zip_is_found(compression: int, tmp_path: Path) -> None:
    archive = _zip_of(("folder/", b"hidden"), ("a", b"1"), compression=compression)
    place = write(tmp_path, archive, manifest_of({"a": b"1"}, archive), "a.zip")
    assert found(checked(place)) == {(Kind.EXTRA, "folder/")}
    empty = _zip_of(("folder/", b""), ("a", b"1"), compression=compression)
    place = write(tmp_path, empty, manifest_of({"a": b"1"}, empty), "a.zip")
    assert checked(place).ok


def test_data_in_a_folder_of_a_tar_is_found(tmp_path: Path) -> None:
    for content, flaws in ((b"hidden", {(Kind.EXTRA, "folder")}), (b"", set())):
        archive = _tar_of((_folder_of_tar(), content), (tarfile.TarInfo("a"), b"1"))
        place = write(tmp_path, archive, manifest_of({"a": b"1"}, archive), "a.tar")
        assert found(checked(place)) == flaws


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        (stat.S_IFLNK, "a symbolic link"),
        (stat.S_IFIFO, "no file"),
        (stat.S_IFCHR, "no file"),
        (stat.S_IFDIR, "a folder"),
    ],
)
def test_what_the_directory_of_a_zip_makes_a_link_of_is_found(
    mode: int, what: str, tmp_path: Path
) -> None:
    """Its bytes are right, and other readers would make something else of them than a file."""
    info = zipfile.ZipInfo("a")
    info.create_system, info.external_attr = 3, (mode | 0o644) << 16
    archive = _zip_of((info, b"/etc/passwd"))
    place = write(tmp_path, archive, manifest_of({"a": b"/etc/passwd"}, archive), "a.zip")
    report = checked(place)
    assert found(report) == {(Kind.UNREADABLE, "a")}
    assert what in report.flaws[0].says
    info.create_system = 0  # where modes mean nothing
    archive = _zip_of((info, b"/etc/passwd"))
    place = write(tmp_path, archive, manifest_of({"a": b"/etc/passwd"}, archive), "a.zip")
    assert checked(place).ok


@pytest.mark.parametrize(("start", "length"), [(4, 4), (8, 4), (12, 8), (4, 16)])
def test_an_end_of_all_ones_tells_nothing_without_zip64(
    start: int, length: int, tmp_path: Path
) -> None:
    archive = bytearray(MAKERS["zipfile-deflated"][1](FILES, tmp_path))
    end = archive.rfind(b"PK\x05\x06")
    archive[end + start : end + start + length] = b"\xff" * length
    report = checked(write(tmp_path, bytes(archive), manifest_of(FILES), "a.zip"))
    assert found(report) == {(Kind.DAMAGED, None)}


@pytest.mark.parametrize("seekable", [True, False], ids=["sizes before", "sizes behind"])
@pytest.mark.parametrize("more", [-1, 0, 1, 5, 100, 150, 195, 204, 1024 * 1024])
@pytest.mark.parametrize("kind", ["zeros", "noise", "text"])
def test_a_deflated_member_is_read_to_its_end(
    kind: str, more: int, seekable: bool, tmp_path: Path
) -> None:
    """Its last bytes of output may be left when all of its input was taken."""
    size = 1024 * 1024 + more
    contents = {
        "zeros": bytes(size),
        "noise": random.Random(size).randbytes(size),
        "text": (b"0123456789" * (size // 10 + 1))[:size],
    }
    files = {"a": contents[kind], "b": b"behind it"}
    made = MAKERS["zipfile-deflated" if seekable else "zipfile-piped-deflated"][1](files, tmp_path)
    assert found(checked(write(tmp_path, made, manifest_of(files, made), "a.zip"))) == set()


@pytest.mark.parametrize("where", ["folder", "pipe", "behind the end", "behind a damaged header"])
def test_a_bomb_beside_the_files_of_a_tar_ends(where: str, tmp_path: Path) -> None:
    """Compressed, it is small; nothing lists it, so it has no size that is told."""
    bomb = 200 * 1024**2
    file = _tar_of((tarfile.TarInfo("a"), b"1"))[:1024]
    member = tarfile.TarInfo("x")
    member.type = tarfile.DIRTYPE if where == "folder" else tarfile.FIFOTYPE
    member.size = bomb
    beside = member.tobuf()
    if where == "behind the end":
        beside = bytes(1024)
    elif where == "behind a damaged header":
        beside = b"x" * 512
    read: list[int] = []

    class Bar:
        def begin(self, total: int | None) -> None:
            pass

        def advance(self, count: int) -> None:
            read.append(count)

    compressor = zstandard.ZstdCompressor().compressobj()
    parts = [compressor.compress(file + beside)]
    parts += [compressor.compress(bytes(1024**2)) for _ in range(bomb // 1024**2)]
    archive = b"".join([*parts, compressor.flush()])
    place = write(tmp_path, archive, manifest_of({"a": b"1"}), "a.tar.zst")
    report = checked(place, progress=Bar())
    assert Kind.EXTRA in report.kinds
    assert "far more than is listed" in [flaw for flaw in report.flaws if not flaw.path][-1].says


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


def test_files_are_checked_by_what_is_told_of_their_manifest(folder: Path) -> None:
    """DONE tells its digest: it stands for those of all files."""
    manifest = (folder / "manifest.json").read_bytes()
    md5 = hashlib.md5(manifest, usedforsecurity=False).hexdigest()
    sha256 = hashlib.sha256(manifest).hexdigest()
    assert checked(folder, md5=md5.upper(), sha256=sha256, size=len(manifest)).ok
    wrong = checked(folder, md5="0" * 32, sha256="1" * 64, size=1)
    assert found(wrong) == {
        (Kind.WRONG_MD5, "manifest.json"),
        (Kind.WRONG_SHA256, "manifest.json"),
        (Kind.WRONG_SIZE, "manifest.json"),
    }
    (folder / "empty").write_bytes(b"changed")
    manifest_of_others = manifest_of({**FILES, "empty": b"changed"})
    (folder / "manifest.json").write_text(json.dumps(manifest_of_others), "utf-8")
    assert checked(folder).ok
    assert found(checked(folder, md5=md5)) == {(Kind.WRONG_MD5, "manifest.json")}


def test_of_an_archive_that_was_unpacked_its_digest_is_said_to_be_of_no_use(folder: Path) -> None:
    manifest = manifest_of(FILES, b"an archive")
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    report = checked(folder, md5=manifest["archive"]["md5"])
    assert report.ok
    assert "of the archive as a whole, which is not here" in report.notes[0]


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
        ('{"files": [\x1b[2J', "not JSON"),
        ('{"files": [{"path": "a"}', "not JSON"),
        ('{"files": []}', "lists no files"),
        ("[]", "lists no files"),
        ('{"files": [{"size": 1}]}', "file number 1 without a path"),
        ('{"files": [{"path": "a", "size": -1}]}', "no size of a"),
        ('{"files": [{"path": "a", "size": 1.5}]}', "no size of a"),
        (f'{{"files": [{{"path": "a", "size": {2**63}}}]}}', "integer overflow"),
        (f'{{"files": [{{"path": "a", "size": {"1" * 5000}}}]}}', "integer overflow"),
        (f'{{"files": [{{"path": "a"}}], "later": {"1" * 5000}}}', "overflow"),
        ('{"files": [{"path": "a", "md5": "xyz"}]}', "32 hexadecimal digits"),
        ('{"files": [{"path": "a"}]} {}', "JSON"),
    ],
)
def test_what_is_no_manifest_is_said_to_be_none(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ManifestError, match=says) as raised:
        checked(tmp_path)
    assert "\n" not in str(raised.value)


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
