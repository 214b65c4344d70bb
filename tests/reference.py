"""An archive laid out in the plainest way: all of a listing at once, every name kept."""

from __future__ import annotations

from collections.abc import Iterable

from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.naming import MAX_BYTES, safe_component, safe_name, shorten
from app.errors import as_cause


class _Taken:
    def __init__(self) -> None:
        self._names: set[str] = set()
        self._last: dict[str, int] = {}

    def claim(self, folder: str, name: str) -> str:
        key = (folder + name).casefold()
        candidate = folder + name
        number = self._last.get(key, 1)
        while candidate.casefold() in self._names:
            number += 1
            candidate = folder + shorten(name, f" ({number})")
        self._last[key] = number
        self._names.add(candidate.casefold())
        return candidate


def _product_folder(file: ListedFile, suffix: str) -> str:
    product = safe_component(file.product_id, fallback="product")
    version = f"_v{file.version}"
    room = MAX_BYTES - len(version) - len(suffix)
    return product.encode()[:room].decode("utf-8", "ignore") + version


def lay_out(
    correlation_id: str, listing: Iterable[ListedFile], *, suffix: str = ".zip"
) -> tuple[str, list[ManifestFile]]:
    """Return the archive's name and its members."""
    files = sorted({file.file_id: file for file in listing}.values(), key=lambda f: f.file_id)
    products: dict[tuple[str, int], str] = {}
    folders = _Taken()
    for file in files:
        product = (file.product_id, file.version)
        if product not in products:
            products[product] = folders.claim("", _product_folder(file, suffix))
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
                crc32=file.crc32,
                product_id=as_cause(file.product_id),
                product_version=file.version,
                media_type=file.media_type,
            )
        )
    if single:
        archive = next(iter(products.values())) + suffix
    else:
        stem = f"delivery-{safe_component(correlation_id, fallback='_')}"
        archive = stem.encode()[: MAX_BYTES - len(suffix)].decode("utf-8", "ignore") + suffix
    return archive, members
