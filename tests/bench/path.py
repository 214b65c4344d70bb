"""The data path against a plain copy and against other ways, side by side on the same bytes.

    make bench [SIZE=2048] [ROUNDS=5]        # SIZE: MiB of the large file
    python -m tests.bench.path --help        # some payloads or ways only

Source and S3 sink are processes of their own on the same machine, and share its cores with the
transfer. In every round each way runs once, in a process of its own; the slow ways run once in all.
Medians; ratios are of rates. Writes tests/bench/results.json and docs/data-path.svg.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import zstandard

from tests.bench.payloads import md5, pattern
from tests.bench.plot import draw
from tests.bench.processes import server
from tests.bench.ways import SLOW, WAYS

MIB = 1024 * 1024
HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PLOT = HERE.parent.parent / "docs" / "data-path.svg"
CHECKPOINTS = ["without checkpoints", "with checkpoints"]
ELSEWHERE = ["ours, one GET at a time", "ours, files", "one PUT at a time", *CHECKPOINTS]
LARGE = [way for way in WAYS if way not in ELSEWHERE and " to " not in way]
SMALL = ["verified copy", "ours, auto", "ours, tar", "ours, tar.zst"]
SMALL += ["ours, one GET at a time", "staged"]


Figures = dict[str, Any]


@dataclass(frozen=True)
class Servers:
    """Addresses of the processes that a transfer runs between."""

    source: str
    sink: str


@dataclass(frozen=True)
class Payload:
    """Files of one kind and size."""

    name: str
    kind: str
    count: int
    size: int
    ways: list[str]
    latency: float = 0  # ms from a request to its first byte

    def files(self) -> list[tuple[int, int, str]]:
        whole = pattern(self.kind)
        return [(n, self.size, md5(whole, n, self.size)) for n in range(1, self.count + 1)]

    def source(self, root: str) -> str:
        return f"{root}/{self.kind}/{self.size}/{self.latency:g}"


def payloads(size: int) -> list[Payload]:
    """Return what is measured; `size` is that of the large file, in MiB."""
    large = {
        "incompressible": f"{size} MiB incompressible",
        "raster": f"{size} MiB 16-bit raster",
        "csv": f"{size} MiB CSV",
    }
    small = max(size * 10_000 // 2048, 10)
    return [
        *(Payload(name, kind, 1, size * MIB, LARGE) for kind, name in large.items()),
        Payload(f"{size * 2000 // 2048} × 1 MiB", "raster", size * 2000 // 2048, MIB, LARGE),
        Payload(f"{small} × 20 KB", "raster", small, 20_000, SMALL),
        Payload(f"{small} × 20 KB, 5 ms each", "raster", small, 20_000, SMALL, latency=5),
    ]


def run(way: str, payload: Payload, files: list[tuple[int, int, str]], at: Servers) -> Figures:
    """Run one way once, in a process of its own."""
    asked = {
        "way": way,
        "source": payload.source(at.source),
        "sink": at.sink,
        "files": files,
        "warm_up_source": f"{at.source}/{payload.kind}/{MIB}/0",
        "warm_up": [(0, MIB, md5(pattern(payload.kind), 0, MIB))],
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.one"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{way} failed on {payload.name}:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _zipped(path: Path) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                yield member  # its CRC is checked by reading it to its end


def _tarred(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|") as archive:
        yield from filter(None, map(archive.extractfile, archive))


def _compressed(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        plain = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        with tarfile.open(fileobj=plain, mode="r|") as archive:
            yield from filter(None, map(archive.extractfile, archive))


CHECKED = {"ours, auto": _zipped, "ours, tar": _tarred, "ours, tar.zst": _compressed}


def check(payload: Payload, files: list[tuple[int, int, str]], source: str) -> None:
    """Fail unless our archives hold just these files: on a sink that keeps what it gets."""
    for way, members in CHECKED.items():
        with tempfile.TemporaryDirectory() as folder:
            with server("null_s3", "--keep", folder) as sink:
                figures = run(way, payload, files, Servers(source, sink))
            path = Path(folder) / "object"
            with path.open("rb") as file:
                assert hashlib.file_digest(file, "md5").hexdigest() == figures["md5"]
            for member, (_, _, expected) in zip(members(path), files, strict=True):
                assert hashlib.md5(member.read()).hexdigest() == expected, way


def measure(payload: Payload, ways: list[str], rounds: int, at: Servers) -> dict[str, Figures]:
    """Return the medians of each way; a round runs each of them once."""
    files = payload.files()
    seen: dict[str, list[Figures]] = defaultdict(list)
    for turn in range(rounds):
        for way in ways:
            if turn and way in SLOW:
                continue
            seen[way].append(run(way, payload, files, at))
            last = seen[way][-1]
            rate = last["bytes"] / last["seconds"] / 1e6
            print(f"  {turn + 1}/{rounds} {way}: {rate:.0f} MB/s", file=sys.stderr)
    return {
        way: {
            "runs": len(runs),
            "mb_s": statistics.median(r["bytes"] / r["seconds"] / 1e6 for r in runs),
            "cpu_s_gb": statistics.median(r["cpu_seconds"] / r["bytes"] * 1e9 for r in runs),
            "peak_mib": statistics.median(r["peak_over_idle"] / MIB for r in runs),
        }
        for way, runs in seen.items()
    }


def table(payload: Payload, medians: dict[str, Figures], *, beside: str = "verified copy") -> str:
    """Return the figures of a payload as a table in Markdown."""

    def ratio(figures: Figures, to: str, field: str, digits: int = 2) -> str:
        return f"{figures[field] / medians[to][field]:.{digits}f}" if to in medians else ""

    columns: dict[str, Callable[[Figures], str]] = {
        "MB/s": lambda f: f"{f['mb_s']:.0f}",
        f"÷ {beside}": lambda f: ratio(f, beside, "mb_s"),
        "÷ staged": lambda f: ratio(f, "staged", "mb_s", 1),
        "CPU s/GB": lambda f: f"{f['cpu_s_gb']:.1f}",
        f"CPU ÷ {beside}": lambda f: ratio(f, beside, "cpu_s_gb"),
        "peak MiB": lambda f: f"{f['peak_mib']:.0f}",
    }
    if "staged" not in medians:
        del columns["÷ staged"]
    lines = [
        f"**{payload.name}**",
        "",
        f"| {' | '.join(['way', *columns])} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(
            f"| {' | '.join([way, *(told(figures) for told in columns.values())])} |"
            for way, figures in medians.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def write(results: dict[str, dict[str, Figures]], rounds: int) -> None:
    """Keep the figures and draw them."""
    on = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": rounds,
    }
    RESULTS.write_text(json.dumps({"on": on, "medians": results}, indent=1) + "\n")
    draw(results, PLOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=2048, help="MiB of the large file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--payloads", default="", help="only those whose name has this in it")
    parser.add_argument("--ways", default="", help="only these, separated by semicolons")
    parser.add_argument("--check", action="store_true", help="also look into every archive")
    parser.add_argument("--write", action="store_true", help="keep the results, and draw them")
    asked = parser.parse_args()
    results: dict[str, dict[str, Figures]] = {}
    with server("source") as source, server("null_s3") as sink:
        for payload in payloads(asked.size):
            if asked.payloads not in payload.name:
                continue
            if asked.check:
                check(payload, payload.files(), source)
            ways = [way for way in payload.ways if not asked.ways or way in asked.ways.split(";")]
            results[payload.name] = measure(payload, ways, asked.rounds, Servers(source, sink))
            print(table(payload, results[payload.name]), flush=True)
            if asked.write:  # each time: an hour's figures must not hang on its last minute
                write(results, asked.rounds)


if __name__ == "__main__":
    main()
