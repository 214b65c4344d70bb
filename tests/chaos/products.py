"""What is ordered, and what has to come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compose.embedded.stack import USER
from tests.chaos.plan import Ask
from tests.conftest import noise

MIB = 1024 * 1024

PRODUCTS: dict[str, dict[str, bytes]] = {
    "tiny": {"tiny.bin": noise(1000, "tiny")},
    "many": {f"f{n:02}.csv": b"".join(b"%d;%d\n" % (n, k) for k in range(500)) for n in range(40)},
    "large": {"raster.tif": noise(14 * MIB, "raster"), "notes.txt": b"notes " * 200_000},
}
# What a kind of request asks for; what is not here is asked for by its own name.
_QUERIES = {"two": ["tiny", "many"], "nothing": ["no-such-product"]}


def make(folder: Path) -> None:
    """Write the products where the stand-in rs-order serves them."""
    for product, files in PRODUCTS.items():
        (folder / product).mkdir()
        for name, content in files.items():
            (folder / product / name).write_bytes(content)


def body_of(ask: Ask) -> dict[str, Any]:
    """Return the request."""
    names = _QUERIES.get(ask.kind, [ask.kind])
    queries = [] if ask.kind == "invalid" else [f'productId:"{name}"' for name in names]
    return {"correlationId": ask.correlation_id, "order": {"user": USER, "queries": queries}}


def expected(kind: str) -> tuple[str, str | None, dict[str, bytes]]:
    """Return the status that ends a request of this kind, its error type, and the archive."""
    match kind:
        case "invalid":
            return "DENIED", "INVALID_CONTENT", {}
        case "nothing":
            return "ERROR", "EMPTY_ORDER", {}
        case "two":
            both = {
                f"{product}_v1/{name}": content
                for product in _QUERIES["two"]
                for name, content in PRODUCTS[product].items()
            }
            return "DONE", None, both
        case _:
            return "DONE", None, PRODUCTS[kind]
