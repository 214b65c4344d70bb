"""An order's listing of any length, kept packed until its archive is laid out."""

from __future__ import annotations

import heapq
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, fields
from itertools import groupby

from app.delivery.manifest import ListedFile

_FIELDS = tuple(field.name for field in fields(ListedFile))
_BLOCK_SIZE = 256  # files packed together; of each run one block is unpacked at a time


class Listing:
    """The files of an order, in the order of their ids; of an id that is listed twice, the last.

    A file takes about 45 bytes here (16 of them its MD5), and ten times that as an object. Packing
    and unpacking take some microseconds a file: outside the event loop, please.
    """

    def __init__(self) -> None:
        # Runs of blocks, each in the order of ids. rs-order is asked for that order, so that there
        # is one run as a rule.
        self._runs: list[list[bytes]] = []
        self._largest = 0  # id in the last run

    def add(self, files: Sequence[ListedFile]) -> None:
        """Take in files, in whatever order; thousands at once, since each call may be a run."""
        ordered = sorted({file.file_id: file for file in files}.values(), key=_id)
        if not ordered:
            return
        if not self._runs or ordered[0].file_id <= self._largest:
            self._runs.append([])
        self._largest = ordered[-1].file_id
        self._runs[-1] += [
            _packed(ordered[first : first + _BLOCK_SIZE])
            for first in range(0, len(ordered), _BLOCK_SIZE)
        ]

    def __bool__(self) -> bool:
        """Whether there is a file."""
        return bool(self._runs)

    def __iter__(self) -> Iterator[ListedFile]:
        # Of equal ids, those of a later run come later.
        merged = heapq.merge(*map(_unpacked, self._runs), key=_id)
        for _, same in groupby(merged, key=_id):
            *_, last = same
            yield last


def _id(file: ListedFile) -> int:
    return file.file_id


def _packed(files: Sequence[ListedFile]) -> bytes:
    return zlib.compress(json.dumps([astuple(file) for file in files]).encode(), level=1)


def _unpacked(run: Sequence[bytes]) -> Iterator[ListedFile]:
    for block in run:
        for values in json.loads(zlib.decompress(block)):
            yield ListedFile(**dict(zip(_FIELDS, values, strict=True)))
