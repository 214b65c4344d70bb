"""A store in memory, with S3's rules: what tests and simulations put archives on.

It makes no connection, reads no clock and draws no lots: the same calls in the same order give the
same upload ids, ETags and answers.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel

from app.delivery.object_store import (
    FoundObject,
    LinkAsked,
    May,
    PartBody,
    StoredPart,
    Upload,
)
from app.delivery.targets import Noted, Target, TargetCheck, TargetTrouble
from app.errors import (
    DeliveryError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from app.settings import Settings
from sinks.stores.expected import LEAST_PART, Expected, etag_of
from sinks.stores.reading import gone, whole_of


class MemorySettings(BaseModel):
    """An entry of `delivery_targets`."""

    type: Literal["memory"] = "memory"
    server: str = "memory:0"
    container: str
    prefix: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryTarget(Noted):
    """A container of a store in memory; see `app.delivery.targets.Target`."""

    kind: ClassVar[str] = "memory"
    settings: ClassVar[type[BaseModel]] = MemorySettings

    server: str = "memory:0"
    container: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"container {self.container} at {self.endpoint}"

    @property
    def endpoint(self) -> str:
        """What people call the server."""
        return f"memory://{self.server}"

    @property
    def namespace(self) -> str:
        """The server."""
        return self.server

    @property
    def leftovers(self) -> str:
        """What ends uploads that were left open."""
        return "the end of the process ends it"

    @property
    def opened_with(self) -> Mapping[str, str]:
        """Return nothing: all is kept in one way."""
        return {}

    def url_of(self, key: str) -> str:
        """Return what the object is called."""
        return f"memory://{self.container}/{key}"

    def noted(self) -> dict[str, Any]:
        """Return all fields, and the kind."""
        return {"kind": self.kind} | asdict(self)

    @classmethod
    def configured(cls, place: Mapping[str, Any]) -> MemoryTarget:
        """Read an entry of `delivery_targets`, or what is set of an S3 server: it stands in."""
        if "s3_server" in place:
            server = "{host}:{port}".format(**place["s3_server"])
            container = place["bucket"]
        else:
            server, container = place["server"], place["container"]
        prefix = (place.get("prefix") or "").strip("/")
        return cls(server=server, container=container, prefix=f"{prefix}/" if prefix else "")

    @classmethod
    def flaw_of(cls, place: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:  # noqa: ARG003
        """Return None: it leads nowhere."""
        return None


@dataclass(kw_only=True, slots=True)
class _Open:
    """An upload that is open."""

    upload: Upload
    marks: dict[str, str]
    media_type: str
    parts: dict[int, bytes] = field(default_factory=dict)  # by their numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryObject:
    """An object."""

    found: FoundObject
    media_type: str
    parts: tuple[bytes, ...]
    md5: str | None = None  # of all bytes, in hex, as it was told

    @property
    def content(self) -> bytes:
        """All bytes."""
        return b"".join(self.parts)


_Place = tuple[str, str]  # server and container


def _place(target: MemoryTarget) -> _Place:
    return target.server, target.container


@dataclass(kw_only=True)
class MemoryObjectStore:
    """See `sinks.stores.kinds.ManagedStore`.

    Containers are there when they are asked for, but `without`.
    A part must have `least_part` bytes, unless it is the last one.
    """

    without: frozenset[str] = frozenset()  # containers that are not there
    least_part: int = 0
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _open: dict[_Place, dict[str, _Open]] = field(default_factory=dict)  # by upload id
    _objects: dict[_Place, dict[str, MemoryObject]] = field(default_factory=dict)  # by key

    def objects(self, target: MemoryTarget) -> Mapping[str, MemoryObject]:
        """Return what is in a container, by key: for those who look at what came of all."""
        return self._objects.get(_place(target), {})

    def open(self) -> Sequence[Upload]:
        """Return all uploads that are open."""
        return [opened.upload for place in self._open.values() for opened in place.values()]

    def forget_uploads(self) -> None:
        """Forget all uploads that are open, as a rule of the store's owner may."""
        self._open.clear()

    async def create_upload(
        self,
        target: MemoryTarget,
        key: str,
        marks: Mapping[str, str],
        *,
        media_type: str,
    ) -> Upload:
        """Open an upload."""
        self._check(target)
        upload = Upload(container=target.container, key=key, upload_id=f"upload-{next(self._ids)}")
        self._open.setdefault(_place(target), {})[upload.upload_id] = _Open(
            upload=upload, marks=dict(marks), media_type=media_type
        )
        return upload

    async def put_part(
        self, target: MemoryTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        """Store a copy of a part's bytes. Those that have another MD5 were spoilt on their way."""
        opened = self._opened(target, upload)
        content = b"".join([piece async for piece in part])
        md5 = hashlib.md5(content, usedforsecurity=False)
        if md5.digest() != part.md5:
            raise TargetUnavailableError(f"part {number} of {upload.key} came with another MD5")
        opened.parts[number] = content
        return StoredPart(etag=md5.hexdigest(), md5=md5.digest())

    async def part_etags(self, target: MemoryTarget, upload: Upload) -> dict[int, str]:
        """Return the ETags of the parts that are there, by their numbers."""
        parts = self._opened(target, upload).parts
        return {number: _md5(content) for number, content in sorted(parts.items())}

    def uploads_from(self, target: MemoryTarget) -> int:  # noqa: ARG002
        """Return the bytes from which on an object may have an upload: as much as a part has."""
        return LEAST_PART

    def etag_of(self, target: MemoryTarget, parts: Sequence[StoredPart]) -> str | None:  # noqa: ARG002
        """Return the ETag that an object of these parts must have."""
        return etag_of(parts)

    async def complete(
        self,
        target: MemoryTarget,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,
        again: bool = False,
    ) -> str:
        """Make the object appear; nothing comes between the look at its place and that."""
        self._check(target)
        expected = Expected(size=size, etag=etag_of(parts), marks=marks)
        found = await self.find(target, upload.key)
        if found is not None and expected.is_made(found, again=again):
            await self.abort(target, upload)
            return found.etag
        if found is not None:
            expected.check_replaceable(found, target, upload.key)
        made = self._made(target, self._opened(target, upload), parts)
        self._objects.setdefault(_place(target), {})[upload.key] = replace(made, md5=md5)
        del self._open[_place(target)][upload.upload_id]
        if not expected.is_met(made.found):
            raise WrongObjectError(expected.flaw_of(made.found, target, upload.key))
        if found is not None:
            expected.tell_replaced(found, target, upload.key)
        return made.found.etag

    def _made(
        self, target: MemoryTarget, opened: _Open, parts: Sequence[StoredPart]
    ) -> MemoryObject:
        """Return what becomes of the parts that are named; of others that are there, nothing."""
        contents = [opened.parts.get(number, b"") for number in range(1, len(parts) + 1)]
        for number, (part, content) in enumerate(zip(parts, contents, strict=True), start=1):
            if number not in opened.parts or part.etag != _md5(content):
                raise UploadLostError(
                    f"part {number} of {opened.upload.key} in {target} is not the one that was sent"
                )
        if not parts:
            self._refuse(target, opened, "it has no part")
        sizes = [len(content) for content in contents]
        if any(size != sizes[0] for size in sizes[:-1]) or sizes[-1] > sizes[0]:
            self._refuse(target, opened, "its parts have several sizes")
        if any(size < self.least_part for size in sizes[:-1]):
            self._refuse(target, opened, f"a part has less than {self.least_part} bytes")
        stored = [StoredPart(etag=part.etag, md5=bytes.fromhex(part.etag)) for part in parts]
        etag = etag_of(stored)
        assert etag is not None  # noqa: S101 - each of them has an MD5
        return MemoryObject(
            found=FoundObject(size=sum(sizes), etag=etag, marks=opened.marks),
            media_type=opened.media_type,
            parts=tuple(contents),
        )

    @staticmethod
    def _refuse(target: MemoryTarget, opened: _Open, why: str) -> None:
        raise TargetRefusedError(f"{target} does not complete {opened.upload.key}: {why}")

    async def abort(self, target: MemoryTarget, upload: Upload) -> None:
        """Abort an upload; one that is gone already is fine."""
        self._open.get(_place(target), {}).pop(upload.upload_id, None)

    async def open_uploads(self, target: MemoryTarget, key: str) -> list[Upload]:
        """Return every open upload of a key, the oldest first."""
        self._check(target)
        uploads = self._open.get(_place(target), {}).values()
        return [opened.upload for opened in uploads if opened.upload.key == key]

    async def find(self, target: MemoryTarget, key: str) -> FoundObject | None:
        """Describe an object."""
        self._check(target)
        there = self.objects(target).get(key)
        return None if there is None else replace(there.found, marks=dict(there.found.marks))

    async def put_object(
        self,
        target: MemoryTarget,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        """Make an object of one part; nothing comes between the look at its place and that."""
        self._check(target)
        made = await _whole(key, body, marks, media_type)
        await may()
        expected = Expected(size=made.found.size, etag=made.found.etag, marks=marks)
        found = await self.find(target, key)
        if found is not None:
            expected.check_replaceable(found, target, key)
            expected.tell_others_replaced(found, target, key)
        self._objects.setdefault(_place(target), {})[key] = made
        return made.found.etag

    async def link(self, target: MemoryTarget, key: str, asked: LinkAsked) -> str:
        """Return a URL that says what was asked for; it leads nowhere."""
        self._check(target)
        said = urlencode({"until": asked.until.isoformat(), "name": asked.name})
        return f"{target.url_of(quote(key))}?{said}"

    async def read(
        self, target: MemoryTarget, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        """Return some bytes of an object."""
        self._check(target)
        there = self.objects(target).get(key)
        if there is None or there.found.etag != etag:
            raise gone(target, key, etag)
        return whole_of(target, key, length, [there.content[offset : offset + length]])

    async def put_aside(
        self, target: MemoryTarget, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        """Make an object of one part."""
        self._check(target)
        made = await _whole(key, body, marks, "application/octet-stream")
        self._objects.setdefault(_place(target), {})[key] = made

    async def read_aside(self, target: MemoryTarget, key: str, *, size: int) -> list[bytes]:
        """Return the bytes of an object."""
        self._check(target)
        there = self.objects(target).get(key)
        return [] if there is None else [there.content[: size + 1]]

    async def drop_aside(self, target: MemoryTarget, key: str) -> None:
        """Remove an object, if it is there."""
        self._check(target)
        self._objects.get(_place(target), {}).pop(key, None)

    async def delete(self, target: MemoryTarget, key: str, *, etag: str) -> None:
        """Remove an object."""
        found = await self.find(target, key)
        if found is None or found.etag != etag:
            raise TargetRefusedError(f"{target} does not remove {key}: it is not {etag}")
        del self._objects[_place(target)][key]

    def _check(self, target: MemoryTarget) -> None:
        if target.container in self.without:
            raise TargetRefusedError(f"there is no {target}")

    def _opened(self, target: MemoryTarget, upload: Upload) -> _Open:
        self._check(target)
        opened = self._open.get(_place(target), {}).get(upload.upload_id)
        if opened is None or opened.upload.key != upload.key:
            raise UploadLostError(f"{target} knows the upload of {upload.key} no more")
        return opened

    # What is not there can't be silent, so nothing is to be known of it.

    async def prepare(self) -> None:
        """Do nothing."""

    def serve(self, in_use: Callable[[], Iterable[Target]]) -> None:
        """Do nothing."""

    def on_trouble(self, act: Callable[[], object]) -> None:
        """Do nothing: there is never any."""

    def forget_unused(self) -> None:
        """Do nothing."""

    def trouble(self, target: MemoryTarget) -> TargetTrouble | None:  # noqa: ARG002
        """Return None."""
        return None

    async def look(self, target: MemoryTarget) -> None:
        """Raise TargetRefusedError unless the container exists."""
        self._check(target)

    def told(self, target: MemoryTarget, error: DeliveryError) -> DeliveryError:  # noqa: ARG002
        """Return the error: it tells nothing of a network."""
        return error

    async def probe(self, target: MemoryTarget) -> list[TargetCheck]:
        """Return whether the container is there."""
        try:
            self._check(target)
        except TargetRefusedError as error:
            return [TargetCheck(check="reachable", flaw=str(error))]
        return [TargetCheck(check="reachable")]

    async def examine(self, target: MemoryTarget) -> list[TargetCheck]:
        """Return whether the container is there."""
        return await self.probe(target)


async def _whole(
    key: str, body: PartBody, marks: Mapping[str, str], media_type: str
) -> MemoryObject:
    """Return what becomes of a body. Bytes of another MD5 were spoilt on their way."""
    content = b"".join([piece async for piece in body])
    if bytes.fromhex(_md5(content)) != body.md5:
        raise TargetUnavailableError(f"{key} came with another MD5")
    return MemoryObject(
        found=FoundObject(size=len(content), etag=_md5(content), marks=dict(marks)),
        media_type=media_type,
        parts=(content,),
        md5=body.md5.hex(),
    )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
