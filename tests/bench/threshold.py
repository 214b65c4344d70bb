"""What compressing 16-bit rasters costs and spares: what `compression_threshold` was chosen by.

    make bench-threshold

Of each kind of raster, what the sample shrinks to that the threshold is compared with, what the
whole file does, and the processor time of deflating it (ISA-L level 1, best of several runs).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sinks.formats.archive_format import BLOCK
from sinks.formats.deflate import compressed

_SIDE = 2048  # samples
_SAMPLE = 256 * 1024  # as sinks/formats/zip.py has it
_RUNS = 7


def _samples(values: NDArray[np.float64]) -> bytes:
    return np.clip(values, 0, 65_535).astype("<u2").tobytes()


def rasters() -> Iterator[tuple[str, bytes]]:
    """Yield rasters by what they are like, those that shrink most first; the same each time."""
    chance = np.random.default_rng(20261128)
    shape = _SIDE, _SIDE
    side = np.arange(_SIDE)
    waves = np.sin(side / 300)[:, None] * np.cos(side / 170)[None, :]
    for noise in (3, 12, 60, 250):
        scene = 2000 + 800 * waves
        yield f"smooth scene, noise of {noise}", _samples(scene + chance.normal(0, noise, shape))
    for noise in (500, 1000):
        scene = 9000 + 4000 * waves
        yield f"noise of {noise}, brighter", _samples(scene + chance.normal(0, noise, shape))
    for scale in (80, 300):
        yield f"radar amplitude (Rayleigh, {scale})", _samples(chance.rayleigh(scale, shape))
    for step in (15, 100):
        walk = 30_000 + np.cumsum(chance.normal(0, step, shape), axis=1)
        yield f"heights, a walk in steps of {step}", _samples(walk)
    yield "all 16 bits noise", chance.bytes(2 * _SIDE * _SIDE)


def _deflated(raster: bytes) -> tuple[int, float]:
    """Return how long the blocks of a raster are, compressed, and the seconds that took."""
    began = time.process_time()
    made = sum(
        len(compressed(raster[start : start + BLOCK])) for start in range(0, len(raster), BLOCK)
    )
    return made, time.process_time() - began


def main() -> None:
    print("| raster | sample | whole | s/GB | s for each GB spared |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, raster in rasters():
        sample = len(compressed(raster[:_SAMPLE])) / _SAMPLE
        runs = [_deflated(raster) for _ in range(_RUNS)]
        whole, cost = runs[0][0] / len(raster), min(run[1] for run in runs) / len(raster) * 1e9
        spared = f"{cost / (1 - whole):.0f}" if whole < 0.99 else ""
        print(f"| {name} | {sample:.2f} | {whole:.2f} | {cost:.1f} | {spared} |", flush=True)


if __name__ == "__main__":
    main()
