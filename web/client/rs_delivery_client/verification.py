"""Checks what was delivered, wherever it is, against its manifest, or as far as it goes without."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

import aiohttp

from rs_delivery_client.archives import Read
from rs_delivery_client.checking import Checker, Digests, Sink, Tally, check_archive
from rs_delivery_client.content import Address, Content, fixed, open_session, shown
from rs_delivery_client.errors import LocalError, NotCheckedError, UnsafeError
from rs_delivery_client.flaws import Flaw, Kind, Report, Tell
from rs_delivery_client.ledger import Ledger
from rs_delivery_client.manifest import MANIFEST_NAME, ArchiveTold, Expected, ManifestReader
from rs_delivery_client.models import Delivery
from rs_delivery_client.paths import parts_of, told
from rs_delivery_client.pauses import Pauses
from rs_delivery_client.threads import Pulled, in_thread

if TYPE_CHECKING:
    from rs_delivery_client.client import DeliveryClient

_BLOCK = 256 * 1024  # bytes
BESIDE = ".manifest.json"  # behind an archive's name: of its manifest where several archives are
_WEB = ("http://", "https://")


class Progress(Protocol):
    """Is told how far a check, or a download, is."""

    def begin(self, total: int | None) -> None:
        """Begin; `total` bytes are expected, where that is known."""

    def advance(self, count: int) -> None:
        """Go on by so many bytes. It may be called in another thread."""


@dataclass(frozen=True, kw_only=True)
class Silent:
    """Shows nothing."""

    def begin(self, total: int | None) -> None:
        """See `Progress`."""

    def advance(self, count: int) -> None:
        """See `Progress`."""


async def verify(
    target: str | Path,
    *,
    manifest: str | Path | None = None,
    md5: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    on_flaw: Tell | None = None,
    progress: Progress | None = None,
    session: aiohttp.ClientSession | None = None,
    pauses: Pauses | None = None,
) -> Report:
    """Check an archive, or a folder, and return what was found; flaws raise nothing.

    `target` is a file, a folder, or an address (`https:`, `http:`, `file:`), `manifest` a file or
    an address; without one it is looked for beside a file. `md5`, `sha256` and `size` are of the
    archive as a whole, and count for more than what a manifest tells of it; where files were
    delivered as they are, they are of their manifest, as DONE tells it. Memory does not grow
    with what is checked. Raises NotCheckedError, ManifestError, LocalError, ContentError,
    NotReachableError.
    """
    report = Report(what=str(target), on_flaw=on_flaw)
    given = Expected(size=size, md5=md5 and md5.lower(), sha256=sha256 and sha256.lower())
    bar = progress or Silent()
    async with contextlib.AsyncExitStack() as stack:
        web = session
        if web is None:
            web = await stack.enter_async_context(open_session())
        listed = await stack.enter_async_context(_manifest_file(web, manifest, pauses))
        if isinstance(target, str) and target.startswith(_WEB):
            report.what = shown(target)
            return await verify_content(
                web, fixed(target), report, listed, given, progress=bar, pauses=pauses
            )
        place = local_path(target)
        return await in_thread(lambda stop: _check_local(place, listed, given, report, bar, stop))


async def verify_delivery(
    client: DeliveryClient,
    which: str | Delivery,
    target: str | Path | None = None,
    *,
    manifest: str | Path | None = None,
    md5: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    on_flaw: Tell | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check a delivery by what the service tells of it: at its place, or at `target`.

    What is given counts for more than what the service tells. Raises what `verify` does, and
    ServiceError.
    """
    found = await client.delivery(which)
    if not found.done:
        why = f"{found.correlation_id} is {found.state}, so there is nothing to check"
        raise NotCheckedError(f"{why}: {found.failure}" if found.failure else why)
    as_files = found.format == "files" or found.archive_name == MANIFEST_NAME
    async with client.manifest(found) as told_manifest:
        listed = manifest or told_manifest
        if as_files and target is None:
            raise NotCheckedError(
                f"{found.correlation_id} was delivered as files: download them, which checks each"
            )
        given = Expected(size=size, md5=md5, sha256=sha256)
        # Of files that is their manifest: its digest stands for all of them.
        given = merged(given, ArchiveTold(key="", expected=found.expected))
        if target is not None:
            return await verify(
                target,
                manifest=listed,
                md5=given.md5,
                sha256=given.sha256,
                size=given.size,
                on_flaw=on_flaw,
                progress=progress,
            )
        report = Report(what=found.correlation_id, on_flaw=on_flaw)
        async with _manifest_file(client.links_session, listed, client.pauses) as place:
            return await verify_content(
                client.links_session,
                client.address(found),
                report,
                place,
                given,
                name=found.archive_name,
                progress=progress,
                pauses=client.pauses,
            )


