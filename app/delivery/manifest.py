"""The files of an archive: as rs-order lists them, and as they are laid out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from app.delivery.naming import (
    MAX_BYTES,
    TakenNames,
    digest_of,
    fitted,
    safe_component,
    safe_name,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """A file as rs-order lists it."""

    file_id: int  # rs-order's: by this it is downloaded
    product_id: str  # of the product that the file belongs to
    version: int  # of the product
    filename: str  # any: it is no safe name yet
    size: int | None  # bytes, where the listing tells
    md5: str | None  # hex, lower case, where the listing tells
    listed: int | None = None  # how many files the listing has, where its pages tell


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestFile:
    """A file of a delivery, with its place and name in the archive."""

    position: int  # from 0; the order of the members
    file_id: int  # rs-order's: by this it is downloaded
    member: str  # name in the archive, folders included; safe, and no other member's
    size: int | None  # bytes, where the listing tells
    md5: str | None  # hex, lower case, where the listing tells


class Seam(Enum):
    """What is between two files, where an archive is made while its files are still to come."""

    SEGMENT = auto()  # a segment of the archive ends; another one follows
    PAUSE = auto()  # the last item: all before it is archived, the rest when there is more


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """What bounds of an archive rest on, beside number and total of its files."""

    sizes_known: bool  # of each file
    name_bytes: int  # of all members' names, in UTF-8


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What goes into one archive, as a whole; its files are many, and kept apart."""

    archive_name: str  # with its format's suffix
    file_count: int
    total_bytes: int  # sum of the known sizes


@lru_cache(maxsize=1024)
def _product_folder(product_id: str, version: int, suffix: str) -> str:
    # The version is ours to add, so the identifier is truncated where both would not fit, together
    # with the suffix of an archive that is called by it.
    product = safe_component(product_id, fallback="product")
    return fitted(product, f"_v{version}", room=MAX_BYTES - len(suffix))


class Layout:
    """The archive of an order laid out (contract, section 3): its name, then its members.

    `suffix` is that of the archive's format, as `.tar`: ASCII, at the end of its name.
    `files` is read twice, once here and once as the members are, in the order of the ids: so a
    listing read twice gives the same archive. A million files take some 100 MB at most, whatever
    their names, and half a minute: outside the event loop, please.
    """

    def __init__(self, correlation_id: str, files: Iterable[ListedFile], *, suffix: str) -> None:
        self._files = files
        self._suffix = suffix
        self._renamed: dict[int, str] = {}  # folders of products whose own name was taken
        products = self._claim_folders()
        self._single = len(products) == 1
        if self._single:
            self.archive_name = products[0] + suffix
        else:
            name = safe_component(correlation_id, fallback="_")
            self.archive_name = fitted(f"delivery-{name}", suffix)

    def _claim_folders(self) -> list[str]:
        """Give each product a folder; return the first two."""
        folders = TakenNames()
        seen: set[int] = set()
        first: list[str] = []
        for file in self._files:
            product = _product(file)
            if product in seen:
                continue
            seen.add(product)
            wanted = _product_folder(file.product_id, file.version, self._suffix)
            folder = folders.claim("", wanted)
            if folder != wanted:
                self._renamed[product] = folder
            if len(first) < 2:
                first.append(folder)
        return first

    def __iter__(self) -> Iterator[ManifestFile]:
        taken = TakenNames()
        for position, file in enumerate(self._files):
            name = safe_name(file.filename, fallback=f"file-{file.file_id}")
            yield ManifestFile(
                position=position,
                file_id=file.file_id,
                member=taken.claim("" if self._single else self._folder(file) + "/", name),
                size=file.size,
                md5=file.md5,
            )

    def _folder(self, file: ListedFile) -> str:
        renamed = self._renamed.get(_product(file)) if self._renamed else None
        return renamed or _product_folder(file.product_id, file.version, self._suffix)


def _product(file: ListedFile) -> int:
    return digest_of(f"{file.version} {file.product_id}")
