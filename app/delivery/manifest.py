"""The files of an archive: as rs-order lists them, and as they are laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Self

from app.delivery.naming import (
    MAX_BYTES,
    TakenNames,
    digest_of,
    fitted,
    safe_component,
    safe_name,
)
from app.errors import as_cause

MANIFEST_NAME = "manifest.json"  # of the list beside files that are delivered as they are
REPORT_NAME = "report.json"  # of what is told of a delivery that failed
_IDS = (1 << 63) - 1  # what a column of PostgreSQL holds


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """A file as rs-order lists it."""

    file_id: int  # rs-order's: by this it is downloaded
    product_id: str  # of the product that the file belongs to
    version: int  # of the product
    filename: str  # any: it is no safe name yet
    size: int | None  # bytes, where the listing tells
    md5: str | None  # hex, lower case, where the listing tells
    crc32: int | None = None  # where it is told: by rs-order from 2.4 on, in lists of all files
    listed: int | None = None  # how many files the listing has, where its pages tell
    media_type: str | None = None  # where the listing tells one, as type/subtype


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestFile:
    """A file of a delivery, with its place and name in the archive."""

    position: int  # from 0; the order of the members
    file_id: int  # rs-order's: by this it is downloaded
    member: str  # name in the archive, folders included; safe, and no other member's
    size: int | None  # bytes, where the listing tells
    md5: str | None  # hex, lower case, where the listing tells
    crc32: int | None = None  # where the listing tells, or what was told of the order before
    product_id: str | None = None  # rs-order's; None: planned by a version that did not keep it
    product_version: int | None = None
    media_type: str | None = None  # as rs-order tells it; None: its name tells


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """What bounds of an archive rest on, beside number and total of its files."""

    sizes_known: bool = False  # of each file
    name_bytes: int = 0  # of all members' names, in UTF-8

    @classmethod
    def of(cls, files: Sequence[ManifestFile]) -> Self:
        """Measure all files of a manifest."""
        return cls(
            sizes_known=all(file.size is not None for file in files),
            name_bytes=sum(len(file.member.encode()) for file in files),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What goes into one archive, as a whole; its files are many, and kept apart."""

    archive_name: str  # with its format's suffix
    prefix: str = ""  # what comes before the folder of its correlation id, without a / at its ends
    file_count: int
    total_bytes: int  # sum of the known sizes


@lru_cache(maxsize=1024)
def _product_folder(product_id: str, version: int, suffix: str) -> str:
    # The version is ours to add, so the identifier is truncated where both would not fit, together
    # with the suffix of an archive that is called by it.
    product = safe_component(product_id, fallback="product")
    return fitted(product, f"_v{version}", room=MAX_BYTES - len(suffix))


class Seam(Enum):
    """What stands between the files of an archive that is made as they become available."""

    SEGMENT = auto()  # a segment ends: so do the blocks that its files are archived in
    WAIT = auto()  # there may be more soon: asked again once all before is archived
    PAUSE = auto()  # the last item: the archive goes on in another attempt


def ids_of(files: Iterable[ManifestFile], others: int = 0) -> int:
    """Return a number that tells a set of files from another one; `others` have theirs."""
    return sum((digest_of(str(file.file_id)) for file in files), others) & _IDS


class Layout:
    """The archive of an order laid out (contract, section 3): its name, then its members.

    `suffix` is that of the archive's format, as `.tar`: ASCII, at the end of its name; or the whole
    name of the manifest, where files are delivered as they are, beside it.
    `files` is read twice, once here and once as the members are, in the order of the ids: so a
    listing read twice gives the same archive. A million files take some 100 MB at most, whatever
    their names, and half a minute: outside the event loop, please.
    """

    def __init__(self, correlation_id: str, files: Iterable[ListedFile], *, suffix: str) -> None:
        self._files = files
        self._folders = _Folders(suffix)
        first: list[str] = []
        product: tuple[str, int] | None = None
        for file in files:
            folder = self._folders.add(file)
            if folder is not None and len(first) < 2:
                first.append(folder)
                product = product or (file.product_id, file.version)
        self.single = len(first) == 1  # all files are of one product: at the root
        self.product = product if self.single else None  # that one, and its version
        self._suffix = suffix
        if suffix == MANIFEST_NAME:
            self.archive_name = MANIFEST_NAME
        elif self.single:
            self.archive_name = first[0] + suffix
        else:
            self.archive_name = archive_of_many(correlation_id, suffix)

    @property
    def renamed(self) -> Mapping[int, str]:
        """Folders of products whose own name was taken, by the product's digest."""
        return self._folders.renamed

    def __iter__(self) -> Iterator[ManifestFile]:
        folder_of = _root if self.single else self._folders.of
        yield from _members(self._files, 0, folder_of, _beside(self._suffix))


