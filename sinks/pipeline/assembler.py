"""The parts of an upload, made of the archive's blocks, digested in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from sinks.pipeline.digest import paired_md5
from sinks.pipeline.executor import SerialExecutor
from sinks.pipeline.parts import Part

_WORTH_A_HANDOVER = 256 * 1024  # bytes; small members come in small blocks

Piece = bytes | memoryview


class PartAssembler:
    """Makes parts of a stream, all of exactly `part_size` bytes but the last.

    For one thread. `permit` is called before a part is handed over, and waits until one more may be
    in flight; `hand_over` is called with each part, in their order, in a thread of its own.
    """

    def __init__(
        self,
        part_size: int,
        *,
        lag: int,
        permit: Callable[[], None],
        hand_over: Callable[[Part], None],
    ) -> None:
        self._part_size = part_size
        self._permit = permit
        self._hand_over = hand_over
        self._digests = paired_md5()
        self._executor = SerialExecutor("archive-md5", capacity=lag)
        self._pieces: list[Piece] = []  # of the part that is being filled
        self._have = 0
        self._fresh: list[Piece] = []  # of these, those that are not digested yet
        self._fresh_size = 0
        self.size = 0

    def assemble(self, blocks: Iterable[bytes]) -> None:
        """Take the whole archive; return when its last part was handed over."""
        for whole in blocks:
            block: Piece = whole
            while self._have + len(block) >= self._part_size:
                rest = self._part_size - self._have
                view = memoryview(block)
                self._append(view[:rest])
                block = view[rest:]
                self._close_part(self._executor.submit)
            if block:
                self._append(block)
                if self._fresh_size >= _WORTH_A_HANDOVER:
                    self._digest(self._executor.submit)
        self._executor.finish()
        # The rest here: a tiny archive needs no second thread.
        self._close_part(_at_once)

    def _append(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._fresh.append(piece)
        self._have += len(piece)
        self._fresh_size += len(piece)

    def _digest(self, submit: Callable[[Callable[[], None], int], None]) -> None:
        submit(partial(self._update, self._fresh), self._fresh_size)
        self._fresh, self._fresh_size = [], 0

    def _update(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._digests.update(piece)

    def _close_part(self, submit: Callable[[Callable[[], None], int], None]) -> None:
        if not self._pieces:
            return
        self._digest(submit)
        self._permit()
        submit(partial(self._finish_part, self._pieces, self._have), 0)
        self.size += self._have
        self._pieces, self._have = [], 0

    def _finish_part(self, pieces: list[Piece], size: int) -> None:
        self._hand_over(Part(pieces, size, self._digests.next_part()))

    def md5(self) -> str:
        """Return the MD5 of the whole archive, in hex; after `assemble`."""
        return self._digests.digest().hex()

    def close(self) -> None:
        """End the thread."""
        self._executor.close()


def _at_once(job: Callable[[], None], _size: int) -> None:
    job()
