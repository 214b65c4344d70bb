"""Each file against its listing, while its blocks pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from isal import isal_zlib

from app.delivery.contents import Packed
from app.delivery.manifest import ManifestFile
from app.errors import WrongCrc32Error, WrongFileError
from sinks.pipeline.executor import SerialExecutor

_MIN_HANDOVER = 256 * 1024  # bytes; below, a hand-over costs more than the digest


class FileVerifier:
    """Passes blocks on, and digests them beside the thread that takes them.

    What is digested of files that are what the listing says is `kept`, where that is asked for;
    with their SHA-256, if `sha256`.
    """

    def __init__(
        self,
        count: Callable[[int], None],
        *,
        lag: int,
        kept: Packed | None = None,
        sha256: bool = False,
    ) -> None:
        self._count = count
        self.kept = kept
        self._sha256 = sha256
        self._executor = SerialExecutor("source-md5", capacity=lag)
        self.failed = False  # a file is another one
        self.passed = 0  # files, from the first without a gap, that are what the listing says

    def verified(self, file: ManifestFile, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a file's blocks on. Raises WrongFileError unless they are what the listing says.

        A size is wrong at once, a CRC-32 when the file ends; an MD5 can turn out wrong while the
        next files pass already, or at `finish`.
        """
        try:
            yield from self._verified(file, blocks)
        except WrongFileError:
            self.failed = True
            raise

    def _verified(self, file: ManifestFile, blocks: Iterable[bytes]) -> Iterator[bytes]:
        digest = hashlib.md5(usedforsecurity=False)
        sha256 = hashlib.sha256() if self.kept is not None and self._sha256 else None
        update = digest.update if sha256 is None else partial(_update, digest, sha256)
        digests = file.md5 is not None or self.kept is not None
        size = crc32 = 0
        beside = False
        for block in blocks:
            size += len(block)
            if file.size is not None and size > file.size:
                raise _another(file, f"{file.size} bytes", "more")
            # Here, not beside: it takes a fortieth of an MD5's time, and an archive that told it in
            # advance must not go on behind a wrong one.
            crc32 = isal_zlib.crc32(block, crc32)
            if digests:
                if beside or len(block) > _MIN_HANDOVER:
                    beside = True
                    self._executor.submit(partial(update, block), len(block))
                else:
                    update(block)
            self._count(len(block))
            yield block
        if file.size is not None and size != file.size:
            raise _another(file, f"{file.size} bytes", f"{size}")
        check_crc32(file, crc32)
        compare = partial(self._compare, file, size, crc32, digest, sha256)
        if beside or not self._executor.idle:
            self._executor.submit(compare, 0)
        else:
            compare()

    def _compare(
        self,
        file: ManifestFile,
        size: int,
        crc32: int,
        digest: hashlib._Hash,
        sha256: hashlib._Hash | None,
    ) -> None:
        if file.md5 is not None and digest.hexdigest() != file.md5:
            self.failed = True
            raise _another(file, f"MD5 {file.md5}", digest.hexdigest())
        if self.failed:
            return
        if self.kept is not None:  # before it counts: others ask for it then
            of_file = b"" if sha256 is None else sha256.digest()
            self.kept.add(
                file.position, size=size, crc32=crc32, md5=digest.digest(), sha256=of_file
            )
        self.passed += 1

    def finish(self) -> None:
        """Wait for the last digest. Raises WrongFileError."""
        self._executor.finish()

    def close(self) -> None:
        """End the thread."""
        self._executor.close()


def _update(one: hashlib._Hash, other: hashlib._Hash, block: bytes) -> None:
    one.update(block)
    other.update(block)


def check_crc32(file: ManifestFile, found: int) -> None:
    """Raise WrongFileError unless a file has the CRC-32 that was told, if one was.

    WrongCrc32Error, if its MD5 can tell whether the file is wrong, or what was told of it.
    """
    if file.crc32 is not None and found != file.crc32:
        error = WrongFileError if file.md5 is None else WrongCrc32Error
        raise error(
            f"file {file.file_id} ({file.member}): expected CRC-32 {file.crc32:08x}, "
            f"got {found:08x}",
            position=file.position,
        )


class FileCounter(FileVerifier):
    """Passes blocks on, and leaves it to the one that takes them to verify each file."""

    def verified(self, file: ManifestFile, blocks: Iterable[bytes]) -> Iterator[bytes]:  # noqa: ARG002
        """Pass a file's blocks on. It counts as passed once the next one is asked for."""
        for block in blocks:
            self._count(len(block))
            yield block
        self.passed += 1


def check_whole(file: ManifestFile, pieces: Iterable[bytes]) -> None:
    """Raise WrongFileError unless these are the bytes of a file, as the listing says."""
    digest = hashlib.md5(usedforsecurity=False)
    size = crc32 = 0
    for piece in pieces:
        size += len(piece)
        crc32 = isal_zlib.crc32(piece, crc32)
        digest.update(piece)
    if file.size is not None and size != file.size:
        raise _another(file, f"{file.size} bytes", f"{size}")
    check_crc32(file, crc32)
    if file.md5 is not None and digest.hexdigest() != file.md5:
        raise _another(file, f"MD5 {file.md5}", digest.hexdigest())


def _another(file: ManifestFile, expected: str, found: str) -> WrongFileError:
    return WrongFileError(
        f"file {file.file_id} ({file.member}): expected {expected}, got {found}",
        position=file.position,
    )
