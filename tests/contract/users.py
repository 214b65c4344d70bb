"""What rs-admin does for who asks it about users, over HTTP or in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from app.delivery.ports import Users
from app.errors import SourceUnavailableError
from compose.rs_order.faults import Faults

TENANT, USER = "t", "user@example.org"


@dataclass(frozen=True, kw_only=True)
class Directory:
    """An rs-admin that names every user, and a way to have it otherwise."""

    users: Users
    misbehave: Callable[[Faults], None]


class UsersContract:
    """To be subclassed where there is a fixture `directory`."""

    async def test_a_user_that_was_not_asked_about_is_not_remembered(
        self, directory: Directory
    ) -> None:
        assert not directory.users.remembers(TENANT, USER)

    async def test_a_known_user_is_remembered(self, directory: Directory) -> None:
        assert await directory.users.known(TENANT, USER)
        assert directory.users.remembers(TENANT, USER)

    @pytest.mark.parametrize("other", [("swot", USER), (TENANT, "other@example.org")])
    async def test_a_user_is_remembered_of_its_tenant_alone(
        self, directory: Directory, other: tuple[str, str]
    ) -> None:
        assert await directory.users.known(TENANT, USER)
        assert not directory.users.remembers(*other)

    async def test_a_remembered_user_is_not_asked_about(self, directory: Directory) -> None:
        assert await directory.users.known(TENANT, USER)
        directory.misbehave(Faults(unknown_users=[USER], admin_answers_500=1))
        assert await directory.users.known(TENANT, USER)

    async def test_an_unknown_user_is_not_known_until_it_is_added(
        self, directory: Directory
    ) -> None:
        directory.misbehave(Faults(unknown_users=[USER]))
        assert not await directory.users.known(TENANT, USER)
        assert not directory.users.remembers(TENANT, USER)
        directory.misbehave(Faults())
        assert await directory.users.known(TENANT, USER)

    @pytest.mark.parametrize("user", ["a/b@example.org", "ü@example.org", "a%2Fb", "a?b#c", " "])
    async def test_a_user_of_any_name_is_asked_about_by_it(
        self, directory: Directory, user: str
    ) -> None:
        directory.misbehave(Faults(unknown_users=[user]))
        assert not await directory.users.known(TENANT, user)
        directory.misbehave(Faults())
        assert await directory.users.known(TENANT, user)

    @pytest.mark.parametrize("user", [".", ".."])
    async def test_a_user_that_no_address_names_is_not_known(
        self, directory: Directory, user: str
    ) -> None:
        assert not await directory.users.known(TENANT, user)

    async def test_one_that_is_away_for_a_moment_is_told_and_answers_again(
        self, directory: Directory
    ) -> None:
        directory.misbehave(Faults(admin_answers_500=1))
        with pytest.raises(SourceUnavailableError):
            await directory.users.known(TENANT, USER)
        assert not directory.users.remembers(TENANT, USER)
        assert await directory.users.known(TENANT, USER)
