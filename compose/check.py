"""Downloads an archive and compares it, byte for byte, with the files it was made of."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from compose.embedded.s3 import client
from compose.rs_order.catalog import Catalog


class CheckError(Exception):
    """The archive is not what it should be."""


def _store(environment: Mapping[str, str]) -> Any:
    names = ("ENDPOINT", "KEY", "SECRET", "REGION")
    return client(*(environment[f"DELIVERY_S3_{name}"] for name in names))


async def download(url: str, environment: Mapping[str, str], to: Path) -> str:
    """Download `s3://bucket/key` into a file; return its MD5."""
    parts = urlsplit(url)
    digest = hashlib.md5(usedforsecurity=False)
    async with _store(environment) as s3:
        answer = await s3.get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))
        with to.open("wb") as file:
            async for chunk in answer["Body"].iter_chunks(1024 * 1024):
                digest.update(chunk)
                file.write(chunk)
    return digest.hexdigest()


async def open_uploads(environment: Mapping[str, str]) -> int:
    """Count the multipart uploads that are open in the bucket."""
    async with _store(environment) as s3:
        answer = await s3.list_multipart_uploads(Bucket=environment["DELIVERY_DELIVERY_BUCKET"])
    return len(answer.get("Uploads", []))


def expected_members(products: Path) -> dict[str, Path]:
    """Map the member names of a delivery of everything to the source files."""
    found = Catalog(products.resolve()).products()
    members: dict[str, Path] = {}
    for product, files in found.items():
        folder = "" if len(found) == 1 else f"{product}_v1/"
        for file in files:
            members[folder + file.path.name] = file.path
    return members


def _md5(stream: IO[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := stream.read(1024 * 1024):
        digest.update(chunk)
    return digest.hexdigest()


def compare(archive: Path, products: Path) -> int:
    """Compare every member with its source file; return how many there are. Raises CheckError."""
    expected = expected_members(products)
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        if sorted(names) != sorted(expected):
            different = sorted(set(names) ^ set(expected))[:5]
            raise CheckError(
                f"the archive has {len(names)} members, expected were "
                f"{len(expected)}; different: {different}"
            )
        for name in names:
            if name.startswith("/"):
                raise CheckError(f"the member {name} has an absolute name")
            with opened.open(name) as member, expected[name].open("rb") as source:
                if _md5(member) != _md5(source):
                    raise CheckError(f"the member {name} differs from {expected[name]}")
    return len(names)


def compare_manifest(manifest: Path, archive: Path) -> int:
    """Compare what a manifest tells with the archive; return of how many files it tells.

    Raises CheckError.
    """
    document = json.loads(manifest.read_bytes())
    with archive.open("rb") as whole:
        md5 = _md5(whole)
    if (document["archive"]["md5"], document["archive"]["size"]) != (md5, archive.stat().st_size):
        raise CheckError(f"the manifest tells of another archive: {document['archive']}")
    told = {
        file["path"]: (file["size"], file["md5"], int(file["crc32"], 16))
        for file in document["files"]
    }
    with zipfile.ZipFile(archive) as opened:
        found = {}
        for member in opened.infolist():
            with opened.open(member) as content:
                found[member.filename] = member.file_size, _md5(content), member.CRC
    if told != found:
        different = sorted(name for name, _ in told.items() ^ found.items())[:5]
        raise CheckError(f"the manifest tells of other files than the archive has: {different}")
    return len(told)