def local_path(target: str | Path) -> Path:
    """Return a path that is given as one, or as a `file:` address. Raises NotCheckedError."""
    if isinstance(target, str) and target.startswith("file:"):
        parts = urlsplit(target)
        if parts.netloc not in {"", "localhost"}:
            raise NotCheckedError(f"{target} is on another machine: {parts.netloc}")
        return Path(unquote(parts.path))
    if isinstance(target, str) and "://" in target:
        raise NotCheckedError(
            f"{target.partition(':')[0]}: addresses are not read here; a link with https: is, as "
            "the service gives for an id"
        )
    return Path(target)


@contextlib.asynccontextmanager
async def _manifest_file(
    session: aiohttp.ClientSession, manifest: str | Path | None, pauses: Pauses | None
) -> AsyncIterator[Path | None]:
    if isinstance(manifest, str) and manifest.startswith(_WEB):
        async with fetched(session, fixed(manifest), pauses) as place:
            yield place
    else:
        yield None if manifest is None else local_path(manifest)


@contextlib.asynccontextmanager
async def fetched(
    session: aiohttp.ClientSession, address: Address, pauses: Pauses | None = None
) -> AsyncIterator[Path]:
    """Fetch something that is read more than once into a temporary file."""
    with tempfile.TemporaryDirectory(prefix="rs-delivery-") as folder:
        place = Path(folder, MANIFEST_NAME)
        with told(place), place.open("wb") as file:
            async for chunk in Content(session, address, pauses=pauses):
                file.write(chunk)
        yield place


async def verify_content(
    session: aiohttp.ClientSession,
    address: Address,
    report: Report,
    manifest: Path | None,
    given: Expected,
    *,
    name: str | None = None,
    sink: Sink | None = None,
    progress: Progress | None = None,
    most: int | None = None,
    pauses: Pauses | None = None,
) -> Report:
    """Check an archive at an address while it arrives; with a sink, unpack it, too."""
    bar = progress or Silent()
    content = Content(session, address, pauses=pauses)
    called = name or report.what.rpartition("/")[2]

    async with contextlib.aclosing(_chunks(content)) as chunks:
        pulled = Pulled(chunks)

        def check(stop: threading.Event) -> Report:
            with Ledger() as ledger:
                archive = take(manifest, ledger, report)
                expected = merged(given, archive)
                bar.begin(expected.size)
                check_archive(
                    pulled.reader(stop),
                    called,
                    ledger=ledger,
                    expected=expected,
                    report=report,
                    stop=stop,
                    sink=sink,
                    advance=bar.advance,
                    most=most,
                )
            return report

        try:
            return await in_thread(check)
        finally:
            await pulled.settled()


async def _chunks(content: Content) -> AsyncGenerator[bytes]:
    async for chunk in content:
        yield chunk


def take(manifest: Path | None, ledger: Ledger, report: Report) -> ArchiveTold | None:
    """Read a manifest into a ledger; return what it tells of an archive."""
    if manifest is None:
        return None
    with told(manifest), manifest.open("rb") as file:
        reader = ManifestReader(file, manifest.name)
        ledger.take(reader, report.tell)
    report.listed, report.left_out = ledger.count, reader.missing
    if reader.missing:
        report.note(
            f"{reader.missing:,} more files could not be delivered: the manifest says which"
        )
    return reader.archive


def merged(given: Expected, archive: ArchiveTold | None) -> Expected:
    """Return what an archive should be: as it is given, else as its manifest tells."""
    if archive is None:
        return given
    listed = archive.expected
    return replace(
        given,
        size=listed.size if given.size is None else given.size,
        md5=given.md5 or listed.md5,
        sha256=given.sha256 or listed.sha256,
    )


def _check_local(
    place: Path,
    manifest: Path | None,
    given: Expected,
    report: Report,
    bar: Progress,
    stop: threading.Event,
) -> Report:
    with told(place):
        place.stat()
        is_folder = place.is_dir()
    if place.name == MANIFEST_NAME and not is_folder and manifest is None:
        place, manifest, is_folder = place.parent, place, True
    if is_folder:
        return _check_folder(place, manifest or place / MANIFEST_NAME, given, report, bar, stop)
    with Ledger() as ledger:
        archive = take(manifest or beside(place), ledger, report)
        check_file(place, ledger, merged(given, archive), report, bar, stop)
    return report


