"""tar: POSIX' ustar and pax, and GNU's long names."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from rs_delivery_client.archives.member import Member
from rs_delivery_client.archives.window import Passed, Window
from rs_delivery_client.flaws import Flaw, Kind, Tell
from rs_delivery_client.ledger import Ledger

_RECORD = 512
_ZEROS = bytes(_RECORD)
_BLOCK = 256 * 1024  # bytes
_MAX_EXTENDED = 1024 * 1024  # bytes of an extended header: names have some thousands at most
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_EXTENDED = (b"x", b"X", b"g", b"L", b"K")
_LINKS = {tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link"}


class TarReader:
    """See `Reader`."""

    def __init__(self, window: Window, ledger: Ledger, tell: Tell, passed: Passed) -> None:
        self._window = window
        self._ledger = ledger
        self._tell = tell
        self._passed = passed
        self._globals: dict[str, str] = {}

    def __iter__(self) -> Iterator[Member]:
        """Yield the members."""
        extended: dict[str, str] = {}
        while (header := self._header()) is not None:
            if header.type not in _EXTENDED:
                yield from self._member(header, self._globals | extended)
                extended = {}
                continue
            body = self._extended(header)
            if header.type == b"g":
                self._globals |= body
            else:
                extended |= body

    def _header(self) -> tarfile.TarInfo | None:
        """Return the next header; None at the end."""
        offset = self._window.offset
        record = self._window.take(_RECORD)
        if record == _ZEROS:
            self._end()
            return None
        if len(record) < _RECORD:
            self._tell(Flaw(kind=Kind.TRUNCATED, says=f"the archive ends at byte {offset:,}"))
            return None
        header = _read(record)
        if header is None:
            self._damaged(offset, "there is no header of a member")
            return self._found_again()
        return header

    def _end(self) -> None:
        offset = self._window.offset
        second = self._window.take(_RECORD)
        if second != _ZEROS:
            kind = Kind.TRUNCATED if len(second) < _RECORD else Kind.DAMAGED
            self._tell(Flaw(kind=kind, says=f"the mark of the end is half, at byte {offset:,}"))
        behind = 0  # zeros fill the last record up
        while data := self._window.some(_BLOCK):
            self._passed(len(data))
            behind += len(data) if behind or data.count(0) != len(data) else 0
        if behind:
            self._tell(Flaw(kind=Kind.TRAILING, says="bytes follow the archive's end"))

    def _found_again(self) -> tarfile.TarInfo | None:
        """Return the next header that is one, of a file that was not found yet.

        Zeros are no end here: what was lost may be full of them.
        """
        while len(record := self._window.take(_RECORD)) == _RECORD:
            self._passed(len(record))
            header = _read(record) if record[257:262] == b"ustar" else None
            if header is not None and (
                header.type in _EXTENDED or self._ledger.awaits(header.name)
            ):
                return header
        return None

    def _extended(self, header: tarfile.TarInfo) -> dict[str, str]:
        """Return what an extended header tells of the member behind it."""
        offset = self._window.offset
        if header.size > _MAX_EXTENDED:
            self._damaged(offset, f"a header of {header.size:,} bytes")
            return {}
        body = self._window.take(header.size)
        self._padding(header.size)
        if header.type in (b"L", b"K"):
            name = body.rstrip(b"\0").decode("utf-8", "surrogateescape")
            return {"path" if header.type == b"L" else "linkpath": name}
        records = _records(body)
        if records is None:
            self._damaged(offset, "an extended header can't be read")
        return records or {}

    def _member(self, header: tarfile.TarInfo, told: dict[str, str]) -> Iterator[Member]:
        name, size = told.get("path", header.name), header.size
        if "size" in told:
            # Not isdigit: that takes digits of all scripts.
            given = told["size"]
            size = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else size
        kind: str = "other"
        why = ""
        if header.type in _FILES and not any(key.startswith("GNU.sparse") for key in told):
            kind = "folder" if header.name.endswith("/") and not size else "file"
        elif header.type == tarfile.DIRTYPE:
            kind = "folder"
        elif header.type in _LINKS:
            kind, why, size = "link", _LINKS[header.type], 0
        else:
            why = f"a member of type {header.type!r}, which is not read here"
        blocks = self._blocks(name, size)
        yield Member(name=name, kind=kind, blocks=blocks, why=why)  # type: ignore[arg-type]
        for _ in blocks:
            pass

    def _blocks(self, name: str, size: int) -> Iterator[bytes]:
        left = size
        while left and (data := self._window.some(min(left, _BLOCK))):
            left -= len(data)
            yield data
        if left:
            self._tell(
                Flaw(
                    kind=Kind.TRUNCATED,
                    path=name,
                    says=f"the archive ends in it, {left:,} bytes before its end",
                )
            )
            return
        self._padding(size)

    def _padding(self, size: int) -> None:
        offset = self._window.offset
        if any(self._window.take(-size % _RECORD)):
            self._damaged(offset, "what fills a member up is not empty")

    def _damaged(self, offset: int, says: str) -> None:
        self._tell(Flaw(kind=Kind.DAMAGED, says=f"at byte {offset:,}: {says}"))


def _read(record: bytes) -> tarfile.TarInfo | None:
    try:
        header = tarfile.TarInfo.frombuf(record, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None
    return header if header.size >= 0 else None


def _records(body: bytes) -> dict[str, str] | None:
    """Return the records of an extended header, each a line; None: it has none."""
    found = {}
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + 12)
        digits = body[at:space]
        if space < 0 or not digits.isdigit():
            return None
        end = at + int(digits)
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(body) or body[end - 1 : end] != b"\n" or not equals:
            return None
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at = end
    return found
