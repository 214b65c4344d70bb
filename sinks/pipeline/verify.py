"""Each file against its listing, while its blocks pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from app.delivery.manifest import ManifestFile
from app.errors import WrongFileError
from sinks.pipeline.executor import SerialExecutor

_MIN_HANDOVER = 256 * 1024  # bytes; below, a hand-over costs more than the digest


class FileVerifier:
    """Passes blocks on, and digests them beside the thread that takes them."""

    def __init__(self, count: Callable[[int], None], *, lag: int) -> None:
        self._count = count
        self._executor = SerialExecutor("source-md5", capacity=lag)

    def verified(self, file: ManifestFile, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a file's blocks on. Raises WrongFileError unless they are what the listing says.

        A size is wrong at once; a checksum can turn out wrong while the next files pass already,
        or at `finish`.
        """
        digest = hashlib.md5(usedforsecurity=False)
        size = 0
        beside = False
        for block in blocks:
            size += len(block)
            if file.size is not None and size > file.size:
                raise WrongFileError(
                    f"file {file.file_id} ({file.member}): expected {file.size} bytes, got more"
                )
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
        if file.md5 is not None:
            if beside:
                self._executor.submit(partial(_compare, file, digest), 0)
            else:
                _compare(file, digest)

    def finish(self) -> None:
        """Wait for the last digest. Raises WrongFileError."""
        self._executor.finish()

    def close(self) -> None:
        """End the thread."""
        self._executor.close()


def _compare(file: ManifestFile, digest: hashlib._Hash) -> None:
    if digest.hexdigest() != file.md5:
        raise WrongFileError(
            f"file {file.file_id} ({file.member}): expected MD5 {file.md5}, "
            f"got {digest.hexdigest()}"
        )
