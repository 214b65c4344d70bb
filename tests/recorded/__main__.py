"""Record again, on purpose: `make record`, then look at the diff."""

from __future__ import annotations

import asyncio
import inspect
import os
import tempfile
from pathlib import Path

from structlog.testing import capture_logs

from app.store import migrate, open_pool
from compose.embedded.postgres import postgres
from tests.recorded import book, today


async def main() -> None:
    """Record everything, with a PostgreSQL of its own."""
    for name in list(os.environ):
        if name.startswith("DELIVERY_"):
            del os.environ[name]
    for name, make in today.RECORDINGS.items():
        with capture_logs():
            made = make()
            value = await made if inspect.isawaitable(made) else made
        _record(name, value)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        async with (
            postgres(Path(folder)) as server,
            open_pool(server.url, size=4, start_timeout=10) as pool,
        ):
            await migrate(pool)
            for name, store in today.STORED.items():
                _record(name, await store(pool))
            # A sealed text differs each time: what was sealed before is to be read for ever.
            if not book.path_of(today.SEALED).exists() or _sealed() != today.rows.sealed_now():
                _record(today.SEALED, await today.rows.sealed(pool))


def _sealed() -> dict[str, object]:
    kept = book.kept(today.SEALED)
    return {name: kept[name]["opened"] for name in today.rows.sealed_now()}


def _record(name: str, made: object) -> None:
    if book.record(name, made):
        print(f"recorded again: {book.path_of(name)}")


asyncio.run(main())
