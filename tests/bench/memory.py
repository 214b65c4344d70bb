"""How much memory a transfer takes for archives of growing size.

    make bench-memory [SIZES="1 8 32"]        # GiB, one file of noise each
    make bench-memory KIND=raster             # of what is deflated

Bytes are generated at the source and forgotten by the sink; each size runs in a process of its own.
Prints the peak of resident memory over that before the transfer. Constant memory means: the peak
does not follow the size.
"""

from __future__ import annotations

import argparse

from tests.bench.path import MIB, Payload, Servers, run
from tests.bench.payloads import KINDS
from tests.bench.processes import server

GIB = 1024 * MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sizes", type=int, nargs="+", help="GiB")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="of bytes (%(default)s)")
    arguments = parser.parse_args()
    sizes = arguments.sizes
    peaks = []
    with server("source") as source, server("null_s3") as sink:
        for size in sizes:
            payload = Payload(f"{size} GiB", arguments.kind, 1, size * GIB, [])
            figures = run("ours, auto", payload, payload.files(), Servers(source, sink))
            peaks.append(figures["peak_over_idle"] / MIB)
            rate = figures["bytes"] / figures["seconds"] / 1e6
            print(
                f"{size:4} GiB   peak over idle {peaks[-1]:5.0f} MiB   {rate:5.0f} MB/s", flush=True
            )
    print(f"largest peak ÷ smallest peak: {max(peaks) / min(peaks):.2f}")


if __name__ == "__main__":
    main()
