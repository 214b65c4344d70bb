"""What archives are called by templates: whatever comes in, a key of safe components comes out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.delivery.listing import Listing
from app.delivery.manifest import MANIFEST_NAME, Layout
from app.delivery.model import Delivery
from app.delivery.naming import object_key, safe_component
from app.delivery.templates import (
    MAX_NAME_BYTES,
    MAX_PREFIX_BYTES,
    PLACEHOLDERS,
    ArchiveName,
    Prefix,
    place_of,
)
from tests.builders import make_delivery, make_listed

AT = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
NAMES, PREFIXES = TypeAdapter(ArchiveName), TypeAdapter(Prefix)


def place(
    name: str = "",
    prefix: str = "",
    *,
    product: tuple[str, int] | None = ("P", 1),
    suffix: str = ".zip",
    correlation_id: str = "d-1",
    user: str = "someone@cnes.fr",
    at: datetime = AT,
) -> str:
    """Return the key of an archive that is called by these templates."""
    delivery = make_delivery(
        correlation_id=correlation_id,
        user=user,
        requested_at=at,
        archive_template=NAMES.validate_python(name),
        prefix_template=PREFIXES.validate_python(prefix),
    )
    folders, archive = place_of(delivery, product, suffix=suffix, default=f"default{suffix}")
    return object_key(correlation_id, archive, prefix=folders)


def refusal(adapter: TypeAdapter[str], template: str) -> str:
    """Return why a template is refused."""
    with pytest.raises(ValidationError) as refused:
        adapter.validate_python(template)
    return refused.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("name", "prefix", "key"),
    [
        ("", "", "d-1/default.zip"),
        ("{productId}_v{version}", "", "d-1/P_v1.zip"),
        ("S2-{date}", "", "d-1/S2-2026-01-31.zip"),
        ("{correlationId}", "{user}/{date}", "someone@cnes.fr/2026-01-31/d-1/d-1.zip"),
        ("", "campaign 7/{productId}", "campaign 7/P/d-1/default.zip"),
        ("report.zip", "", "d-1/report.zip"),
        ("report.ZIP", "", "d-1/report.zip"),
        ("{date}{date}", "", "d-1/2026-01-312026-01-31.zip"),
    ],
)
def test_an_archive_is_where_its_templates_say(name: str, prefix: str, key: str) -> None:
    assert place(name, prefix) == key


def test_of_several_products_a_template_names_none() -> None:
    key = place("{productId}_v{version}_{date}", "{productId}", product=None)
    assert key == "several/d-1/several_vmixed_2026-01-31.zip"


def test_the_date_is_that_of_the_request_in_utc() -> None:
    there = AT.astimezone(timezone(timedelta(hours=9)))
    assert there.date() != AT.date()
    assert place("{date}", at=there) == place("{date}", at=AT)


def test_the_list_of_plain_files_keeps_its_name_and_has_the_folders() -> None:
    key = place("{productId}", "{date}", suffix=MANIFEST_NAME)
    assert key == f"2026-01-31/d-1/default{MANIFEST_NAME}"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{product}", "{product}, which stands for nothing; there are {correlationId}, "),
        ("{}", "{}, which stands for nothing"),
        ("{date", "a { or a }"),
        ("date}", "a { or a }"),
        ("{{date}}", "a { or a }"),
        ("a/b", "must have no /"),
        ("..", "no empty part, . or .."),
        (".hidden", '".hidden" would become "_hidden"'),
        ("a:b", '"a:b" would become "a_b"'),
        ("a\\b", "would become"),
        ("con", '"con" would become "_con"'),
        ("nul.{version}", "would become"),
        ("a ", "would become"),
        ("{user}.", "would become"),
        ("a\x00b", "would become"),
        ("a\nb", "would become"),
        ("\ud800", "unicode string"),
        ("a\u202eb", "would become"),
        ("x" * 256, "at most 255 characters"),
    ],
)
def test_a_name_that_no_archive_can_have_is_refused_in_words(template: str, why: str) -> None:
    assert why in refusal(NAMES, template)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("/a", "no empty part"),
        ("a/", "no empty part"),
        ("a//b", "no empty part"),
        ("a/../b", "no empty part"),
        ("./a", "no empty part"),
        ("a/.rs-delivery-root", "would become"),
        (".a.rs-delivery", "would become"),
        ("Manifest.json/{date}", "would become"),
        ("a/report.json", "would become"),
        ("a\\..\\b", "would become"),
        ("C:/a", "would become"),
        ("aux/b", "would become"),
        ("/".join("abcdefghi"), "more than 8 folders"),
        ("{nothing}/a", "stands for nothing"),
    ],
)
def test_folders_that_no_system_has_are_refused_in_words(template: str, why: str) -> None:
    assert why in refusal(PREFIXES, template)


def test_a_template_is_written_in_one_way() -> None:
    assert NAMES.validate_python("e\u0301") == "\u00e9"


hostile = st.text(max_size=300) | st.sampled_from(
    [
        *("../a", "/a", "", ".", "..", "nul", "con.x", "a/..", "ß", "\ud800", "manifest.json"),
        *("{date}", ".zip", "a.zip", "a. .zip", ".rs-delivery-root", "é" * 300, "x" * 300, " "),
    ]
)
literals = st.text(
    st.characters(codec="ascii", categories=["L", "Nd"], include_characters="-_ ."), max_size=40
)
pieces = st.lists(st.sampled_from([f"{{{name}}}" for name in PLACEHOLDERS]) | literals, max_size=6)
part = pieces.map("".join)
templates = st.lists(part, max_size=8).map("/".join)


def accepted(adapter: TypeAdapter[str], template: str) -> str:
    """Return a template, or none where it is refused."""
    try:
        return adapter.validate_python(template)
    except ValidationError:
        return ""


@given(
    name=part,
    prefix=templates,
    correlation_id=hostile.filter(bool),
    user=hostile,
    product=st.none() | st.tuples(hostile, st.integers(0, 2**31)),
    suffix=st.sampled_from([".zip", ".tar", ".tar.zst"]),
)
@example(
    name="{productId}", prefix="", correlation_id="d", user="", product=(".zip", 1), suffix=".zip"
)
@example(
    name="{productId}",
    prefix="",
    correlation_id="d",
    user="",
    product=("con.zip", 1),
    suffix=".zip",
)
@example(
    name="x",
    prefix="{user}/{productId}/{correlationId}/a/{date}/b/c/{user}",
    correlation_id="é" * 255,
    user="ü" * 128,
    product=("ß" * 300, 1),
    suffix=".zip",
)
def test_every_component_of_a_key_is_safe_and_all_of_it_has_room(
    name: str,
    prefix: str,
    correlation_id: str,
    user: str,
    product: tuple[str, int] | None,
    suffix: str,
) -> None:
    key = place(
        accepted(NAMES, name),
        accepted(PREFIXES, prefix),
        product=product,
        suffix=suffix,
        correlation_id=correlation_id,
        user=user,
    )
    *folders, _own, archive = key.split("/")
    for part in key.split("/"):
        assert safe_component(part, fallback="F") == part
    for part in (*folders, archive):
        assert not part.startswith(".")
        assert part.casefold() not in (MANIFEST_NAME, "report.json")
    assert archive.endswith(suffix)
    assert len(archive.encode()) <= MAX_NAME_BYTES
    assert len("/".join(folders).encode()) <= MAX_PREFIX_BYTES
    assert len(key.encode()) + len(".unfinished-") < 1024


clients = st.tuples(part, templates, st.sampled_from(["a", "b", "A/b", "a:b"]), st.text(max_size=4))


@given(clients, clients)
@example(("", "a", "b", "u"), ("", "", "a", "u"))
@example(("{correlationId}", "", "a", "u"), ("a", "b", "a", "u"))
def test_two_deliveries_have_one_key_only_where_their_ids_have_one_folder(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    """And among the active ones of a tenant no two have one id."""
    keys = [
        place(accepted(NAMES, name), accepted(PREFIXES, prefix), correlation_id=name_of, user=user)
        for name, prefix, name_of, user in (one, other)
    ]
    if keys[0].casefold() == keys[1].casefold():
        folders = {safe_component(each[2], fallback="_").casefold() for each in (one, other)}
        assert len(folders) == 1


@given(hostile, st.integers(0, 2**31))
def test_the_template_of_names_as_they_are_makes_them(product_id: str, version: int) -> None:
    """Of one product, `{productId}_v{version}` is what REGARDS calls an archive."""
    packed = Listing()
    packed.add([make_listed("a", file_id=1, product_id=product_id, version=version)])
    layout = Layout("c", packed, suffix=".zip")
    assert layout.product is not None
    named = make_delivery(archive_template="{productId}_v{version}")
    _, archive = place_of(named, layout.product, suffix=".zip", default="d.zip")
    regards = layout.archive_name
    if not regards.startswith(".") and len(regards.encode()) <= MAX_NAME_BYTES:
        assert archive == regards


def test_a_template_of_a_later_version_stays_as_far_as_it_is_not_known() -> None:
    delivery: Delivery = make_delivery(archive_template="{date}-{orbit}")
    _, archive = place_of(delivery, None, suffix=".zip", default="d.zip")
    assert archive == f"{delivery.requested_at:%Y-%m-%d}-{{orbit}}.zip"
