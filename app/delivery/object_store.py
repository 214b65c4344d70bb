"""The object store: parts that become one verified object, or nothing.

What the use-cases rest on, whichever store it is (`tests/contract/object_store.py`):

- An upload is a fence. Once `abort` has returned, no `complete` of it makes an object, whichever
  worker asks for it, and whenever: it raises UploadLostError, or, where the store answers in
  riddles, TargetUnavailableError.
- There is no object before `complete` asked for it. When that has returned, the object is whole,
  has the size and the ETag that were expected, and carries the upload's marks.
- No completion takes the place of an object whose marks are another tenant's or another user's.
- No object that is put at once does, either (`put_object`): it is whole, or not there.
- What is put aside is an object of its own: whole, or not there. It is read by those who put it.

Every call may raise TargetUnavailableError (ask again later) and TargetRefusedError (it stays so),
in words for an operator, without secrets. Each has a deadline, and asks the store once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from app.delivery.targets import Noted, Target

TargetT_contra = TypeVar("TargetT_contra", bound=Target, contravariant=True)  # of one kind

# Returns if something may be asked for now; raises what speaks against it.
May = Callable[[], Awaitable[None]]


class PartBody(Protocol):
    """The bytes of one part, as a store sends them: their number, and as often as it asks.

    Read from memory, so that a request that failed can be made again.
    """

    @property
    def md5(self) -> bytes:
        """The MD5 of all bytes, 16 bytes."""

    def __len__(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        """Iterate over the bytes, from the first."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Rewind; asked for offset 0 alone."""

    def read(self) -> bytes:
        """Return all bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """An upload that is open: its parts are no object yet."""

    container: str
    key: str
    upload_id: str  # what the store calls it
    target: str | None = field(default=None, repr=False)  # where it is open, sealed


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPart:
    """A part that the store has."""

    etag: str  # what the store calls it
    md5: bytes | None  # its MD5, where the store has shown that it has the same


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject(Noted):
    """A verified archive."""

    url: str  # `Target.url_of`
    md5: str  # hex, lower case
    size: int
    etag: str | None = None  # where it is known
    files: int | None = None  # that are in it, or that it lists
    sha256: str | None = None  # hex, lower case; where its tenant asks for it


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundObject:
    """An object as its store describes it."""

    size: int
    etag: str
    marks: Mapping[str, str] = field(default_factory=dict)  # its metadata

    def has(self, marks: Mapping[str, str]) -> bool:
        """Whether all of these marks are on it."""
        return marks.items() <= self.marks.items()


# That a store's clock may differ from this service's.
CLOCK_SKEW = timedelta(minutes=15)
# That a link holds at most. Stores take 7 days, one of them from before now on, and by its clock.
MAX_LINK = timedelta(days=7) - 2 * CLOCK_SKEW


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkAsked:
    """What a link to an object shall be."""

    at: datetime  # from when on it holds; by whichever clock the store has
    seconds: int  # for which it holds: from 1 to those of MAX_LINK
    name: str  # what the file is called where it is saved
    media_type: str
    marks: Mapping[str, str]  # of the delivery: whose tenant's it is

    @property
    def until(self) -> datetime:
        """When it ends."""
        return self.at + timedelta(seconds=self.seconds)


class ObjectStore(Protocol[TargetT_contra]):
    """The stores of one kind.

    There is no `abort_orphans`: which of the open uploads are another delivery's is in PostgreSQL,
    and asked between `open_uploads` and `abort`. Nor a `probe`: no use-case tries a target; what
    an operator and a tenant look at a store by is in `sinks.stores.kinds`.
    """

    async def create_upload(
        self, target: TargetT_contra, key: str, marks: Mapping[str, str], *, media_type: str
    ) -> Upload:
        """Open an upload; its object will carry the marks, and be of that type."""

    async def put_part(
        self, target: TargetT_contra, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        """Store part `number`, from 1; one that is there is replaced.

        All but the last have one size. Raises WrongObjectError when other bytes were stored, and
        UploadLostError when the upload is gone.
        """

    async def part_etags(self, target: TargetT_contra, upload: Upload) -> dict[int, str]:
        """Return the ETags of the parts that are there, by their numbers.

        Raises UploadLostError when the upload is gone.
        """

    def uploads_from(self, target: TargetT_contra) -> int:
        """Return the bytes from which on an object may have an upload that is left open.

        0 where `put_object` has one, too.
        """

    def etag_of(self, target: TargetT_contra, parts: Sequence[StoredPart]) -> str | None:
        """Return the ETag that an object of these parts must have; None where none can tell."""

    async def complete(
        self,
        target: TargetT_contra,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,
        again: bool = False,
    ) -> str:
        """Make the object appear, verify it, and return its ETag.

        Whether it may, the caller asks once, before: all that this asks the store for is fenced by
        the upload. What is there already is replaced if it is of the same tenant and user, or
        carries no marks; where an earlier attempt has made this very object, it stays. `md5` is
        that of the whole object, in hex: a store that keeps one with an object keeps this. `again`,
        if an earlier call was in doubt. Raises ForeignObjectError when what is there is another's,
        TargetUnavailableError while the object is not there, UploadLostError when it can't come any
        more, since the upload is gone or has another part than is named, and WrongObjectError when
        another one came.
        """

    async def abort(self, target: TargetT_contra, upload: Upload) -> None:
        """Abort an upload, also of a predecessor; one that is gone already is fine."""

    async def open_uploads(self, target: TargetT_contra, key: str) -> list[Upload]:
        """Return every open upload of this key, whichever worker opened it."""

    async def find(self, target: TargetT_contra, key: str) -> FoundObject | None:
        """Describe the object with this key; None if there is none."""

    async def put_object(
        self,
        target: TargetT_contra,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        """Make an object of at most one part's bytes at once, maybe none; return its ETag.

        What is there already is replaced if it is of the same tenant and user, or carries no marks.
        `may` is asked right before each request that makes the object appear, whichever round it
        is, and before one that may leave something open; what it raises is raised, and nothing more
        is asked for. Nothing fences a request that is on its way: it may take the place of what a
        later delivery has put until its own deadline, that of a completion at most, and no longer.
        Raises ForeignObjectError when what is there is another's, WrongObjectError when other bytes
        were stored, and TargetUnavailableError when it is not known whether it came.
        """

    async def link(self, target: TargetT_contra, key: str, asked: LinkAsked) -> str:
        """Return a URL by which any client has an object for a while, without credentials.

        It is a secret as long as it holds. That the object is there is not looked at. Raises
        NoLinkError, in words for a client, where the store makes none.
        """

    async def read(
        self, target: TargetT_contra, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        """Return `length` bytes of an object from an offset on, in pieces.

        It has as many, and 4 MiB at most are asked for at once. Raises ObjectGoneError when it is
        not there any more, or has another ETag; TargetUnavailableError when fewer bytes came.
        """

    async def put_aside(
        self, target: TargetT_contra, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        """Make a small object at once, of a name that no archive has; replaces one that is there.

        Raises WrongObjectError when other bytes were stored.
        """

    async def read_aside(self, target: TargetT_contra, key: str, *, size: int) -> list[bytes]:
        """Return the bytes of an object that was put aside, in pieces; none if it is gone.

        It should have `size` bytes: of one that has more, no more is read than shows it.
        """

    async def drop_aside(self, target: TargetT_contra, key: str) -> None:
        """Remove an object that was put aside; one that is gone already is fine."""

    async def delete(self, target: TargetT_contra, key: str, *, etag: str) -> None:
        """Remove the object with this key, as long as it has this ETag.

        Not every store can make sure of the latter; the caller has just looked.
        """
