"""What is open together is one thing, over whichever connections."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from app.run.wiring.database import PostgresDatabase
from app.run.wiring.regards import password_flow, users_asked_later
from app.settings import Settings
from streams.regards.users import AnyUser, AskedLater


def test_a_process_has_one_of_each_and_another_over_other_connections() -> None:
    """Arrivals that come together are written together, so there must not be two that write."""
    pool: Any = MagicMock()
    mine = PostgresDatabase(settings=Settings(), pool=pool)
    shown = mine.over(MagicMock())
    for name in ("store", "tracking", "arrivals", "audit", "leader"):
        assert getattr(mine, name) is getattr(mine, name)
        assert getattr(mine, name) is not getattr(shown, name)
    assert shown.owed is mine.owed  # what is committed here, too, is sent by the worker's relays
    assert shown.own is mine.own  # and wakes its slots, while no line tells of it


@pytest.mark.parametrize(("url", "kind"), [("", AnyUser), ("http://rs-admin", AskedLater)])
def test_who_does_not_ask_rs_admin_takes_nobody_for_known_where_there_is_one(
    url: str, kind: type[object]
) -> None:
    assert isinstance(users_asked_later(Settings(rs_admin_url=url)), kind)


def test_nobody_signs_in_with_a_password_where_that_is_not_configured() -> None:
    assert password_flow(Settings(oauth_url="")) is None
    assert password_flow(Settings(oauth_url="http://oauth/token")) is not None
