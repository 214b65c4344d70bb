"""Names in an archive and on the target: safe on every system, never the same twice.

File and product names come from outside. A reader must be able to unpack an archive on Linux,
Windows or macOS without writing anywhere but below the folder it unpacks into.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

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
    return fitted(stem, mark + extension)


def fitted(stem: str, end: str, *, room: int = MAX_BYTES) -> str:
    """Put both together, with as much of the stem as fits into `room` bytes."""
    return stem.encode()[: room - len(end.encode())].decode("utf-8", "ignore") + end


class TakenNames:
    """Hands out member names; two that differ in case only count as the same.

    Of a name eight bytes are kept: should two names ever meet in them, one gets a number that it
    did not need.
    """

    def __init__(self) -> None:
        self._names: set[int] = set()
        self._last: dict[int, int] = {}  # number given last, of names that met another

    def take(self, name: str) -> None:
        """Note a name that is in use, with its folder."""
        self._names.add(digest_of(name.casefold()))

    def claim(self, folder: str, name: str) -> str:
        """Return the name in that folder, with a number if it was claimed before."""
        candidate = folder + name
        key = digest = digest_of(candidate.casefold())
        if digest in self._names:
            number = self._last.get(key, 1)
            while digest in self._names:
                number += 1
                candidate = folder + shorten(name, f" ({number})")
                digest = digest_of(candidate.casefold())
            self._last[key] = number
        self._names.add(digest)
        return candidate


def digest_of(text: str) -> int:
    """Return eight bytes that stand for a text."""
    raw = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "big")


def object_key(correlation_id: str, archive_name: str, *, prefix: str = "") -> str:
    """Return the key of an archive at its target: `<prefix>/<correlationId>/<archive name>`.

    The prefix is one of safe components (`app.delivery.templates`); without, there is no slash.
    The correlation id becomes one path component. Where that changes it, distinct ids could meet
    in one key; the archive itself would still be the right one of whichever delivery of
    that user finished last; another user's is never replaced.
    """
    folder = safe_component(correlation_id, fallback="_")
    return f"{prefix}/{folder}/{archive_name}" if prefix else f"{folder}/{archive_name}"
