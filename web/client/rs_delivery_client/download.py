"""Fetches what was delivered: verified, and under its name when all of it is there.

An archive goes into `NAME.part` and is taken up there by the next try; its manifest lies beside it
as `NAME.manifest.json`. Unpacked, it never lies on the disk as an archive. Files that were
delivered as they are go into a folder that is called by the correlation id, some at a time; their
manifest is written last.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from rs_delivery_client.checking import Digests
from rs_delivery_client.content import Address, Content
from rs_delivery_client.errors import (
    ContentChangedError,
    FlawedError,
    LocalError,
    NotCheckedError,
    UnsafeError,
)
from rs_delivery_client.flaws import Flaw, Kind, Report, Tell
from rs_delivery_client.ledger import Ledger
from rs_delivery_client.manifest import MANIFEST_NAME, Expected, ListedFile
from rs_delivery_client.models import Delivery
from rs_delivery_client.paths import (
    Folder,
    folded,
    folds_case,
    parts_of,
    put_in_place,
    sync_file,
    sync_folder,
    told,
)
from rs_delivery_client.threads import in_thread
from rs_delivery_client.verification import (
    BESIDE,
    Progress,
    Silent,
    check_file,
    fetched,
    merged,
    take,
    verify_content,
)

if TYPE_CHECKING:
    from rs_delivery_client.client import DeliveryClient

_BLOCK = 1024 * 1024  # bytes
_SUFFIXES = (".tar.zst", ".tar", ".zip")


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """What was fetched."""

    path: Path  # the archive, or the folder of files
    report: Report  # of the check


@contextlib.asynccontextmanager
async def fetched_manifest(
    client: DeliveryClient, which: str | Delivery, path: str
) -> AsyncIterator[Path]:
    """Give the manifest of a delivery as a temporary file. Raises ContentMissingError."""
    address = client.address(which, path)
    async with fetched(client.links_session, address, client.pauses) as place:
        yield place


async def fetch_delivery(
    client: DeliveryClient,
    delivery: Delivery,
    to: Path,
    *,
    unpack: bool,
    parallel: int,
    on_flaw: Tell | None,
    progress: Progress | None,
) -> Downloaded:
    """Fetch a delivery that is done into a folder, and check it on the way.

    Raises FlawedError, UnsafeError, LocalError, ContentError, ServiceError, NotReachableError.
    """
    bar = progress or Silent()
    report = Report(what=delivery.correlation_id, on_flaw=on_flaw)
    with told(to):
        to.mkdir(parents=True, exist_ok=True)
    async with client.manifest(delivery) as manifest:
        job = _Job(client, delivery, to, manifest, report, bar)
        if delivery.format == "files" or delivery.archive_name == MANIFEST_NAME:
            if manifest is None:
                raise NotCheckedError(
                    f"{delivery.correlation_id} was delivered as files, and its manifest, which "
                    "lists them, is not there any more"
                )
            return await _Files(job, manifest, parallel).fetch()
        if unpack:
            return await job.unpacked()
        return await job.archive()


class _Job:
    """A delivery to fetch."""

    def __init__(
        self,
        client: DeliveryClient,
        delivery: Delivery,
        to: Path,
        manifest: Path | None,
        report: Report,
        bar: Progress,
    ) -> None:
        self.client = client
        self.delivery = delivery
        self.to = to
        self.manifest = manifest
        self.report = report
        self.bar = bar
        self.given = delivery.expected

    @property
    def name(self) -> str:
        """The archive's name. Raises UnsafeError for one that leads elsewhere."""
        name = self.delivery.archive_name or ""
        if len(parts_of(name)) != 1 or not name:
            raise UnsafeError(f"the archive's name {name!r} is no name of a file")
        return name

    @property
    def folder(self) -> Path:
        """Where files go that are not in an archive any more."""
        name = self.delivery.correlation_id
        for suffix in _SUFFIXES:
            if self.delivery.archive_name and self.delivery.archive_name.endswith(suffix):
                name = self.name.removesuffix(suffix)
        # What a file can't be called is quoted, as in an address.
        safe = quote(name, safe=" !#$&'()+,;=@[]{}~") if "/" in name or "\\" in name else name
        if safe in {"", ".", ".."}:
            safe = f"delivery-{self.delivery.id}"
        parts_of(safe)
        return self.to / safe

    async def archive(self) -> Downloaded:
        """Fetch the archive as it is."""
        place = self.to / self.name
        part = place.with_name(place.name + ".part")
        if place.exists():
            report = await self._checked(place, self.report)
            if not report.ok:
                raise FlawedError(
                    f"{place} is there already, and not what was delivered: move it away, and "
                    "fetch it again",
                    report,
                )
            return Downloaded(path=place, report=report)
        fetch = Fetch(self.client, self.client.address(self.delivery), part, self.delivery.id)
        resumed = fetch.resumes
        await fetch.run(self.bar, self.given.size)
        # What was there may be of another time; no flaw is told of that: all of it is had again.
        report = Report(what=self.report.what) if resumed else self.report
        await self._checked(part, report)
        if resumed and not report.ok:
            fetch.forget()
            await fetch.run(self.bar, self.given.size)
            report = await self._checked(part, self.report)
        fetch.done()
        if not report.ok:
            flawed = place.with_name(place.name + ".flawed")
            put_in_place(part, flawed)
            raise FlawedError(f"{report}; it is kept as {flawed}", report)
        if self.manifest is not None:
            _copy(self.manifest, place.with_name(place.name + BESIDE))
        put_in_place(part, place)
        return Downloaded(path=place, report=report)

    async def _checked(self, place: Path, report: Report) -> Report:
        def check(stop: threading.Event) -> Report:
            with Ledger() as ledger:
                archive = take(self.manifest, ledger, report)
                expected = merged(self.given, archive)
                check_file(place, ledger, expected, report, Silent(), stop, name=self.name)
            return report

        return await in_thread(check)

    async def unpacked(self) -> Downloaded:
        """Unpack the archive while it arrives."""
        place = self.folder
        if place.exists():
            raise LocalError(f"{place} is there already: move it away, or fetch elsewhere")
        part = Path(tempfile.mkdtemp(prefix=f".{place.name[:50]}.", suffix=".part", dir=self.to))
        try:
            await verify_content(
                self.client.links_session,
                self.client.address(self.delivery),
                self.report,
                self.manifest,
                self.given,
                name=self.name,
                sink=Folder(part),
                progress=self.bar,
                most=self.delivery.bytes,
                pauses=self.client.pauses,
            )
            if not self.report.ok:
                raise FlawedError(f"{self.report}; nothing of it is kept", self.report)
            if self.manifest is not None and not (part / MANIFEST_NAME).exists():
                _copy(self.manifest, part / MANIFEST_NAME)
            part.chmod(0o777 & ~_umask())
            await asyncio.to_thread(_sync_all)
            put_in_place(part, place)
        finally:
            await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
        return Downloaded(path=place, report=self.report)


