"""Names in archives: whatever comes in, what comes out is safe and unique."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.delivery.listing import Listing
from app.delivery.manifest import MANIFEST_NAME, Addition, Layout, ListedFile, archive_of_many
from app.delivery.naming import object_key, safe_name
from tests import reference
from tests.builders import make_listed


def listed(
    file_id: int, filename: str, *, product: str = "P", version: int = 1, size: int | None = 1
) -> ListedFile:
    return make_listed(filename, file_id=file_id, product_id=product, version=version, size=size)


def laid_out(listing: list[ListedFile]) -> tuple[str, list[str]]:
    """Return the archive's name and those of its members."""
    packed = Listing()
    packed.add(listing)
    layout = Layout("c", packed, suffix=".zip")
    return layout.archive_name, [file.member for file in layout]


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
        (";", "_"),
        ("a.tif;12", "a.tif_12"),
        ("a;1.tif", "a;1.tif"),
        ("e\u0301.txt", "é.txt"),
        ("x" * 300 + ".tif", "x" * 251 + ".tif"),
        ("é" * 300 + ".tif", "é" * 125 + ".tif"),
    ],
)
def test_a_name_becomes_safe(raw: str, safe: str) -> None:
    assert safe_name(raw, fallback="F") == safe


def test_files_of_one_product_are_at_the_root() -> None:
    assert laid_out([listed(2, "b"), listed(1, "a")]) == ("P_v1.zip", ["a", "b"])


def test_files_of_several_products_are_in_folders() -> None:
    listing = [listed(1, "a"), listed(2, "a", version=2)]
    assert laid_out(listing) == ("delivery-c.zip", ["P_v1/a", "P_v2/a"])


def test_a_clash_is_numbered_before_the_extension() -> None:
    _, members = laid_out([listed(1, "a.tif"), listed(2, "A.tif"), listed(3, "a.tif")])
    assert members == ["a.tif", "A (2).tif", "a (3).tif"]


def test_a_file_that_is_listed_twice_is_delivered_once() -> None:
    assert laid_out([listed(1, "a"), listed(1, "b")]) == ("P_v1.zip", ["b"])


hostile = st.text(max_size=400) | st.sampled_from(
    ["../a", "/a", "a (2)", "A", "a", "nul", "\\\\host\\a", "a/..", "ａ", "ß", "SS", "\ud800"]  # noqa: RUF001
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
    archive, members = laid_out(listing)
    assert len({member.casefold() for member in members}) == len(members) == len(files)
    for member in [*members, archive]:
        parts = member.split("/")
        assert len(parts) <= 2
        for part in parts:
            assert part.strip(". ")
            assert part not in (".", "..")
            assert len(part.encode()) <= 255
            assert not set(part) & set('\\:*?"<>|')
            assert part.isprintable() or not any(ord(c) < 32 for c in part)


few = st.sampled_from(["a.tif", "A.tif", "a (2).tif", "a (3).TIF", "b", "P", "p", "", "\ud800"])


@given(
    st.lists(st.tuples(st.integers(1, 30), few | hostile, few | hostile, st.integers(1, 2))),
    st.integers(1, 7),
    st.sampled_from([".zip", ".tar.gz"]),
)
@example([(1, "a", "p", 1), (2, "a", "P", 1), (3, "a", "p", 1), (1, "b", "x", 1)], 2, ".zip")
def test_a_listing_in_pieces_is_laid_out_as_one_at_once(
    files: list[tuple[int, str, str, int]], piece: int, suffix: str
) -> None:
    """Whatever its order and whichever file comes twice: the same archive, to the last name."""
    listing = [
        listed(number, name, product=product, version=version, size=place)
        for place, (number, name, product, version) in enumerate(files)
    ]
    packed = Listing()
    for first in range(0, len(listing), piece):
        packed.add(listing[first : first + piece])
    layout = Layout("c", packed, suffix=suffix)
    expected = reference.lay_out("c", listing, suffix=suffix)
    assert (layout.archive_name, list(layout)) == expected


@given(st.text(st.characters(max_codepoint=127), max_size=300) | hostile)
@example("con")
@example("COM1.tif")
@example("a.")
@example("-")
def test_a_name_that_is_left_as_it_is_would_be_made_safe_as_itself(name: str) -> None:
    assert safe_name("/" + name.rpartition("/")[2], fallback="F") == safe_name(name, fallback="F")


@given(hostile)
def test_an_object_key_is_two_components(correlation_id: str) -> None:
    key = object_key(correlation_id, "a.zip")
    assert key.count("/") == 1
    assert not key.startswith("/")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("products", [["é" * 300], ["é" * 300, "Q"]], ids=["one", "several"])
def test_the_archive_has_the_suffix_however_long_its_name(suffix: str, products: list[str]) -> None:
    files = [listed(n, "a", product=product) for n, product in enumerate(products)]
    name = Layout("é" * 300, files, suffix=suffix).archive_name
    assert name.endswith(suffix)
    assert len(name.encode()) <= 255


@pytest.mark.parametrize("products", [["P", "P", "P"], ["P", "Q", "Q"]], ids=["one", "several"])
def test_no_file_takes_the_place_of_the_manifest_beside_it(products: list[str]) -> None:
    names = ["a.tif", "Manifest.json", "manifest.json"]
    files = [
        listed(number, name, product=product)
        for number, (name, product) in enumerate(zip(names, products, strict=True), start=1)
    ]
    layout = Layout("c", files[:2], suffix=MANIFEST_NAME)
    assert layout.archive_name == MANIFEST_NAME
    members = list(layout)
    more = Addition(suffix=MANIFEST_NAME, folders=not layout.single, renamed=layout.renamed)
    for member in members:
        more.behind(member)
    members += more.of(files[2:])
    if len(set(products)) == 1:
        expected = ["a.tif", "Manifest (2).json", "manifest (3).json"]
    else:
        expected = ["P_v1/a.tif", "Q_v1/Manifest.json", "Q_v1/manifest (2).json"]
    assert [member.member for member in members] == expected


def test_many_products_of_which_not_all_are_told_have_one_manifest() -> None:
    assert archive_of_many("c", MANIFEST_NAME) == MANIFEST_NAME
