"""ZIP, read forwards: every member by its own header, then the directory against all of them.

What most readers do, to go by the directory at the end alone, does not see what is between the
members, nor what their own headers say.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from rs_delivery_client.archives.member import Member
from rs_delivery_client.archives.window import Window
from rs_delivery_client.flaws import Flaw, Kind, Tell
from rs_delivery_client.ledger import Ledger

_LOCAL, _ENTRY, _END, _DESCRIPTOR = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x07\x08"
_END_64, _LOCATOR = b"PK\x06\x06", b"PK\x06\x07"
_BEGINS = (_LOCAL, _ENTRY, _END, _END_64)
_LOCAL_FIELDS = struct.Struct("<4sHHHHHIIIHH")
_ENTRY_FIELDS = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END_FIELDS = struct.Struct("<4sHHHHIIH")
_END_64_FIELDS = struct.Struct("<4sQHHIIQQQQ")
_TOLD = struct.Struct("<HIQQ")  # method, CRC-32, compressed and plain size
_32, _16 = 0xFFFFFFFF, 0xFFFF
_ENCRYPTED, _BEHIND, _UTF_8 = 0x1, 0x8, 0x800
_STORED, _DEFLATED = 0, 8
_UNIX = 3  # the system that an entry was made on
_INPUT = 64 * 1024  # bytes
_OUTPUT = 1024 * 1024  # bytes that are unpacked at a time, whatever they are packed in


@dataclass(kw_only=True)
class _Local:
    """A member, as its own header tells it, and what was found of it."""

    offset: int
    raw: bytes
    name: str
    flags: int
    method: int
    crc32: int
    packed: int | None  # bytes; None: told behind it
    plain: int | None
    is_64: bool
    # What was found:
    found_crc32: int = 0
    found_packed: int = 0
    found_plain: int = 0
    lost: bool = False  # where it ends is not known

    @property
    def whole(self) -> _Behind:
        return _Behind(self.found_crc32, self.found_packed, self.found_plain)


class _Behind(NamedTuple):
    """What is told behind a member."""

    crc32: int
    packed: int
    plain: int


class ZipReader:
    """See `Reader`."""

    def __init__(self, window: Window, ledger: Ledger, tell: Tell) -> None:
        self._window = window
        self._ledger = ledger
        self._tell = tell
        self._count = 0

    def __iter__(self) -> Iterator[Member]:
        """Yield the members."""
        while True:
            offset = self._window.offset
            head = self._window.peek(4)
            if head == _LOCAL:
                local = self._local()
                if local is None:
                    return
                yield from self._member(local)
                if local.lost and not self._find_again():
                    return
            elif head in {_ENTRY, _END, _END_64}:
                self._directory()
                return
            elif len(head) < 4:
                self._truncated(offset)
                return
            else:
                self._damaged(offset, "there is no header of a member")
                if not self._find_again():
                    return

    def _local(self) -> _Local | None:
        """Read a member's own header; None: the archive ends in it."""
        offset = self._window.offset
        fixed = self._window.take(_LOCAL_FIELDS.size)
        if len(fixed) < _LOCAL_FIELDS.size:
            self._truncated(offset)
            return None
        _, _, flags, method, _, _, crc32, packed, plain, names, extras = _LOCAL_FIELDS.unpack(fixed)
        raw, extra = self._window.take(names), self._window.take(extras)
        if len(raw) < names or len(extra) < extras:
            self._truncated(offset)
            return None
        sizes = _zip64(extra)
        if sizes is not None:
            if plain == _32:
                plain, sizes = _eight(sizes)
            if packed == _32:
                packed, _ = _eight(sizes)
        behind = bool(flags & _BEHIND)
        return _Local(
            offset=offset,
            raw=raw,
            name=_name(raw, flags, extra),
            flags=flags,
            method=method,
            crc32=crc32,
            packed=None if behind else packed,
            plain=None if behind else plain,
            is_64=sizes is not None,
        )

    def _member(self, local: _Local) -> Iterator[Member]:
        kind: str = "folder" if local.raw.endswith(b"/") else "file"
        why = ""
        if local.flags & _ENCRYPTED:
            kind, why = "other", "it is encrypted"
        elif local.method not in {_STORED, _DEFLATED}:
            kind, why = "other", f"it is compressed by method {local.method}, not read here"
        if why:
            blocks = self._passed_over(local)
        elif local.method == _DEFLATED:
            blocks = self._inflated(local)
        elif local.packed is None:
            blocks = self._sought(local)
        else:
            blocks = self._stored(local, local.packed)
        blocks = self._counted(local, blocks) if not why else blocks
        yield Member(name=local.name, kind=kind, blocks=blocks, why=why)  # type: ignore[arg-type]
        for _ in blocks:
            pass
        if local.lost:
            return
        self._count += 1
        told = None if why else self._compare(local)
        details = b"" if told is None else _TOLD.pack(local.method, *told)
        self._ledger.met(local.offset, local.raw, details)

    def _counted(self, local: _Local, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            local.found_crc32 = zlib.crc32(block, local.found_crc32)
            local.found_plain += len(block)
            yield block

    def _compare(self, local: _Local) -> _Behind | None:
        """Compare what was found of a member with what is told before it, or behind it.

        Return what is told: the directory has to agree with that. None: the archive ends there.
        """
        if local.packed is None or local.plain is None:
            told = self._behind(local)
            if told is None:
                self._truncated(self._window.offset, local.name)
                return None
        else:
            told = _Behind(local.crc32, local.packed, local.plain)
        if (told.packed, told.plain) != (local.found_packed, local.found_plain):
            self._tell(
                Flaw(
                    kind=Kind.WRONG_SIZE,
                    path=local.name,
                    says=f"the archive tells {told.plain:,} bytes ({told.packed:,} compressed), "
                    f"and there are {local.found_plain:,} ({local.found_packed:,})",
                )
            )
        if told.crc32 != local.found_crc32:
            self._tell(
                Flaw(
                    kind=Kind.WRONG_CRC32,
                    path=local.name,
                    says=f"its CRC-32 is {local.found_crc32:08x}, and the archive tells "
                    f"{told.crc32:08x}",
                )
            )
        return told

    def _behind(self, local: _Local) -> _Behind | None:
        """Read what is told behind a member: in the form that fits, else in the usual one."""
        ahead = self._window.peek(24)
        forms = _forms(ahead)
        chosen = next((form for form in forms if form[1] == local.whole), None)
        if chosen is None:
            length = (20 if local.is_64 else 12) + 4 * (ahead[:4] == _DESCRIPTOR)
            chosen = next((form for form in forms if form[0] == length), None)
        if chosen is None:
            return None
        length, told = chosen
        self._window.take(length)
        return told

    def _stored(self, local: _Local, size: int) -> Iterator[bytes]:
        left = size
        while left and (data := self._window.some(min(left, _OUTPUT))):
            left -= len(data)
            local.found_packed += len(data)
            yield data
        if left:
            self._truncated(self._window.offset, local.name)
            local.lost = True

    def _passed_over(self, local: _Local) -> Iterator[bytes]:
        """Pass over what can't be read here."""
        if local.packed is None:
            local.lost = True
        elif self._window.skip(local.packed) < local.packed:
            self._truncated(self._window.offset, local.name)
            local.lost = True
        yield from ()

    def _inflated(self, local: _Local) -> Iterator[bytes]:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        while not inflate.eof:
            room = _INPUT if local.packed is None else local.packed - local.found_packed
            data = inflate.unconsumed_tail
            if not data and room > 0:
                data = self._window.some(min(room, _INPUT))
                local.found_packed += len(data)
            try:
                # Also with none: output that had no room before may be left, and the end behind it.
                out = inflate.decompress(data, _OUTPUT)
            except zlib.error as error:
                self._tell(
                    Flaw(
                        kind=Kind.DAMAGED,
                        path=local.name,
                        says=f"what is compressed can't be read on ({error})",
                    )
                )
                self._pass_by(local, data)
                return
            if out:
                yield out
            elif not data and not inflate.eof:
                if room > 0:
                    self._truncated(self._window.offset, local.name)
                    local.lost = True
                    return
                break  # it does not end where it should; how much there was is compared
        unused = inflate.unused_data
        self._window.back(unused)
        local.found_packed -= len(unused)
        if local.packed is not None and local.found_packed < local.packed:
            self._window.skip(local.packed - local.found_packed)

    def _pass_by(self, local: _Local, last: bytes) -> None:
        """Go to the end of a member that can't be read on."""
        local.lost = True
        if local.packed is None:
            self._window.back(last)
            return
        self._window.skip(local.packed - local.found_packed)
        if self._window.peek(4) in _BEGINS:
            local.lost = False
            local.found_packed = local.packed

    def _sought(self, local: _Local) -> Iterator[bytes]:
        """Yield a stored member that ends where what is told behind it fits.

        Where the manifest says how long it is, it ends there, too: a wrong CRC-32 is found so.
        """
        listed = self._ledger.listed(local.name)
        hint = None if listed is None else listed.expected.size
        while True:
            ahead = self._window.peek(_INPUT + 24)
            if not ahead:
                self._truncated(self._window.offset, local.name)
                local.lost = True
                return
            at = ahead.find(_DESCRIPTOR)
            left = None if hint is None else hint - local.found_plain
            if left is not None and 0 <= left <= len(ahead) and (at < 0 or left < at):
                at = left
            if at < 0:
                at = max(1, len(ahead) - 3)
                data = self._window.take(at)
                local.found_packed += at
                yield data
                continue
            if at:
                local.found_packed += at
                yield self._window.take(at)
            if self._ends(local, hint):
                return
            step = self._window.take(1)
            if step:
                local.found_packed += 1
                yield step

    def _ends(self, local: _Local, hint: int | None) -> bool:
        ahead = self._window.peek(28)
        forms = _forms(ahead)
        if any(told == local.whole for _, told in forms):
            return True
        return local.found_plain == hint and any(
            ahead[length : length + 4] in _BEGINS for length, _ in forms
        )

    def _find_again(self) -> bool:
        """Go to the next header that is one, of a file that was not found yet."""
        while len(ahead := self._window.peek(_INPUT)) >= 4:
            at = ahead.find(b"PK")
            if at < 0:
                self._window.take(max(1, len(ahead) - 1))
                continue
            self._window.take(at)
            if self._is_header():
                return True
            self._window.take(2)
        self._window.rest()
        return False

    def _is_header(self) -> bool:
        head = self._window.peek(4)
        if head == _LOCAL:
            fixed = self._window.peek(_LOCAL_FIELDS.size)
            if len(fixed) < _LOCAL_FIELDS.size:
                return False
            fields = _LOCAL_FIELDS.unpack(fixed)
            flags, names = fields[2], fields[9]
            raw = self._window.peek(_LOCAL_FIELDS.size + names)[_LOCAL_FIELDS.size :]
            return len(raw) == names and self._ledger.awaits(_name(raw, flags))
        if head == _ENTRY:
            fixed = self._window.peek(_ENTRY_FIELDS.size)
            if len(fixed) < _ENTRY_FIELDS.size:
                return False
            fields = _ENTRY_FIELDS.unpack(fixed)
            behind = sum(fields[10:13])
            follows = self._window.peek(_ENTRY_FIELDS.size + behind + 4)[-4:]
            return follows in {_ENTRY, _END, _END_64}
        return head in {_END, _END_64}

    def _directory(self) -> None:
        """Compare the directory with the members, then the archive's end with both."""
        offset = self._window.offset
        count = 0
        while (head := self._window.peek(4)) == _ENTRY:
            if not self._entry():
                return
            count += 1
        for raw in self._ledger.unconfirmed():
            self._tell(
                Flaw(
                    kind=Kind.DAMAGED,
                    path=raw.decode("utf-8", "replace"),
                    says="it is in the archive, and its directory does not have it",
                )
            )
        size = self._window.offset - offset
        self._end(head, count=count, offset=offset, size=size)

    def _entry(self) -> bool:
        """Compare an entry of the directory with the member that it tells of."""
        at = self._window.offset
        fixed = self._window.take(_ENTRY_FIELDS.size)
        if len(fixed) < _ENTRY_FIELDS.size:
            self._truncated(at)
            return False
        fields = _ENTRY_FIELDS.unpack(fixed)
        made_by, flags, method, crc32, packed, plain = fields[1], *fields[3:5], *fields[7:10]
        names, extras, comments, offset = *fields[10:13], fields[16]
        raw, extra = self._window.take(names), self._window.take(extras)
        if len(extra) < extras or len(self._window.take(comments)) < comments:
            self._truncated(at)
            return False
        sizes = _zip64(extra) or b""
        if plain == _32:
            plain, sizes = _eight(sizes)
        if packed == _32:
            packed, sizes = _eight(sizes)
        if offset == _32:
            offset, sizes = _eight(sizes)
        name = _name(raw, flags)
        if why := _special(made_by, fields[15], is_folder=raw.endswith(b"/")):
            self._tell(Flaw(kind=Kind.UNREADABLE, path=name, says=f"the directory has it as {why}"))
        self._confirm(offset, raw, name, _TOLD.pack(method, crc32, packed, plain))
        return True

    def _confirm(self, offset: int, raw: bytes, name: str, told: bytes) -> None:
        """Tell where an entry is not of the member that is at its offset."""
        met = self._ledger.confirm(offset) if offset < 1 << 63 else None
        if met is None:
            says = "the directory has it, and there is no such member in the archive"
        elif met[2]:
            says = "the directory has it twice"
        elif met[0] != raw:
            says = f"the directory calls so what calls itself {met[0].decode('utf-8', 'replace')}"
        elif met[1] and met[1] != told:
            says = "the directory tells another size, CRC-32 or method than the member itself"
        else:
            return
        self._tell(Flaw(kind=Kind.DAMAGED, path=name, says=says))

    def _end(self, head: bytes, *, count: int, offset: int, size: int) -> None:
        at = self._window.offset
        is_64 = head == _END_64
        if is_64:
            fixed = self._window.take(_END_64_FIELDS.size)
            if len(fixed) < _END_64_FIELDS.size:
                self._truncated(at)
                return
            fields = _END_64_FIELDS.unpack(fixed)
            if fields[4:10] != (0, 0, count, count, size, offset):
                self._damaged(at, "the archive's end tells another directory than there is")
            self._window.skip(max(0, fields[1] - (_END_64_FIELDS.size - 12)))
            locator = self._window.take(20)
            if locator[:4] != _LOCATOR or int.from_bytes(locator[8:16], "little") != at:
                self._damaged(self._window.offset, "the archive's end is not told where it is")
        at = self._window.offset
        fixed = self._window.take(_END_FIELDS.size)
        if len(fixed) < _END_FIELDS.size:
            self._truncated(at)
            return
        signature, disk, first, here, entries, length, begins, comments = _END_FIELDS.unpack(fixed)
        # What does not fit is all ones, where a ZIP64 record tells it: else that is what is told.
        disks = {0, _16} if is_64 else {0}
        if signature != _END or disk not in disks or first not in disks:
            self._damaged(at, "there is no end of the archive behind its directory")
            self._window.rest()
            return
        pairs = (
            (here, count, _16),
            (entries, count, _16),
            (length, size, _32),
            (begins, offset, _32),
        )
        if any(told != found and not (is_64 and told == most) for told, found, most in pairs):
            self._damaged(at, "the archive's end tells another directory than there is")
        if len(self._window.take(comments)) < comments:
            self._truncated(at)
        elif behind := self._window.rest():
            self._tell(Flaw(kind=Kind.TRAILING, says=f"{behind:,} bytes follow the archive's end"))

    def _truncated(self, offset: int, name: str | None = None) -> None:
        self._window.rest()
        where = "the archive ends" if name is None else "the archive ends in it"
        self._tell(Flaw(kind=Kind.TRUNCATED, path=name, says=f"{where}, at byte {offset:,}"))

    def _damaged(self, offset: int, says: str) -> None:
        self._tell(Flaw(kind=Kind.DAMAGED, says=f"at byte {offset:,}: {says}"))


def _special(made_by: int, attributes: int, *, is_folder: bool) -> str | None:
    """Return what an entry is that readers make no file of, nor a folder; None: it is none such.

    Only the directory tells that, where it was made on Unix.
    """
    kind = stat.S_IFMT(attributes >> 16) if made_by >> 8 == _UNIX else 0
    if kind in {0, stat.S_IFDIR if is_folder else stat.S_IFREG}:
        return None
    if kind == stat.S_IFLNK:
        return "a symbolic link"
    return "a folder" if kind == stat.S_IFDIR else "no file that can be unpacked"


def _name(raw: bytes, flags: int, extra: bytes = b"") -> str:
    if flags & _UTF_8 or raw.isascii():
        return raw.decode("utf-8", "surrogateescape")
    # Info-ZIP's: the name in UTF-8, with the CRC-32 of the one that it stands for.
    told = _field(extra, 0x7075)
    if told is not None and told[1:5] == struct.pack("<I", zlib.crc32(raw)):
        return told[5:].decode("utf-8", "surrogateescape")
    return raw.decode("cp437")


def _zip64(extra: bytes) -> bytes | None:
    return _field(extra, 1)


def _field(extra: bytes, wanted: int) -> bytes | None:
    """Return a field behind a header; None: there is none of its kind."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return None


def _eight(field: bytes) -> tuple[int, bytes]:
    return (int.from_bytes(field[:8], "little") if len(field) >= 8 else _32), field[8:]


def _forms(ahead: bytes) -> list[tuple[int, _Behind]]:
    """Return what the next bytes tell of a member in each form, with the length of each."""
    found = []
    for start in (4, 0):
        if start and ahead[:4] != _DESCRIPTOR:
            continue
        for form in ("<III", "<IQQ"):
            length = start + struct.calcsize(form)
            if len(ahead) >= length:
                told = _Behind(*struct.unpack_from(form, ahead, start))
                found.append((length, told))
    return found