class Fetch:
    """Fetches one object into a file; what is there of it is not fetched again."""

    def __init__(self, client: DeliveryClient, address: Address, part: Path, owner: str) -> None:
        self._client = client
        self._address = address
        self._part = part
        self._owner = owner  # of the bytes: another delivery's are not gone on with
        self._state = part.with_name(part.name + ".json")

    @property
    def resumes(self) -> bool:
        """Whether something is there to go on with."""
        return self._begun() is not None

    def _begun(self) -> tuple[int, str | None] | None:
        try:
            state = json.loads(self._state.read_bytes())
            size = self._part.stat().st_size
        except (OSError, ValueError):
            return None
        if not isinstance(state, dict) or state.get("delivery") != self._owner or not size:
            return None
        etag = state.get("etag")
        return size, etag if isinstance(etag, str) else None

    def forget(self) -> None:
        """Begin with the first byte."""
        with told(self._part):
            self._state.unlink(missing_ok=True)
            self._part.unlink(missing_ok=True)

    def done(self) -> None:
        """Forget how to go on."""
        with told(self._state):
            self._state.unlink(missing_ok=True)

    async def run(
        self, bar: Progress, size: int | None, seen: Callable[[bytes], object] | None = None
    ) -> None:
        """Fetch to the end. `seen` is given every byte, also those that were there."""
        try:
            await self._go_on(bar, size, seen)
        except ContentChangedError:
            self.forget()
            await self._go_on(bar, size, seen)

    async def _go_on(
        self, bar: Progress, size: int | None, seen: Callable[[bytes], object] | None
    ) -> None:
        start, etag = self._begun() or (0, None)
        bar.begin(size)
        if not start:
            self.forget()
        with told(self._part), self._part.open("r+b" if start else "xb") as file:
            if start:
                await asyncio.to_thread(_pass, file, start, seen)
                bar.advance(start)
            content = Content(
                self._client.links_session,
                self._address,
                start=start,
                etag=etag,
                pauses=self._client.pauses,
            )
            noted = False
            async for chunk in content:
                if not noted:
                    noted = True
                    note = {"delivery": self._owner, "etag": content.etag}
                    self._state.write_text(json.dumps(note), encoding="utf-8")
                file.write(chunk)
                bar.advance(len(chunk))
                if seen is not None:
                    seen(chunk)
            await asyncio.to_thread(sync_file, file)


def _pass(file: BinaryIO, size: int, seen: Callable[[bytes], object] | None) -> None:
    if seen is None:
        file.seek(size)
        return
    while left := size - file.tell():
        seen(file.read(min(left, _BLOCK)))


