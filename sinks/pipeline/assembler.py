"""The parts of an upload, made of the archive's blocks, digested in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from isal import isal_zlib

from app.delivery.checkpoint import Boundary, Checkpoint
from app.errors import CheckpointUnusableError
from sinks.pipeline.digest import paired_md5, paired_md5_after
from sinks.pipeline.executor import SerialExecutor
from sinks.pipeline.parts import Part
from sinks.pipeline.sha256 import archive_sha256, sha256_after

_WORTH_A_HANDOVER = 256 * 1024  # bytes; small members come in small blocks
_FEW = 8  # pieces that are kept apart: joining large ones would cost a copy

Piece = bytes | memoryview
_Submit = Callable[[Callable[[], None], int], None]


@dataclass(frozen=True, slots=True)
class Rest:
    """What an archive has behind its last full part, when it pauses."""

    md5_state: bytes | None  # of the archive there; None where the digest does not tell it
    body: Part | None  # less than a part; None: nothing
    sha256_state: bytes | None = None  # as that of its MD5


class PartAssembler:
    """Makes parts of a stream, all of exactly `part_size` bytes but the last.

    For one thread, which brings the archive's members some at a time, then its end. `permit`
    is called before a part is handed over, and waits until one more may be in flight; `hand_over`
    is called with each part, in their order, in a thread of its own. With a part comes what going
    on behind it takes: None behind the last one, and where the digest does not tell its state.

    It begins with the first part; or `after` a checkpoint, with the members that this lies in. Has
    that a tail, it is given in pieces, and the members behind it come. `sha256` has that computed,
    too: behind a checkpoint that has no state of it, there is none.
    """

    def __init__(
        self,
        part_size: int,
        *,
        lag: int,
        permit: Callable[[], None],
        hand_over: Callable[[Part, Boundary | None], None],
        after: Checkpoint | None = None,
        tail: Sequence[bytes] = (),
        sha256: bool = False,
    ) -> None:
        self._part_size = part_size
        self._permit = permit
        self._hand_over = hand_over
        self._executor = SerialExecutor("archive-md5", capacity=lag)
        self._pieces: list[Piece] = []  # of the part that is being filled
        self._have = 0  # bytes of it, with those of the batch
        self._batch: list[Piece] = []  # what is not digested yet
        self._batch_size = 0
        self._begins: int | None = None  # which piece is the first of those that are taken now
        # Until what the store has was compared; of a tail nothing is made again.
        self._after = None if tail else after
        if after is None:
            self._digests = paired_md5()
            self._sha256 = archive_sha256() if sha256 else None
            self._parts = self._crc = self.size = 0
        else:
            self._digests = paired_md5_after(after.boundary.md5_state, after.offset)
            state = after.boundary.sha256_state if sha256 else None
            self._sha256 = sha256_after(state, after.offset)
            self._parts = after.boundary.parts  # that are full
            self._crc = after.boundary.crc  # of what is taken now, as far as it is digested
            self.size = after.offset
        self._state = self._digests.state()  # at the end of the last full part
        self._sha256_state = self._sha256.state() if self._sha256 else None
        self._tells = self._state is not None
        self._behind = 0
        for piece in tail:
            self._append(piece)

    def take(self, blocks: Iterable[bytes], *, behind: int) -> None:
        """Take the next members, `behind` so many, or the end of the archive.

        Raises CheckpointUnusableError when it does not begin with what was sent before.
        """
        pieces: Iterable[Piece] = blocks
        if self._after is None:
            self._begins = len(self._batch)
        else:
            pieces, self._after = _unsent(self._after, blocks), None
        self._behind = behind
        for whole in pieces:
            piece = whole
            while self._have + len(piece) >= self._part_size:
                rest = self._part_size - self._have
                view = memoryview(piece)
                self._append(view[:rest])
                piece = view[rest:]
                self._close_part(self._executor.submit)
            if piece:
                self._append(piece)
                if self._batch_size >= _WORTH_A_HANDOVER:
                    self._digest(self._executor.submit)

    def finish(self) -> None:
        """Return when the last part was handed over."""
        self._executor.finish()
        # The rest here: a tiny archive needs no second thread.
        self._close_part(_at_once, last=True)

    def pause(self) -> Rest:
        """Return what lies behind the last full part, once that was handed over.

        That part's end is where another process goes on: an MD5 does so between whole blocks alone.
        """
        self._executor.finish()
        body = None
        if self._have:
            self._digest(_at_once)
            body = Part(self._pieces, self._have, self._digests.next_part())
            self._pieces, self._have = [], 0
        return Rest(self._state, body, self._sha256_state)

    def _append(self, piece: Piece) -> None:
        self._batch.append(piece)
        self._batch_size += len(piece)
        self._have += len(piece)

    def _digest(self, submit: _Submit) -> None:
        before = _joined(self._batch[: self._begins or 0])
        of_member = _joined(self._batch[self._begins or 0 :])
        self._pieces += [*before, *of_member]
        begins = self._begins is not None
        submit(partial(self._update, before, of_member, begins=begins), self._batch_size)
        self._batch, self._batch_size, self._begins = [], 0, None

    def _update(self, before: list[Piece], of_member: list[Piece], *, begins: bool) -> None:
        for piece in before:
            self._digests.update(piece)
        if self._sha256 is not None:
            for piece in (*before, *of_member):
                self._sha256.update(piece)
        if begins:
            self._crc = 0
        for piece in of_member:
            self._digests.update(piece)
            if self._tells:
                self._crc = isal_zlib.crc32(piece, self._crc)

    def _close_part(self, submit: _Submit, *, last: bool = False) -> None:
        if not self._have:
            return
        self._digest(submit)
        self._permit()
        self._parts += 1
        behind = None if last else (self._parts, self._behind)
        submit(partial(self._finish_part, self._pieces, self._have, behind), 0)
        self.size += self._have
        self._pieces, self._have = [], 0

    def _finish_part(self, pieces: list[Piece], size: int, behind: tuple[int, int] | None) -> None:
        part = Part(pieces, size, self._digests.next_part())
        boundary = None
        if behind is not None and (state := self._digests.state()) is not None:
            parts, members = behind
            self._state = state
            self._sha256_state = self._sha256.state() if self._sha256 else None
            boundary = Boundary(
                parts=parts,
                md5_state=state,
                members=members,
                crc=self._crc,
                sha256_state=self._sha256_state,
            )
        self._hand_over(part, boundary)

    def md5(self) -> str:
        """Return the MD5 of the whole archive, in hex; after `finish`."""
        return self._digests.digest().hex()

    def sha256(self) -> str | None:
        """Return the SHA-256 of the whole archive, in hex, if there is one; after `finish`."""
        return self._sha256.digest().hex() if self._sha256 else None

    def close(self) -> None:
        """End the thread."""
        self._executor.close()


def _joined(pieces: list[Piece]) -> list[Piece]:
    return pieces if len(pieces) <= _FEW else [b"".join(pieces)]


def _at_once(job: Callable[[], None], _size: int) -> None:
    job()


def _unsent(checkpoint: Checkpoint, blocks: Iterable[bytes]) -> Iterator[Piece]:
    """Return the bytes behind a checkpoint, once those before it were compared."""
    left, crc = checkpoint.remade, 0
    coming = iter(blocks)
    for block in coming:
        piece: Piece = block
        if left:
            view = memoryview(block)
            repeated, piece = view[:left], view[left:]
            left -= len(repeated)
            crc = isal_zlib.crc32(repeated, crc)
            if not left and crc != checkpoint.boundary.crc:
                break
        if piece:
            yield piece
    if left or crc != checkpoint.boundary.crc:
        for _ in coming:  # to their end: it tells whether the files are those of the listing
            pass
        raise CheckpointUnusableError(
            f"the archive made again is another one before byte {checkpoint.offset}, where "
            f"part {checkpoint.boundary.parts} ends: what was sent was of a wrong file, or made "
            "by another library or kind of processor"
        )
