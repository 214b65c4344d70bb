"""The files of an archive: as rs-order lists them, and as they are laid out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """A file as rs-order lists it."""

    file_id: int
    product_id: str
    version: int
    filename: str
    size: int | None  # bytes, where the listing tells
    md5: str | None  # hex, lower case, where the listing tells
    listed: int | None = None  # how many files the listing has, where its pages tell


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestFile:
    """A file of a delivery, with its place and name in the archive."""

    position: int  # from 0; the order of the members
    file_id: int
    member: str
    size: int | None
    md5: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What goes into one archive, as a whole; its files are many, and kept apart."""

    archive_name: str
    file_count: int
    total_bytes: int  # sum of the known sizes
