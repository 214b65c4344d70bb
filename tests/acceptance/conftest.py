"""The service as a process, on the stack."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from compose.embedded.stack import Stack, running_service


@pytest.fixture(scope="session")
async def service(stack: Stack) -> AsyncIterator[str]:
    """One `delivery serve`, shared by the acceptance tests; its HTTP address."""
    async with running_service(stack) as (_child, address):
        yield address
