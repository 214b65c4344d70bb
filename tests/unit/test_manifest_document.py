"""`manifest.json`, line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

from app import __version__
from app.delivery import manifest_document
from app.delivery.manifest_document import BETWEEN, Contents
from app.delivery.missing import MissingFile
from app.delivery.naming import MAX_MEMBER_BYTES
from app.delivery.object_store import StoredObject
from tests.builders import make_file

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/manifest.json").read_text())
ARCHIVE = StoredObject(
    url="s3://b/p/c/P_v1.zip", md5="0" * 32, size=9, etag="e-1", sha256="1" * 64, files=2
)


def read(document: bytes) -> Any:
    """Return what a document tells, once it is as the schema has it."""
    told = json.loads(document)
    jsonschema.validate(told, SCHEMA, cls=jsonschema.Draft202012Validator)
    return told


def test_beside_an_archive_it_tells_of_that_and_of_each_file() -> None:
    contents = Contents(size=3, md5="2" * 32, sha256="3" * 64, crc32=0xABC)
    file = make_file("P_v1/ä.tif", product_id="P", product_version=1)
    unknown = make_file("P_v1/b", position=1, size=None, md5=None)
    document = b"".join(
        [
            manifest_document.begin("c", ARCHIVE, key="p/c/P_v1.zip"),
            manifest_document.line(file, contents),
            BETWEEN,
            manifest_document.line(unknown, Contents(size=None, md5=None)),
            *manifest_document.end(),
        ]
    )
    assert read(document) == {
        "version": __version__,
        "correlationId": "c",
        "archive": {
            "key": "p/c/P_v1.zip",
            "size": 9,
            "md5": "0" * 32,
            "sha256": "1" * 64,
            "etag": "e-1",
        },
        "files": [
            {
                "path": "P_v1/ä.tif",
                "product": "P",
                "version": 1,
                "size": 3,
                "md5": "2" * 32,
                "sha256": "3" * 64,
                "crc32": "00000abc",
                "mediaType": "image/tiff",
            },
            {"path": "P_v1/b", "mediaType": "application/octet-stream"},
        ],
    }


def test_what_is_missing_is_behind_the_files_with_its_cause() -> None:
    missing = [
        MissingFile(
            file_id=7,
            member="P_v1/a",
            size=3,
            product_id="P",
            product_version=1,
            cause="rs-order had it no more",
            position=0,
        ),
        MissingFile.unnamed(2, "rs-order does not tell which"),
    ]
    document = manifest_document.begin("c") + b"".join(manifest_document.end(missing))
    assert read(document)["files"] == []
    assert read(document)["missing"] == [
        {
            "path": "P_v1/a",
            "product": "P",
            "version": 1,
            "size": 3,
            "fileId": 7,
            "cause": "rs-order had it no more",
        },
        {"files": 2, "cause": "rs-order does not tell which"},
    ]


def test_no_line_is_longer_than_it_is_reckoned_with() -> None:
    name = '"' * MAX_MEMBER_BYTES  # each is two bytes in JSON
    longest = make_file(name, product_id='"' * 200, product_version=2**31 - 1)
    contents = Contents(size=2**63 - 1, md5="2" * 32, sha256="3" * 64, crc32=0xFFFFFFFF)
    assert len(manifest_document.line(longest, contents)) <= manifest_document.MAX_LINE


def test_its_beginning_is_no_longer_than_it_is_reckoned_with() -> None:
    begun = manifest_document.begin('"' * 255, ARCHIVE, key='"' * 1024)
    assert len(begun) <= manifest_document.MAX_BEGIN
