"""How fast the stages of a transfer are alone, each on one core: the limits of the whole.

    make bench-stages

Best of several runs, in MB/s of the stage's input. Then deflate by several threads, from memory to
memory, beside one: turns of both are short and alternate, and the best of each counts, so that what
else runs on the machine spoils their ratio as little as can be.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Sequence

from isal import isal_zlib

from sinks.formats.archive_format import BLOCK
from sinks.formats.deflate import BlockDeflate, DeflatePool, UnderWay
from sinks.formats.zip import StoredBlocks
from sinks.pipeline.digest import TwoPasses, paired_md5
from sinks.pipeline.sha256 import archive_sha256
from tests.bench.payloads import KINDS, pattern

_RUNS = 5
_TURNS = 300  # of each number of threads
_BLOCKS = 4
_THREADS = (1, 2, 4, 8)  # as far as there are processors for them


def _rate(whole: bytes, make: Callable[[], Callable[[memoryview], object]]) -> float:
    """Return MB/s of a stage that takes blocks."""
    view = memoryview(whole)
    best = float("inf")
    for _ in range(_RUNS):
        stage = make()
        began = time.process_time()
        for start in range(0, len(view), BLOCK):
            stage(view[start : start + BLOCK])
        best = min(best, time.process_time() - began)
    return len(whole) / best / 1e6


def _deflate(level: int) -> Callable[[memoryview], object]:
    return isal_zlib.compressobj(level=level, wbits=-zlib.MAX_WBITS).compress


def _turn(blocks: Sequence[bytes], under_way: UnderWay) -> tuple[float, float]:
    """Return the seconds that deflating takes, and those of the processor."""
    began, worked = time.perf_counter(), time.process_time()
    deflate = BlockDeflate(under_way)
    for block in deflate.feed(blocks):
        deflate.compress(block)
    return time.perf_counter() - began, time.process_time() - worked


def _tell_threads(kind: str) -> None:
    data = pattern(kind)
    blocks = [data[number * BLOCK : (number + 1) * BLOCK] for number in range(_BLOCKS)]
    cores = len(os.sched_getaffinity(0))
    threads = [count for count in _THREADS if count <= max(cores, 2)]
    under_way = {count: UnderWay(DeflatePool(count)) for count in threads}
    best = {count: [float("inf"), float("inf")] for count in threads}
    for _ in range(_TURNS):
        for count in threads:
            for which, seconds in enumerate(_turn(blocks, under_way[count])):
                best[count][which] = min(best[count][which], seconds)
    alone, worked_alone = best[1]
    for count in threads:
        under_way[count].close()
        took, worked = best[count]
        _tell(f"deflate, {count} threads: {kind}", _BLOCKS * BLOCK / took / 1e6)
        print(f"{'':<42} ÷ 1: {alone / took:.2f}; of the processor {worked / worked_alone:.2f}")


def _tell(stage: str, rate: float) -> None:
    print(f"{stage:<42} {rate:6.0f}")


def main() -> None:
    data = pattern("incompressible")
    _tell("MD5 (hashlib)", _rate(data, lambda: hashlib.md5().update))
    _tell("MD5 of archive and part, two passes", _rate(data, lambda: TwoPasses().update))
    if not isinstance(paired_md5(), TwoPasses):
        _tell("the same in one pass", _rate(data, lambda: paired_md5().update))
    _tell("SHA-256 of a file (hashlib)", _rate(data, lambda: hashlib.sha256().update))
    _tell("SHA-256 of the archive", _rate(data, lambda: archive_sha256().update))
    _tell("CRC-32 (zlib)", _rate(data, lambda: zlib.crc32))
    _tell("stored blocks", _rate(data, lambda: lambda block: StoredBlocks().compress(bytes(block))))
    for kind in KINDS[1:]:
        data = pattern(kind)
        _tell(f"deflate, ISA-L level 1: {kind}", _rate(data, lambda: _deflate(1)))
        few = data[: len(data) // 4]
        _tell(f"deflate, zlib level 6: {kind}", _rate(few, lambda: zlib.compressobj(6).compress))
    for kind in KINDS[1:]:
        _tell_threads(kind)


if __name__ == "__main__":
    main()
