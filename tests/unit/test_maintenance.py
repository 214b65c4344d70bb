"""What those are told who are refused because their tenant is in maintenance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.delivery.maintenance import Maintenance

NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def make_maintenance(*, left: timedelta | None = None, reason: str | None = None) -> Maintenance:
    until = None if left is None else NOW + left
    return Maintenance(
        active=True, updated_at=NOW, reason=reason, until=until, enabled_by="admin@example.org"
    )


@pytest.mark.parametrize(
    ("left", "seconds"),
    [
        (None, 60),
        (timedelta(seconds=1), 1),
        (timedelta(seconds=89.2), 90),
        (timedelta(hours=1), 3600),
        (timedelta(days=9), 3600),
        (timedelta(), 60),
        (timedelta(hours=-1), 60),
    ],
)
def test_it_is_worth_another_try_when_it_should_be_over_and_within_an_hour(
    left: timedelta | None, seconds: int
) -> None:
    assert make_maintenance(left=left).retry_after(NOW) == seconds


def test_what_was_said_of_it_is_told_and_not_by_whom() -> None:
    hour = timedelta(hours=1)
    assert make_maintenance().announced == ""
    assert make_maintenance(reason="new disks").announced == ": new disks"
    assert make_maintenance(left=hour).announced == ", announced until 2026-02-03 05:05:06 UTC"
    assert make_maintenance(left=hour, reason="new disks").announced == (
        ", announced until 2026-02-03 05:05:06 UTC: new disks"
    )
