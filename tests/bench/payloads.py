"""What the benchmarks transfer: made from a pattern, so that nothing lies on a disk.

A file is the pattern of its kind from an offset of its own, again and again. The pattern is far
longer than deflate's window (32 KiB), so that a repetition gains nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

MIB = 1024 * 1024
KINDS = ("incompressible", "raster", "csv")
_LENGTH = 32 * MIB


def pattern(kind: str) -> bytes:
    """Return the pattern of a kind, 32 MiB; the same each time."""
    chance = np.random.default_rng(20260914)
    if kind == "incompressible":
        return chance.bytes(_LENGTH)
    if kind == "raster":
        # 16-bit samples, as of an optical sensor: a smooth scene and the noise of the detector.
        side = np.arange(4096)
        scene = 2000 + 800 * np.sin(side / 300)[:, None] * np.cos(side / 170)[None, :]
        return (scene + chance.normal(0, 12, scene.shape)).astype("<u2").tobytes()
    rows = chance.integers(0, 10**6, (_LENGTH // 24, 3))
    lines = (f"{n},{a / 1000:.3f},{b},{c / 10:.1f}\n" for n, (a, b, c) in enumerate(rows))
    return "".join(lines).encode()[:_LENGTH]


def offset(file_id: int) -> int:
    """Where in the pattern a file begins."""
    return file_id * 7_919_993 % _LENGTH


def pieces(whole: bytes, file_id: int, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Return the slices of the pattern that make up the bytes [start, size) of a file."""
    at = (offset(file_id) + start) % len(whole)
    left = size - start
    while left > 0:
        length = min(len(whole) - at, left)
        yield at, length
        left -= length
        at = 0


def md5(whole: bytes, file_id: int, size: int) -> str:
    """Return the MD5 of a file, in hex."""
    digest = hashlib.md5(usedforsecurity=False)
    view = memoryview(whole)
    for at, length in pieces(whole, file_id, 0, size):
        digest.update(view[at : at + length])
    return digest.hexdigest()
