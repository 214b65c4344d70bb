"""Each form to each place, beside a verified copy to the same place.

    make bench-forms [SIZE=512] [ROUNDS=5] [PLACES="s3 file"]

Servers forget what they get, or keep it in memory (`file` and `sftp`, in FOLDER): in every round
each way runs once, in a process of its own. Medians; ratios are of rates. Then many small files as
objects of their own, at a server that takes 20 ms for each, beside one at a time.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.path import MIB, Payload, Servers, measure, table
from tests.bench.places import PLACES, told
from tests.bench.processes import server
from tests.bench.ways import TO

PUT_LATENCY = 20  # ms


@contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    """Give a folder of its own; what is in it goes with it."""
    made = Path(tempfile.mkdtemp(prefix="rs-delivery-bench-", dir=folder))
    made.chmod(0o755)  # a server runs as another user
    try:
        yield made
    finally:
        shutil.rmtree(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=512, help="MiB of the large file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=10_000, help="files of 20 KB; 0: none")
    in_memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    parser.add_argument("--folder", type=Path, default=in_memory, help="of what is kept")
    parser.add_argument("places", nargs="*", default=list(PLACES), help=", ".join(PLACES))
    asked = parser.parse_args()
    with server("source") as source:
        for name in asked.places:
            ways = [f"{way} to {name}" for way in TO[name]]
            title = f"{asked.size} MiB incompressible, to {name}"
            payload = Payload(title, "incompressible", 1, asked.size * MIB, ways)
            with _emptied(asked.folder) as folder, PLACES[name].serve(folder) as target:
                medians = measure(payload, ways, asked.rounds, Servers(source, told(target)))
            print(table(payload, medians, beside=f"verified copy to {name}"), flush=True)
        if asked.small:
            ways = ["one PUT at a time", "ours, files"]
            title = f"{asked.small} × 20 KB, {PUT_LATENCY} ms each to put"
            payload = Payload(title, "incompressible", asked.small, 20_000, ways)
            with server("null_s3", "--put-latency", str(PUT_LATENCY)) as sink:
                medians = measure(payload, ways, 1, Servers(source, sink))
            print(table(payload, medians, beside="one PUT at a time"))


if __name__ == "__main__":
    main()
