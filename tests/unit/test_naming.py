"""Names in archives: whatever comes in, what comes out is safe and unique."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.model import ListedFile
from app.naming import build_manifest, object_key, safe_name


def listed(
    file_id: int, filename: str, *, product: str = "P", version: int = 1, size: int | None = 1
) -> ListedFile:
    return ListedFile(
        file_id=file_id, product_id=product, version=version, filename=filename, size=size, md5=None
    )


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("a.tif", "a.tif"),
        ("/etc/passwd", "passwd"),
        ("../../x", "x"),
        ("..", "F"),
        ("...", "F"),
        ("", "F"),
        ("C:\\Windows\\x.dll", "x.dll"),
        ("a\x00b\nc", "a_b_c"),
        ("con.txt", "_con.txt"),
        ("name. ", "name"),
        ("e\u0301.txt", "é.txt"),
        ("x" * 300 + ".tif", "x" * 251 + ".tif"),
        ("é" * 300 + ".tif", "é" * 125 + ".tif"),
    ],
)
def test_a_name_becomes_safe(raw: str, safe: str) -> None:
    assert safe_name(raw, fallback="F") == safe


def test_files_of_one_product_are_at_the_root() -> None:
    manifest = build_manifest("c", [listed(2, "b"), listed(1, "a")])
    assert manifest.archive_name == "P_v1.zip"
    assert [f.member for f in manifest.files] == ["a", "b"]


def test_files_of_several_products_are_in_folders() -> None:
    manifest = build_manifest("c", [listed(1, "a"), listed(2, "a", version=2)])
    assert manifest.archive_name == "delivery-c.zip"
    assert [f.member for f in manifest.files] == ["P_v1/a", "P_v2/a"]


def test_a_clash_is_numbered_before_the_extension() -> None:
    manifest = build_manifest("c", [listed(1, "a.tif"), listed(2, "A.tif"), listed(3, "a.tif")])
    assert [f.member for f in manifest.files] == ["a.tif", "A (2).tif", "a (3).tif"]


def test_a_file_that_is_listed_twice_is_delivered_once() -> None:
    assert len(build_manifest("c", [listed(1, "a"), listed(1, "a")]).files) == 1


hostile = st.text(max_size=400) | st.sampled_from(
    ["../a", "/a", "a (2)", "A", "a", "nul", "\\\\host\\a", "a/..", "ａ", "ß", "SS", "\ud800"]
)


@given(st.lists(st.tuples(hostile, hostile, st.integers(1, 3)), min_size=1, max_size=40))
@example([("a", "P", 1), ("a (2)", "P", 1), ("a", "P", 1)])
def test_members_are_unique_and_stay_below_the_folder(
    files: list[tuple[str, str, int]],
) -> None:
    listing = [
        listed(number, name, product=product, version=version)
        for number, (name, product, version) in enumerate(files)
    ]
    manifest = build_manifest("c", listing)
    members = [file.member for file in manifest.files]
    assert len({member.casefold() for member in members}) == len(members) == len(files)
    for member in [*members, manifest.archive_name]:
        parts = member.split("/")
        assert len(parts) <= 2
        for part in parts:
            assert part.strip(". ")
            assert part not in (".", "..")
            assert len(part.encode()) <= 255
            assert not set(part) & set('\\:*?"<>|')
            assert part.isprintable() or not any(ord(c) < 32 for c in part)


@given(hostile)
def test_an_object_key_is_two_components(correlation_id: str) -> None:
    key = object_key(correlation_id, "a.zip")
    assert key.count("/") == 1
    assert not key.startswith("/")
