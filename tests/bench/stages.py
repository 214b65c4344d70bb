"""How fast the stages of a transfer are alone, each on one core: the limits of the whole.

    make bench-stages

Best of several runs, in MB/s of the stage's input.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable

from isal import isal_zlib

from sinks.formats.archive_format import BLOCK
from sinks.formats.zip import StoredBlocks
from sinks.pipeline.digest import TwoPasses, paired_md5
from tests.bench.payloads import KINDS, pattern

_RUNS = 5


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


def _tell(stage: str, rate: float) -> None:
    print(f"{stage:<42} {rate:6.0f}")


def main() -> None:
    data = pattern("incompressible")
    _tell("MD5 (hashlib)", _rate(data, lambda: hashlib.md5().update))
    _tell("MD5 of archive and part, two passes", _rate(data, lambda: TwoPasses().update))
    if not isinstance(paired_md5(), TwoPasses):
        _tell("the same in one pass", _rate(data, lambda: paired_md5().update))
    _tell("CRC-32 (zlib)", _rate(data, lambda: zlib.crc32))
    _tell("stored blocks", _rate(data, lambda: lambda block: StoredBlocks().compress(bytes(block))))
    for kind in KINDS[1:]:
        data = pattern(kind)
        _tell(f"deflate, ISA-L level 1: {kind}", _rate(data, lambda: _deflate(1)))
        few = data[: len(data) // 4]
        _tell(f"deflate, zlib level 6: {kind}", _rate(few, lambda: zlib.compressobj(6).compress))


if __name__ == "__main__":
    main()
