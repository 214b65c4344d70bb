"""The service as a process, on the stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from compose.embedded.stack import Stack
from tests.command import delivery
from tests.service import running_service

Setting = Callable[..., Awaitable[None]]


@pytest.fixture(scope="package")
async def service(stack: Stack) -> AsyncIterator[str]:
    """One `delivery serve`, shared by this folder and gone after it; its HTTP address."""
    async with running_service(stack) as (_child, address):
        yield address


@pytest.fixture
async def admin(service: str, stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    """What speaks to its API as an administrator of the tenant; an answer of 400 or more raises."""
    asked = await asyncio.to_thread(delivery, "token", **stack.environment)
    headers = {"Authorization": f"Bearer {asked.stdout.strip()}"}
    async with aiohttp.ClientSession(service, headers=headers, raise_for_status=True) as session:
        yield session


@pytest.fixture
async def change(admin: aiohttp.ClientSession) -> AsyncIterator[Setting]:
    """Set settings of the tenant by their names; they are at their defaults again afterwards."""
    changed = set()

    async def change(**values: object) -> None:
        for name, value in values.items():
            changed.add(name)
            await admin.put(f"/settings/{name}", json={"value": value})

    yield change
    for name in changed:
        await admin.delete(f"/settings/{name}")
