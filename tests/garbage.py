"""What is left behind, collected now: else it would be told in whichever test that happens."""

from __future__ import annotations

import asyncio
import gc
import threading


async def collected() -> None:
    """Collect garbage in a thread where no loop runs, as may happen to any."""
    collecting = threading.Thread(target=gc.collect)
    collecting.start()
    await asyncio.to_thread(collecting.join)
