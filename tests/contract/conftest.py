"""The service, on a broker where another client declared everything first."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from compose.embedded.stack import Stack
from tests.contract.peer import declare_as_regards
from tests.service import running_service


@pytest.fixture(scope="package")
async def service(stack: Stack) -> AsyncIterator[str]:
    """One `delivery serve`, shared by this folder and gone after it; its HTTP address."""
    await declare_as_regards(stack.environment["DELIVERY_AMQP_URL"])
    async with running_service(stack) as (_child, address):
        await declare_as_regards(stack.environment["DELIVERY_AMQP_URL"])
        yield address