class _Files:
    """Files that were delivered as they are."""

    def __init__(self, job: _Job, manifest: Path, parallel: int) -> None:
        self._job = job
        self._manifest = manifest
        self._parallel = max(1, parallel)
        self._root = Folder(job.folder)
        self._parts = job.folder.with_name(job.folder.name + ".parts")

    async def fetch(self) -> Downloaded:
        """Fetch all that are not there yet, then the manifest."""
        job, report = self._job, self._job.report
        await self._check_manifest()
        with Ledger() as ledger:
            await asyncio.to_thread(take, self._manifest, ledger, report)
            job.bar.begin(ledger.total)
            for path in (listed.path for listed in ledger.files()):
                parts_of(path)  # before anything is written
            with told(self._parts):
                self._parts.mkdir(exist_ok=True)
                self._root.root.mkdir(exist_ok=True)
            if folds_case(self._parts):
                await asyncio.to_thread(_check_names, ledger)
            files = ledger.files()
            # The service itself gives a user one at a time, or few.
            parallel = 1 if await self._is_handed_out(ledger) else self._parallel
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(parallel):
                        group.create_task(self._some(files))
            except BaseExceptionGroup as failed:
                raise failed.exceptions[0] from None  # that of the others is that they were ended
        if not report.ok:
            raise FlawedError(f"{report}; all else is in {self._root.root}", report)
        shutil.rmtree(self._parts, ignore_errors=True)
        _copy(self._manifest, self._root.root / MANIFEST_NAME)
        return Downloaded(path=self._root.root, report=report)

    async def _is_handed_out(self, ledger: Ledger) -> bool:
        first = next((listed.path for listed in ledger.files()), None)
        if first is None:
            return False
        return (await self._job.client.address(self._job.delivery, first)(False)).own

    async def _check_manifest(self) -> None:
        if self._job.delivery.md5 is None:
            return
        with told(self._manifest), self._manifest.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        if md5 != self._job.delivery.md5:
            says = f"its MD5 is {md5}, the service tells {self._job.delivery.md5}"
            self._job.report.tell(Flaw(kind=Kind.WRONG_MD5, path=MANIFEST_NAME, says=says))
            raise FlawedError(
                f"the manifest is not the one that was delivered: {says}", self._job.report
            )

    async def _some(self, files: Iterator[ListedFile]) -> None:
        for listed in files:  # shared: each takes the next
            await self._one(listed)

    async def _one(self, listed: ListedFile) -> None:
        job, report = self._job, self._job.report
        place = self._root.place(listed.path)
        if await asyncio.to_thread(_is_there, place, listed.expected):
            report.files += 1
            job.bar.advance(place.stat().st_size)
            return
        number = hashlib.sha256(listed.path.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        part = self._parts / number
        address = job.client.address(job.delivery, listed.path)
        fetch = Fetch(job.client, address, part, job.delivery.id)
        flaws: list[Flaw] = []
        for _ in range(2 if fetch.resumes else 1):
            digests = Digests(listed.expected)
            await fetch.run(_Inner(job.bar), None, digests.update)
            flaws = list(digests.flaws(listed.path))
            if not flaws:
                break
            fetch.forget()
        report.files += 1
        report.size += digests.size
        for flaw in flaws:
            report.tell(flaw)
        if flaws:
            return
        fetch.done()
        with told(place):
            if place.is_symlink():
                raise UnsafeError(f"{place} is a symbolic link: it is not written to")
        put_in_place(part, place)


def _check_names(ledger: Ledger) -> None:
    """Raise UnsafeError where two names are one on this disk: one file would replace the other."""
    for listed in ledger.files():
        if not ledger.is_new(folded(listed.path)):
            raise UnsafeError(
                f"the manifest has a name that differs from {listed.path!r} only in case, and they "
                "are one on this disk: fetch to a folder of another file system"
            )


@dataclass(frozen=True)
class _Inner:
    """One file's part of a bar."""

    bar: Progress

    def begin(self, total: int | None) -> None:
        """Leave the bar as it is."""

    def advance(self, count: int) -> None:
        """Go on."""
        self.bar.advance(count)


def _is_there(place: Path, expected: Expected) -> bool:
    """Whether a file is there already, and what was delivered."""
    if place.is_symlink() or not place.is_file() or not expected.tells_content:
        return False
    if expected.size is not None and place.stat().st_size != expected.size:
        return False
    digests = Digests(expected)
    with told(place), place.open("rb") as file:
        while block := file.read(_BLOCK):
            digests.update(block)
    return not any(digests.flaws(None))


def _copy(source: Path, place: Path) -> None:
    """Write a file at once, or not at all."""
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    with told(place):
        try:
            with source.open("rb") as read, part.open("wb") as write:
                shutil.copyfileobj(read, write)
                sync_file(write)
            part.replace(place)
            sync_folder(place.parent)
        finally:
            part.unlink(missing_ok=True)


def _sync_all() -> None:
    if hasattr(os, "sync"):
        os.sync()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
