"""Products in a folder: each sub-folder is one; files at the root are one more."""

from __future__ import annotations

import hashlib
import mimetypes
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luqum.exceptions import ParseError
from luqum.thread import parse
from luqum.tree import (
    AndOperation,
    BaseOperation,
    FieldGroup,
    Group,
    Item,
    Not,
    OrOperation,
    Phrase,
    Prohibit,
    SearchField,
    UnknownOperation,
    Word,
)


class QueryError(ValueError):
    """The query can't be understood."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a product."""

    product_id: str
    path: Path
    data_type: str  # RAWDATA or QUICKLOOK

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    @property
    def mime_type(self) -> str:
        """Guessed from the name."""
        return mimetypes.guess_type(self.path.name)[0] or "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class Digests:
    """What a file is recognised by."""

    md5: str  # hex
    crc32: int


class Catalog:
    """The products of a folder, found again at each query."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[tuple[Path, int, int], Digests] = {}

    def products(self) -> dict[str, list[File]]:
        """Map product ids to their files."""
        products: dict[str, list[File]] = {}
        root = self._folder.name
        for path in sorted(self._folder.rglob("*")):
            if not path.is_file():
                continue
            parts = path.relative_to(self._folder).parts
            product = parts[0] if len(parts) > 1 else root
            name = path.name.lower()
            look = "quicklook" in name or "thumbnail" in name
            products.setdefault(product, []).append(
                File(product_id=product, path=path, data_type="QUICKLOOK" if look else "RAWDATA")
            )
        return products

    def digests(self, file: File) -> Digests:
        """Return the digests of a file, computed once for each of its versions."""
        stat = file.path.stat()
        key = file.path, stat.st_mtime_ns, stat.st_size
        if key not in self._digests:
            md5, crc32 = hashlib.md5(usedforsecurity=False), 0
            with file.path.open("rb") as stream:
                while chunk := stream.read(1024 * 1024):
                    md5.update(chunk)
                    crc32 = zlib.crc32(chunk, crc32)
            self._digests[key] = Digests(md5=md5.hexdigest(), crc32=crc32)
        return self._digests[key]

    def search(self, queries: list[str], filters: dict[str, Any] | None) -> list[File]:
        """Return the files of all products that one of the queries matches, then filtered."""
        trees = [_parse(query) for query in queries]
        types = set((filters or {}).get("dataTypes") or ("RAWDATA", "QUICKLOOK"))
        pattern = re.compile((filters or {}).get("filenameRegExp") or ".*")
        return [
            file
            for product, files in self.products().items()
            if any(_matches(tree, product) for tree in trees)
            for file in files
            if file.data_type in types and pattern.fullmatch(file.path.name)
        ]


def _parse(query: str) -> Item:
    try:
        return parse(query)  # orders are taken side by side; `parser.parse` mixes their queries up
    except ParseError as error:
        raise QueryError(f"can't understand the query {query!r}: {error}") from None


_FIELDS = ("providerId", "productId", "id", "ipId")


def _matches(tree: Item, product: str) -> bool:  # noqa: PLR0911 - a case for each kind
    """Evaluate a Lucene query on a product, of which only the id is known here."""
    match tree:
        case AndOperation():
            return all(_matches(child, product) for child in tree.children)
        case OrOperation() | UnknownOperation():
            return any(_matches(child, product) for child in tree.children)
        case BaseOperation() | Group() | FieldGroup():
            return all(_matches(child, product) for child in tree.children)
        case Not() | Prohibit():
            return not _matches(tree.a, product)
        case SearchField():
            return tree.name == "*" or (tree.name in _FIELDS and _matches(tree.expr, product))
        case Phrase():
            return bool(tree.value.strip('"') == product)
        case Word():
            # Escapes as Lucene has them; * and ? are its wildcards.
            plain = re.sub(r"\\(.)", lambda match: f"\x00{ord(match[1]):06x}", tree.value)
            pattern = re.escape(plain).replace(r"\*", ".*").replace(r"\?", ".")
            pattern = re.sub(
                r"\\?\x00([0-9a-f]{6})", lambda f: re.escape(chr(int(f[1], 16))), pattern
            )
            return re.fullmatch(pattern, product) is not None
        case _:
            raise QueryError(f"can't evaluate {tree}")
