"""The service as a process, on the stack."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from compose.embedded.stack import Stack
from tests.service import running_service


@pytest.fixture(scope="package")
async def service(stack: Stack) -> AsyncIterator[str]:
    """One `delivery serve`, shared by this folder and gone after it; its HTTP address."""
    async with running_service(stack) as (_child, address):
        yield address
