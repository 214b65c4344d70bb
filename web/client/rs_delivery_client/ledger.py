"""What should be there and what was found, in a temporary database: memory stays as it is.

SQLite's own temporary file: it has no name, and is gone with the connection. Its size is that of
the names, some 200 bytes a file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from rs_delivery_client.errors import LocalError
from rs_delivery_client.flaws import Flaw, Kind, Tell
from rs_delivery_client.manifest import Expected, ListedFile

_SCHEMA = """
CREATE TABLE listed (
    path BLOB PRIMARY KEY, size INTEGER, md5 TEXT, sha256 TEXT, crc32 INTEGER,
    found INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE met (
    place INTEGER PRIMARY KEY, path BLOB NOT NULL, told BLOB, confirmed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE name (path BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class Listed(NamedTuple):
    """A listed file, and how often it was found."""

    expected: Expected
    found: int


class Ledger:
    """For one check, in one thread at a time."""

    def __init__(self) -> None:
        try:
            # An empty name is a temporary file of SQLite's own.
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._database.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE;"
                "PRAGMA cache_size=-8192;" + _SCHEMA
            )
        except sqlite3.Error as error:
            raise LocalError(f"no temporary database can be made ({error})") from None
        self.has_manifest = False
        self.count = 0  # of listed files

    def __enter__(self) -> Self:
        """Keep it open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it, which removes it."""
        self._database.close()

    def take(self, files: Iterable[ListedFile], tell: Tell) -> None:
        """Note what a manifest lists. A path that is listed twice is told."""
        self.has_manifest = True
        insert = "INSERT OR IGNORE INTO listed VALUES (?, ?, ?, ?, ?, 0)"
        self._database.execute("BEGIN")
        for file in files:
            told = file.expected
            row = (_key(file.path), told.size, told.md5, told.sha256, told.crc32)
            if not self._run(insert, row).rowcount:
                tell(Flaw(kind=Kind.DUPLICATE, path=file.path, says="the manifest lists it twice"))
                continue
            self.count += 1
        self._database.execute("COMMIT")

    def listed(self, path: str) -> Listed | None:
        """Return what a file should be; None: it is not listed."""
        row = self._run(
            "SELECT size, md5, sha256, crc32, found FROM listed WHERE path = ?", (_key(path),)
        ).fetchone()
        if row is None:
            return None
        size, md5, sha256, crc32, found = row
        return Listed(Expected(size=size, md5=md5, sha256=sha256, crc32=crc32), found)

    def awaits(self, path: str) -> bool:
        """Whether a file is listed and was not found so far; any is, without a manifest."""
        if not self.has_manifest:
            return True
        listed = self.listed(path)
        return listed is not None and not listed.found

    def found(self, path: str) -> None:
        """Note that a listed file was found."""
        self._run("UPDATE listed SET found = found + 1 WHERE path = ?", (_key(path),))

    def is_new(self, path: str) -> bool:
        """Note a name that is not listed; whether it is there for the first time."""
        return bool(self._run("INSERT OR IGNORE INTO name VALUES (?)", (_key(path),)).rowcount)

    def files(self) -> Iterator[ListedFile]:
        """Yield what is listed, by its path's bytes."""
        # A cursor of its own: rows are updated meanwhile.
        last = b""
        while True:
            rows = self._run(
                "SELECT path, size, md5, sha256, crc32 FROM listed WHERE path > ? "
                "ORDER BY path LIMIT 500",
                (last,),
            ).fetchall()
            if not rows:
                return
            for path, size, md5, sha256, crc32 in rows:
                expected = Expected(size=size, md5=md5, sha256=sha256, crc32=crc32)
                yield ListedFile(path=_path(path), expected=expected)
            last = rows[-1][0]

    def missing(self) -> Iterator[str]:
        """Yield the paths of listed files that were not found."""
        for (path,) in self._run("SELECT path FROM listed WHERE found = 0 ORDER BY path"):
            yield _path(path)

    @property
    def total(self) -> int | None:
        """Bytes of all listed files; None where a size is not told."""
        unknown, total = self._run(
            "SELECT count(*) - count(size), coalesce(sum(size), 0) FROM listed"
        ).fetchone()
        return None if unknown else int(total)

    def met(self, place: int, path: bytes, told: bytes) -> None:
        """Note a member where it is in the archive, to compare it with the archive's directory."""
        self._run("INSERT INTO met VALUES (?, ?, ?, 0)", (place, path, told))

    def confirm(self, place: int) -> tuple[bytes, bytes, int] | None:
        """Return path and details of the member there, and how often that was asked before."""
        row: tuple[bytes, bytes, int] | None = self._run(
            "SELECT path, told, confirmed FROM met WHERE place = ?", (place,)
        ).fetchone()
        if row is not None:
            self._run("UPDATE met SET confirmed = confirmed + 1 WHERE place = ?", (place,))
        return row

    def unconfirmed(self) -> Iterator[bytes]:
        """Yield the paths of members that the directory does not have."""
        for (path,) in self._run("SELECT path FROM met WHERE confirmed = 0 ORDER BY place"):
            yield path

    def _run(self, statement: str, row: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, row)
        except sqlite3.Error as error:
            raise LocalError(
                f"the temporary database failed ({error}); is there room where temporary files "
                "are (TMPDIR)?"
            ) from None


def _key(path: str) -> bytes:
    try:
        return path.encode("utf-8", "surrogateescape")  # archives hold names that are no UTF-8
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogatepass")  # and JSON halves of surrogate pairs


def _path(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