class Addition:
    """A further segment laid out, behind the members that an archive has already.

    `renamed` are the folders that got another name, so far and now.
    """

    def __init__(self, *, suffix: str, folders: bool, renamed: Mapping[int, str]) -> None:
        self._taken = _beside(suffix)
        self._in_folders = folders
        self._folders = _Folders(suffix, renamed)
        self._known: set[int] = set()

    @property
    def renamed(self) -> Mapping[int, str]:
        """Folders of products whose own name was taken, by the product's digest."""
        return self._folders.renamed

    def behind(self, file: ManifestFile) -> None:
        """Note a file that is in the archive."""
        self._known.add(file.file_id)
        self._taken.take(file.member)
        if self._in_folders:
            self._folders.take(file.member.partition("/")[0])

    def adds(self, files: Iterable[ListedFile]) -> bool:
        """Whether some of the files are not in the archive yet."""
        return any(file.file_id not in self._known for file in files)

    def of(self, files: Iterable[ListedFile]) -> Iterator[ManifestFile]:
        """Lay out those of the files that are not in the archive yet, in their order."""
        more = (file for file in files if file.file_id not in self._known)
        folder_of = self._folders.added if self._in_folders else _root
        yield from _members(more, len(self._known), folder_of, self._taken)


def told_url(url: str, archive_name: str | None) -> str:
    """Return where a client finds what an object tells of: beside a manifest, all files."""
    return url.removesuffix(MANIFEST_NAME) if archive_name == MANIFEST_NAME else url


def archive_of_many(correlation_id: str, suffix: str) -> str:
    """Return the name of an archive of several products."""
    if suffix == MANIFEST_NAME:
        return suffix
    name = safe_component(correlation_id, fallback="_")
    return fitted(f"delivery-{name}", suffix)


class _Folders:
    """The folders of products: no two have one that differs in case only."""

    def __init__(self, suffix: str, renamed: Mapping[int, str] | None = None) -> None:
        self._suffix = suffix
        self._taken = TakenNames()
        self._own: set[str] = set()  # that members have already
        self._seen: set[int] = set()
        self.renamed = dict(renamed or {})

    def take(self, folder: str) -> None:
        """Note a folder that members have."""
        if folder not in self._own:
            self._own.add(folder)
            self._taken.take(folder)

    def add(self, file: ListedFile) -> str | None:
        """Give the product of a file its folder; None where it has one."""
        product = _product(file)
        if product in self._seen:
            return None
        self._seen.add(product)
        wanted = _product_folder(file.product_id, file.version, self._suffix)
        if product in self.renamed or wanted in self._own:
            return None
        folder = self._taken.claim("", wanted)
        if folder != wanted:
            self.renamed[product] = folder
        return folder

    def of(self, file: ListedFile) -> str:
        """Return the folder of a file's product, with a slash."""
        renamed = self.renamed.get(_product(file)) if self.renamed else None
        return (renamed or _product_folder(file.product_id, file.version, self._suffix)) + "/"

    def added(self, file: ListedFile) -> str:
        """Return the folder of a file's product, which may be a new one."""
        self.add(file)
        return self.of(file)


def _beside(suffix: str) -> TakenNames:
    """Return the names that members may not have: they are not all in one archive."""
    taken = TakenNames()
    if suffix == MANIFEST_NAME:
        taken.take(MANIFEST_NAME)
        taken.take(REPORT_NAME)
    return taken


def _root(_file: ListedFile) -> str:
    return ""


def _members(
    files: Iterable[ListedFile],
    first: int,
    folder_of: Callable[[ListedFile], str],
    taken: TakenNames,
) -> Iterator[ManifestFile]:
    for position, file in enumerate(files, start=first):
        name = safe_name(file.filename, fallback=f"file-{file.file_id}")
        yield ManifestFile(
            position=position,
            file_id=file.file_id,
            member=taken.claim(folder_of(file), name),
            size=file.size,
            md5=file.md5,
            crc32=file.crc32,
            product_id=as_cause(file.product_id),
            product_version=file.version,
            media_type=file.media_type,
        )


def _product(file: ListedFile) -> int:
    return digest_of(f"{file.version} {file.product_id}")
