"""What a process knows of pauses: by a clock that only grows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from structlog.testing import capture_logs

from app.delivery.pauses import Pause, Pauses, PauseScope, PauseSubject, Running
from app.settings import Settings
from app.tenants.values import Configuration
from app.usecases.paused import Paused
from tests.builders import GivenTenants

BEGAN = datetime(2026, 1, 31, 12, tzinfo=UTC)
TENANT = PauseSubject(scope=PauseScope.TENANT, tenant="north")
WORKER = PauseSubject(scope=PauseScope.WORKER, name="w-1")


def make_pause(subject: PauseSubject = TENANT, *, left: float | None = None) -> Pause:
    return Pause(
        subject=subject,
        reason="disks",
        running=Running.FINISH,
        paused_by="ana",
        since=BEGAN,
        until=None if left is None else BEGAN + timedelta(seconds=left),
        left=left,
    )


def test_a_pause_ends_when_what_was_left_of_it_has_passed_whatever_its_end_is_here() -> None:
    now = [1000.0]
    pauses = Pauses(clock=lambda: now[0])
    brief, lasting = make_pause(left=60), make_pause(WORKER)
    pauses.apply([brief, lasting])
    now[0] += 59
    assert pauses.all() == [brief, lasting]
    assert pauses.of_tenant("north") == brief
    assert pauses.of_target("north", "any") == brief
    now[0] += 1
    assert pauses.all() == [lasting]
    assert pauses.of_tenant("north") is None
    assert pauses.of_worker("w-1") == lasting
    pauses.apply([])
    assert pauses.all() == []
    assert pauses.of_worker("w-1") is None


def test_a_cause_names_who_paused_what_until_when_and_why() -> None:
    assert make_pause(left=90).cause == (
        "the transfers of tenant north are paused by ana until 2026-01-31 12:01:30 UTC: disks"
    )
    assert make_pause(WORKER).cause == "worker w-1 is drained by ana: disks"


async def test_the_log_has_a_line_as_a_pause_begins_and_ends_and_slots_hear_of_the_end() -> None:
    tenants = GivenTenants(Settings(tenants=("north",)))
    ended: list[None] = []
    paused = Paused(tenants=tenants, worker="w-1", ended=lambda: ended.append(None))
    other = PauseSubject(scope=PauseScope.WORKER, name="w-2")
    with capture_logs() as lines:
        tenants.apply(Configuration(pauses=(make_pause(), make_pause(other))))
        await paused.tell()
        await paused.tell()
        assert not ended
        tenants.apply(Configuration())
        await paused.tell()
        await paused.tell()
    assert [(line["event"], line["tenant"], line["reason"]) for line in lines] == [
        ("pause_begins", "north", "disks"),
        ("pause_ends", "north", "disks"),
    ]
    assert len(ended) == 1
