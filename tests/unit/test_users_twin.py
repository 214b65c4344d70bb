"""rs-admin in memory does what the one over HTTP does."""

from __future__ import annotations

import pytest

from tests.contract.users import Directory, UsersContract
from tests.twins.users import MemoryUsers


@pytest.fixture
def directory() -> Directory:
    """An rs-admin of the test's own."""
    twin = MemoryUsers()
    return Directory(users=twin, misbehave=lambda faults: setattr(twin, "faults", faults))


class TestMemory(UsersContract):
    """All that is asked of rs-admin."""


async def test_it_notes_what_it_is_asked() -> None:
    twin = MemoryUsers()
    assert [await twin.known("t", "u"), await twin.known("t", "u")] == [True, True]
    assert twin.asked == [("t", "u")]
