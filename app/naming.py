"""Names in an archive and on the target: safe on every system, never the same twice.

File and product names come from outside. A reader must be able to unpack an archive on Linux,
Windows or macOS without writing anywhere but below the folder it unpacks into.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from app.model import ListedFile, Manifest, ManifestFile

# Longest name that every common file system takes, in UTF-8 bytes.
_MAX_BYTES = 255
_MAX_SUFFIX = 32

_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\ufeff]')
_WINDOWS_DEVICE = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)


def safe_name(raw: str, *, fallback: str) -> str:
    """Return `raw` as a single path component that every system accepts.

    Folders in front are dropped; characters that some system refuses become `_`; a name that
    nothing is left of becomes `fallback`.
    """
    text = unicodedata.normalize("NFC", raw.encode("utf-8", "replace").decode("utf-8"))
    text = re.split(r"[/\\]", text)[-1]
    text = _FORBIDDEN.sub("_", text).strip(" ").rstrip(". ")
    if not text.strip("."):
        return fallback
    if _WINDOWS_DEVICE.match(text):
        text = f"_{text}"
    return _shorten(text, "")


def safe_component(raw: str, *, fallback: str) -> str:
    """Like `safe_name`, for an identifier: a separator in it is a character, not a folder."""
    return safe_name(raw.replace("/", "_").replace("\\", "_"), fallback=fallback)


def _split(name: str) -> tuple[str, str]:
    """Split into stem and extension; a long "extension" is part of the name."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > _MAX_SUFFIX:
        return name, ""
    return stem, dot + extension


def _shorten(name: str, mark: str) -> str:
    """Put `mark` before the extension, and cut the stem so that all of it fits."""
    stem, extension = _split(name)
    room = _MAX_BYTES - len((mark + extension).encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + mark + extension


class _Taken:
    """Hands out member names; two that differ in case only count as the same."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._last: dict[str, int] = {}

    def claim(self, folder: str, name: str) -> str:
        key = (folder + name).casefold()
        candidate = folder + name
        number = self._last.get(key, 1)
        while candidate.casefold() in self._names:
            number += 1
            candidate = folder + _shorten(name, f" ({number})")
        self._last[key] = number
        self._names.add(candidate.casefold())
        return candidate


def _product_folder(file: ListedFile) -> str:
    # The version is ours to add, so the identifier is cut where both would not fit.
    product = safe_component(file.product_id, fallback="product")
    version = f"_v{file.version}"
    return product.encode()[: _MAX_BYTES - len(version) - 4].decode("utf-8", "ignore") + version


def build_manifest(correlation_id: str, listing: Iterable[ListedFile]) -> Manifest:
    """Lay out the archive of an order (contract, section 3).

    Files are taken in the order of their ids, so that a listing read twice gives the same
    archive; an id that is listed twice (the listing moved between pages) counts once.
    """
    files = sorted({file.file_id: file for file in listing}.values(), key=lambda f: f.file_id)
    products: dict[tuple[str, int], str] = {}
    folders = _Taken()
    for file in files:
        product = (file.product_id, file.version)
        if product not in products:
            products[product] = folders.claim("", _product_folder(file))
    single = len(products) == 1
    taken = _Taken()
    members = []
    for position, file in enumerate(files):
        folder = "" if single else products[file.product_id, file.version] + "/"
        name = safe_name(file.filename, fallback=f"file-{file.file_id}")
        members.append(
            ManifestFile(
                position=position,
                file_id=file.file_id,
                member=taken.claim(folder, name),
                size=file.size,
                md5=file.md5,
            )
        )
    if single:
        archive = next(iter(products.values())) + ".zip"
    else:
        archive = _shorten(f"delivery-{safe_component(correlation_id, fallback='_')}.zip", "")
    return Manifest(archive_name=archive, files=members)


def object_key(correlation_id: str, archive_name: str) -> str:
    """Return the key of an archive in its bucket: `<correlationId>/<archive name>`.

    The correlation id becomes one path component. Where that changes it, distinct ids could meet
    in one key; the archive itself would still be the right one of whoever finished last.
    """
    return f"{safe_component(correlation_id, fallback='_')}/{archive_name}"