def beside(archive: Path) -> Path | None:
    """Return the manifest that lies beside an archive, and tells of it."""
    own = archive.with_name(archive.name + BESIDE)
    if own.is_file():
        return own
    common = archive.with_name(MANIFEST_NAME)
    if not common.is_file():
        return None
    with told(common), common.open("rb") as file:
        reader = ManifestReader(file)
        for _ in reader:
            pass
    about = reader.archive
    return common if about is not None and about.name == archive.name else None


def check_file(
    place: Path,
    ledger: Ledger,
    expected: Expected,
    report: Report,
    bar: Progress,
    stop: threading.Event,
    *,
    name: str | None = None,
) -> None:
    """Check an archive on a disk; `name` is what it is called, if not as the file is."""
    with told(place), place.open("rb", buffering=0) as file:
        bar.begin(os.fstat(file.fileno()).st_size)
        check_archive(
            _reading(file, place),
            name or place.name,
            ledger=ledger,
            expected=expected,
            report=report,
            stop=stop,
            advance=bar.advance,
        )


def _reading(file: BinaryIO, place: Path) -> Read:
    def read(count: int) -> bytes:
        with told(place):
            return file.read(count)

    return read


def _check_folder(
    root: Path,
    manifest: Path,
    given: Expected,
    report: Report,
    bar: Progress,
    stop: threading.Event,
) -> Report:
    """Check the archive in a folder that the manifest tells of, or the files that it lists."""
    if not manifest.is_file():
        raise NotCheckedError(
            f"{root} has no {MANIFEST_NAME}, so nothing tells what should be in it; give the "
            "manifest, or the archive itself"
        )
    with Ledger() as ledger:
        archive = take(manifest, ledger, report)
        if archive is not None and archive.name and (root / archive.name).is_file():
            expected = merged(given, archive)
            check_file(root / archive.name, ledger, expected, report, bar, stop)
        else:
            _check_given(manifest, given, report, archive)
            bar.begin(ledger.total)
            _check_files(root, ledger, report, bar, stop, archive)
    return report


def _check_given(
    manifest: Path, given: Expected, report: Report, archive: ArchiveTold | None
) -> None:
    """Check a manifest by what was given: of files that are delivered as they are, it is its."""
    if given.size is None and not given.tells_content:
        return
    if archive is not None:
        report.note("what was given is of the archive as a whole, which is not here any more")
        return
    digests = Digests(given)
    with told(manifest), manifest.open("rb") as file:
        for block in _blocks(file.read):
            digests.update(block)
    for flaw in digests.flaws(MANIFEST_NAME, "and should be"):
        report.tell(flaw)


def _check_files(
    root: Path,
    ledger: Ledger,
    report: Report,
    bar: Progress,
    stop: threading.Event,
    archive: ArchiveTold | None,
) -> None:
    checker = Checker(ledger, report)
    for listed in ledger.files():
        try:
            place = root.joinpath(*parts_of(listed.path))
        except UnsafeError as error:
            report.tell(Flaw(kind=Kind.UNREADABLE, path=listed.path, says=str(error)))
            ledger.found(listed.path)
            continue
        if place.is_symlink() or (place.exists() and not place.is_file()):
            ledger.found(listed.path)
            says = "it is a link, or no file"
            report.tell(Flaw(kind=Kind.UNREADABLE, path=listed.path, says=says))
            continue
        with contextlib.suppress(FileNotFoundError), _opened(place) as file:
            tally = Tally(_reading(file, place), Expected(), bar.advance, stop)
            checker.file(listed.path, _blocks(tally.read))
    if archive is not None and report.files == 0:
        says = "neither the archive is there nor any of its files"
        report.tell(Flaw(kind=Kind.MISSING, path=archive.name, says=says))
    known = {MANIFEST_NAME}
    for path in _walked(root):
        if path not in known and ledger.listed(path) is None:
            says = "the manifest does not list it"
            report.tell(Flaw(kind=Kind.EXTRA, path=path, says=says))
    checker.end()


@contextlib.contextmanager
def _opened(place: Path) -> Iterator[BinaryIO]:
    try:
        file = place.open("rb", buffering=0)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LocalError(f"{place}: {error.strerror or error}") from error
    with file:
        yield file


def _blocks(read: Read) -> Iterator[bytes]:
    while data := read(_BLOCK):
        yield data


def _walked(root: Path) -> Iterator[str]:
    """Yield the paths of all files in a folder; links are files, and not followed."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with told(root / folder), os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{path}/")
                else:
                    yield path
