"""Unit tests meet no setting but their own."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the stack's, which other tests of the same process have exported."""
    for name in os.environ:
        if name.startswith("DELIVERY_"):
            monkeypatch.delenv(name)


@pytest.fixture
async def unheard() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop tells of errors that nothing reads, in this test alone.

    The loop is the session's: what earlier tests have left behind is told before.
    """
    gc.collect()
    loop, told = asyncio.get_running_loop(), list[dict[str, Any]]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield told
    loop.set_exception_handler(before)
