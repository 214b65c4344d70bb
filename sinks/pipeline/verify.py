"""Each file against its listing, while its blocks pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from isal import isal_zlib

from app.delivery.manifest import ManifestFile
from app.errors import WrongCrc32Error, WrongFileError
from sinks.pipeline.executor import SerialExecutor

_MIN_HANDOVER = 256 * 1024  # bytes; below, a hand-over costs more than the digest


class FileVerifier:
    """Passes blocks on, and digests them beside the thread that takes them."""

    def __init__(self, count: Callable[[int], None], *, lag: int) -> None:
        self._count = count
        self._executor = SerialExecutor("source-md5", capacity=lag)
        self._failed = False
        self.passed = 0  # files, from the first without a gap, that are what the listing says

    def verified(self, file: ManifestFile, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a file's blocks on. Raises WrongFileError unless they are what the listing says.

        A size is wrong at once, a CRC-32 when the file ends; an MD5 can turn out wrong while the
        next files pass already, or at `finish`.
        """
        digest = hashlib.md5(usedforsecurity=False)
        size = crc32 = 0
        beside = False
        for block in blocks:
            size += len(block)
            if file.size is not None and size > file.size:
                raise WrongFileError(
                    f"file {file.file_id} ({file.member}): expected {file.size} bytes, got more"
                )
            # Here, not beside: it takes a fortieth of an MD5's time, and an archive that told it in
            # advance must not go on behind a wrong one.
            crc32 = isal_zlib.crc32(block, crc32)
            if file.md5 is not None:
                if beside or len(block) > _MIN_HANDOVER:
                    beside = True
                    self._executor.submit(partial(digest.update, block), len(block))
                else:
                    digest.update(block)
            self._count(len(block))
            yield block
        if file.size is not None and size != file.size:
            raise WrongFileError(
                f"file {file.file_id} ({file.member}): expected {file.size} bytes, got {size}"
            )
        check_crc32(file, crc32)
        compare = partial(self._compare, file, digest)
        if beside or not self._executor.idle:
            self._executor.submit(compare, 0)
        else:
            compare()

    def _compare(self, file: ManifestFile, digest: hashlib._Hash) -> None:
        if file.md5 is not None and digest.hexdigest() != file.md5:
            self._failed = True
            raise WrongFileError(
                f"file {file.file_id} ({file.member}): expected MD5 {file.md5}, "
                f"got {digest.hexdigest()}"
            )
        if not self._failed:
            self.passed += 1

    def finish(self) -> None:
        """Wait for the last digest. Raises WrongFileError."""
        self._executor.finish()

    def close(self) -> None:
        """End the thread."""
        self._executor.close()


def check_crc32(file: ManifestFile, found: int) -> None:
    """Raise WrongFileError unless a file has the CRC-32 that was told, if one was.

    WrongCrc32Error, if its MD5 can tell whether the file is wrong, or what was told of it.
    """
    if file.crc32 is not None and found != file.crc32:
        error = WrongFileError if file.md5 is None else WrongCrc32Error
        raise error(
            f"file {file.file_id} ({file.member}): expected CRC-32 {file.crc32:08x}, "
            f"got {found:08x}"
        )


class FileCounter(FileVerifier):
    """Passes blocks on, and leaves it to the one that takes them to verify each file."""

    def verified(self, file: ManifestFile, blocks: Iterable[bytes]) -> Iterator[bytes]:  # noqa: ARG002
        """Pass a file's blocks on. It counts as passed once the next one is asked for."""
        for block in blocks:
            self._count(len(block))
            yield block
        self.passed += 1
