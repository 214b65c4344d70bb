"""What rs-order answers, read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streams.regards.answers import read_listed


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("image/tiff", "image/tiff"),
        ("Application/NetCDF", "application/netcdf"),
        ("application/vnd.ogc.gml+xml", "application/vnd.ogc.gml+xml"),
        ("a" * 127 + "/" + "b" * 127, "a" * 127 + "/" + "b" * 127),
        (None, None),
        ("", None),
        ("tiff", None),
        ("image/", None),
        ("/tiff", None),
        ("image/tiff/x", None),
        ("text/plain; charset=utf-8", None),
        ("image/tiff\r\nX-Other: 1", None),
        ("image/tiff\n", None),
        ("imagé/tiff", None),
        ("*/*", None),
        ("a/" + "b" * 128, None),
        (7, None),
    ],
)
def test_a_media_type_is_kept_where_it_is_well_formed(told: object, kept: str | None) -> None:
    page = {"content": [{"id": 1, "mimeType": told}]}
    (file,) = read_listed(json.dumps(page).encode(), 0).entries
    assert file.media_type == kept


def listed(**fields: Any) -> bytes:
    """Return a page with one file."""
    content = {"id": 12, "productId": "P", "version": 1, "filename": "a.tif", **fields}
    return json.dumps({"content": [{"content": content}], "links": []}).encode()


@pytest.mark.parametrize("name", ["filesize", "fileSize"])
@pytest.mark.parametrize(("told", "size"), [(0, 0), (5, 5), (None, None), (-1, None)])
def test_a_size_that_no_file_can_have_is_not_known(
    name: str, told: int | None, size: int | None
) -> None:
    """A tar would have it in a header, and every attempt would call the file a wrong one."""
    (file,) = read_listed(listed(**{name: told}), 0).entries
    assert file.size == size
