"""Names in an archive and on the target: safe on every system, never the same twice.

File and product names come from outside. A reader must be able to unpack an archive on Linux,
Windows or macOS without writing anywhere but below the folder it unpacks into.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

from app.delivery.manifest import ListedFile, ManifestFile

# Longest name that every common file system takes, in UTF-8 bytes.
MAX_BYTES = 255
MAX_MEMBER_BYTES = MAX_BYTES + 1 + MAX_BYTES  # of a member's name: folder/file
_MAX_SUFFIX = 32

_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\ufeff]')
# What is left as it is, as most names are.
_PLAIN = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9_.+=@-]{0,253}[A-Za-z0-9_+=@-])?")
_VERSION = re.compile(r";(?=[0-9]*$)")  # of a file on VMS: some programs leave it out
_WINDOWS_DEVICE = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)


def safe_name(raw: str, *, fallback: str) -> str:
    """Return `raw` as a single path component that every system accepts.

    Folders in front are dropped; characters that some system refuses become `_`; a name that
    nothing is left of becomes `fallback`.
    """
    if _PLAIN.fullmatch(raw) and not _WINDOWS_DEVICE.match(raw):
        return raw
    text = unicodedata.normalize("NFC", raw.encode("utf-8", "replace").decode("utf-8"))
    text = re.split(r"[/\\]", text)[-1]
    text = _FORBIDDEN.sub("_", text).strip(" ").rstrip(". ")
    if not text.strip("."):
        return fallback
    if _WINDOWS_DEVICE.match(text):
        text = f"_{text}"
    return _VERSION.sub("_", shorten(text, ""))


def safe_component(raw: str, *, fallback: str) -> str:
    """Like `safe_name`, for an identifier: a separator in it is a character, not a folder."""
    return safe_name(raw.replace("/", "_").replace("\\", "_"), fallback=fallback)


def _split(name: str) -> tuple[str, str]:
    """Split into stem and extension; a long "extension" is part of the name."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > _MAX_SUFFIX:
        return name, ""
    return stem, dot + extension


def shorten(name: str, mark: str) -> str:
    """Put `mark` before the extension, and truncate the stem so that all of it fits."""
    stem, extension = _split(name)
    return _fitted(stem, mark + extension)


def _fitted(stem: str, end: str, *, room: int = MAX_BYTES) -> str:
    """Put both together, with as much of the stem as fits into `room` bytes."""
    return stem.encode()[: room - len(end.encode())].decode("utf-8", "ignore") + end


class _Taken:
    """Hands out member names; two that differ in case only count as the same.

    Of a name eight bytes are kept: should two names ever meet in them, one gets a number that it
    did not need.
    """

    def __init__(self) -> None:
        self._names: set[int] = set()
        self._last: dict[int, int] = {}  # number given last, of names that met another

    def claim(self, folder: str, name: str) -> str:
        candidate = folder + name
        key = digest = _digest(candidate.casefold())
        if digest in self._names:
            number = self._last.get(key, 1)
            while digest in self._names:
                number += 1
                candidate = folder + shorten(name, f" ({number})")
                digest = _digest(candidate.casefold())
            self._last[key] = number
        self._names.add(digest)
        return candidate


def _digest(text: str) -> int:
    raw = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "big")


@lru_cache(maxsize=1024)
def _product_folder(product_id: str, version: int, suffix: str) -> str:
    # The version is ours to add, so the identifier is truncated where both would not fit, together
    # with the suffix of an archive that is called by it.
    product = safe_component(product_id, fallback="product")
    return _fitted(product, f"_v{version}", room=MAX_BYTES - len(suffix))


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
            self.archive_name = _fitted(f"delivery-{name}", suffix)

    def _claim_folders(self) -> list[str]:
        """Give each product a folder; return the first two."""
        folders = _Taken()
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
        taken = _Taken()
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
    return _digest(f"{file.version} {file.product_id}")


def object_key(correlation_id: str, archive_name: str) -> str:
    """Return the key of an archive in its container: `<correlationId>/<archive name>`.

    The correlation id becomes one path component. Where that changes it, distinct ids could meet
    in one key; the archive itself would still be the right one of whichever delivery of
    that user finished last; another user's is never replaced.
    """
    return f"{safe_component(correlation_id, fallback='_')}/{archive_name}"
