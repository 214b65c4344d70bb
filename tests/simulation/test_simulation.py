"""The simulator itself, and some nights; `make simulate` plays as many as there is time for.

What sleeps here sleeps by the simulated clock: an hour takes no time.
"""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from app.delivery.pauses import PauseScope, Running
from app.delivery.states import State
from app.store.memory.database import utc_now
from app.store.memory.transaction import MemoryUnitOfWork
from tests.simulation import defects
from tests.simulation.bounds import Bounds
from tests.simulation.checks import Checks
from tests.simulation.defects import DEFECTS, ROOT, Defect, Sight, seen_by
from tests.simulation.draws import Draws
from tests.simulation.loop import SimulatedLoop, StandsStillError
from tests.simulation.night import Night, play
from tests.simulation.owed import Owed
from tests.simulation.pauses import PauseStep
from tests.simulation.plan import (
    _FLAWS,
    FORMATS_FROM,
    NAMES_FROM,
    PARTS_FROM,
    PAUSES_FROM,
    WEBHOOKS_FROM,
    Plan,
    draw,
)
from tests.simulation.postgres import Change, SimulatedDatabase
from tests.simulation.processes import Process
from tests.simulation.shrink import shrink
from tests.simulation.weather import NO_PROCESS, Weather


def run(work: object, *, seed: int = 0, disorder: float = 0.0) -> object:
    loop = SimulatedLoop(Random(seed), disorder=disorder)
    try:
        return loop.run_until_complete(work)  # type: ignore[arg-type]
    finally:
        loop.close()


def simulate(*options: str) -> str:
    """Run the command in a process of its own; return what it prints."""
    return run_python("-m", "tests.simulation", *options)


def run_python(*options: str) -> str:
    played = subprocess.run(
        [sys.executable, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    return played.stdout


def test_time_is_jumped_over() -> None:
    async def sleep() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert run(sleep()) == pytest.approx(3600, abs=0.001)


@pytest.mark.parametrize("disorder", [0.0, 1.0])
def test_steps_of_tasks_are_taken_in_an_order_that_the_seed_gives(disorder: float) -> None:
    async def count(number: int, order: list[int]) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
            order.append(number)

    async def race() -> list[int]:
        order: list[int] = []
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(count(number, order))
        return order

    orders = [run(race(), seed=seed, disorder=disorder) for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert (orders[0] == orders[2]) is (disorder == 0.0)


def test_tasks_of_a_set_are_in_the_order_in_which_they_were_made() -> None:
    """Whatever else is in memory: TaskGroups cancel their tasks in the order of a set."""

    async def make() -> list[int]:
        others, tasks = [], []
        for number in range(12):
            others.append([asyncio.get_running_loop().create_future() for _ in range(number % 3)])
            tasks.append(asyncio.create_task(asyncio.sleep(0)))
        return [tasks.index(task) for task in set(tasks)]

    assert run(make()) == list(range(12))


def test_a_loop_in_which_nothing_is_left_to_do_says_so() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StandsStillError):
        run(wait())


@pytest.mark.parametrize("patience", [0, 1000])
def test_what_hangs_is_told_and_does_not_keep_a_night_from_ending(patience: float) -> None:
    """A worker that is at its delivery for ever has that under way, and it is due for ever."""
    told: list[str] = []

    async def wait() -> float:
        database: Any = SimpleNamespace(transactions=0)
        worker: Any = SimpleNamespace(process=Process("w"), held=None)
        async with asyncio.timeout(5000):
            await Bounds(database, told.append).at_rest(
                [worker], is_due=lambda: True, patience=patience
            )
        return asyncio.get_running_loop().time()

    waited = run(wait())
    assert isinstance(waited, float)
    assert waited >= patience
    assert told == ["at rest w has not started"]


def test_time_that_is_skipped_postpones_all_timers_but_those_of_one_context() -> None:
    async def play_it() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        kept = loop.create_future()
        loop.call_later(100, lambda: kept.set_result(loop.time()), context=NO_PROCESS)
        assert [when for when, _ in loop.due(NO_PROCESS)] == [pytest.approx(100, abs=0.001)]
        postponed = asyncio.create_task(asyncio.sleep(1))
        await asyncio.sleep(0)
        loop.skip(90, but=NO_PROCESS)
        await postponed
        woke = loop.time()
        return woke, await kept

    assert run(play_it()) == (pytest.approx(91, abs=0.001), pytest.approx(100, abs=0.001))


def test_a_killed_process_takes_no_further_step_not_even_its_clean_up() -> None:
    async def play_it() -> tuple[list[str], list[str]]:
        steps: list[str] = []
        cut: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(1)
                steps.append("one")
                await asyncio.sleep(1)
                steps.append("two")
            finally:
                steps.append("clean-up")

        process = Process("w")
        process.while_alive("a connection", lambda: cut.append("cut"))
        process.start(work())
        await asyncio.sleep(1.5)
        process.kill()
        await asyncio.sleep(10)
        return list(steps), cut

    assert run(play_it()) == (["one"], ["cut"])


def test_a_frozen_process_goes_on_where_it_stood_when_it_is_thawed() -> None:
    async def play_it() -> float:
        async def work() -> float:
            await asyncio.sleep(1)
            return asyncio.get_running_loop().time()

        process = Process("w")
        task = process.start(work())
        await asyncio.sleep(0.5)
        process.freeze()
        await asyncio.sleep(30)
        process.thaw()
        at: float = await task
        return at

    assert run(play_it()) == pytest.approx(30.5, abs=0.001)


def test_a_process_that_has_more_than_it_may_says_so() -> None:
    async def play_it() -> tuple[list[str], int]:
        exceeded: list[str] = []
        process = Process("w")
        process.exceeds = lambda what, has: exceeded.append(f"{has} {what}")
        process.bound("messages", 2)
        for _ in range(3):
            process.take("messages")
        process.give("messages")
        return exceeded, process.holds["messages"]

    assert run(play_it()) == (["3 messages"], 2)


def test_a_process_knows_the_tasks_that_it_made_and_that_have_not_ended() -> None:
    async def play_it() -> list[int]:
        async def work() -> None:
            beside = asyncio.create_task(asyncio.sleep(5))
            await asyncio.sleep(1)
            assert not beside.done()

        process = Process("w")
        process.start(work())
        counts = []
        for _ in range(3):
            await asyncio.sleep(0.8)
            counts.append(process.running())
        await asyncio.sleep(10)
        return [*counts, process.running()]

    assert run(play_it()) == [2, 1, 1, 0]


def test_the_same_seed_gives_the_same_night() -> None:
    first, second = (play(draw(11)) for _ in range(2))
    assert [str(line) for line in first.lines] == [str(line) for line in second.lines]
    assert first.lines


def test_a_night_leaves_nothing_in_memory() -> None:
    """Else a hundred thousand would not fit. In a process of its own: pytest keeps the log."""
    play_three = """
import gc
from tests.simulation.night import play
from tests.simulation.plan import draw

for seed in (11, 12, 13):
    play(draw(seed))
    print(gc.get_freeze_count() + len(gc.get_objects()))
"""
    _, second, third = map(int, run_python("-c", play_three).split())
    assert abs(third - second) < 1000


def test_a_night_may_be_of_a_kind_that_is_asked_for() -> None:
    assert draw(11, of="late").kind == "late"
    assert draw(11) == draw(11, of=draw(11).kind)


def test_a_night_of_a_search_ends_at_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it patched is as before: else the next night would be another one."""
    before = MemoryUnitOfWork.advance
    whole = play(draw(11))
    monkeypatch.setattr(Checks, "appeared", lambda checks, *_: checks.wrong("it appears"))
    night = play(draw(11), to_the_end=False)
    assert night.wrong == ["it appears"]
    assert 0 < night.seconds < whole.seconds
    assert MemoryUnitOfWork.advance is before


def test_a_check_that_breaks_is_wrong_and_no_failure_of_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the worker would try again, and the night would blame it for what it did first."""

    def breaks(*_: object) -> None:
        raise TypeError("no row")

    monkeypatch.setattr(Owed, "committing", breaks)
    night = play(draw(11), to_the_end=False)
    assert night.wrong[0] == "a check of a commit broke: TypeError('no row')"
    assert not any("no row" in line.what for line in night.lines)


@pytest.mark.parametrize("noted", [True, False])
def test_a_report_that_comes_behind_the_archive_is_wrong_where_nothing_looks_for_it(
    noted: bool,
) -> None:
    parties: Any = SimpleNamespace(shelf=SimpleNamespace(fences=SimpleNamespace()))
    clients: Any = SimpleNamespace()
    checks = Checks(parties, clients, patient=False, epoch=utc_now())
    row: Any = SimpleNamespace(
        state=State.DONE, delivery="delivery d", report=object() if noted else None
    )
    checks._report_appeared("d/report.json", row, None)  # noqa: SLF001 - as `placed` does
    assert bool(checks.found) is not noted


def test_a_row_that_came_and_went_within_a_transaction_is_no_change() -> None:
    """As a delivery that is opened, and denied over its quota."""

    async def commit() -> list[tuple[object, object]]:
        weather = Weather(draws=Draws(0), faults={}, note=lambda *_: None)
        database = SimulatedDatabase(weather, now=utc_now)
        seen: list[Change] = []
        database.on_commit = lambda _, changes: seen.extend(changes)
        async with database.session() as session:
            session.put(database.dead_letter_looks, "stays", 1)
            session.put(database.dead_letter_looks, "goes", 1)
            session.remove(database.dead_letter_looks, "goes")
        return [(change.before, change.after) for change in seen]

    assert run(commit()) == [(None, 1)]


def test_the_same_seed_gives_the_same_night_in_another_process() -> None:
    assert simulate("--seed=12") == simulate("--seed=12")


def test_some_nights_end_well() -> None:
    assert "30 nights" in simulate("--seeds=30", "--jobs=2")


def test_each_format_is_asked_for_in_later_nights_alone() -> None:
    """So that the nights before stay what they were."""
    before = play(draw(11))
    assert not before.plan.formats
    night = play(draw(FORMATS_FROM))
    assert night.wrong == []

    def made(night: Night) -> str:
        return " ".join(line.what for line in night.lines if line.what.startswith("delivery_done"))

    assert all(suffix in made(night) for suffix in (".zip", ".tar ", ".tar.zst", "/manifest.json"))
    assert ".zip" in made(before)
    assert not any(suffix in made(before) for suffix in (".tar", "/manifest.json"))


def test_archives_go_where_requests_say_in_later_nights_alone() -> None:
    assert not draw(NAMES_FROM - 1).names
    night = play(draw(NAMES_FROM))
    assert night.wrong == []
    keys = {
        line.what.partition("url=memory://")[2].partition(" ")[0].partition("/")[2]
        for line in night.lines
        if line.what.startswith("delivery_done")
    }
    assert any(key.count("/") > 1 for key in keys)


def test_clients_take_what_there_is_in_later_nights_alone() -> None:
    assert not draw(PARTS_FROM - 1).parts
    assert not draw(PARTS_FROM - 1).faults.keys() & _FLAWS
    night = play(draw(PARTS_FROM))
    assert night.wrong == []
    told = [line.what for line in night.lines]
    assert any(line.startswith("file_left_out") for line in told)
    assert any(line.startswith("manifest_written") for line in told)


def test_webhooks_are_told_of_what_happens_in_later_nights_alone() -> None:
    assert not draw(WEBHOOKS_FROM - 1).webhooks
    night = play(draw(WEBHOOKS_FROM))
    assert night.wrong == []
    told = [line.what for line in night.lines if line.what.startswith("webhook_event_sent")]
    for event in ("accepted", "denied", "done", "content.removed"):
        assert any(f" type={event} " in line for line in told), event


def test_transfers_are_paused_and_workers_drained_in_later_nights_alone() -> None:
    assert draw(PAUSES_FROM - 1).pauses is None
    calm = replace(draw(PAUSES_FROM), pauses=_PAUSES, faults={}, disasters=(), ambushes=())
    night = play(replace(calm, pace=4.0))  # so that much runs as a pause begins
    assert night.wrong == []
    told = [line.what for line in night.lines]
    assert any(line.startswith("work_stops") for line in told)
    for scope in ("instance", "tenant", "target", "worker"):
        assert any(line.startswith("pause_begins") and f" scope={scope} " in line for line in told)
        assert any(line.startswith("pause_ends") and f" scope={scope} " in line for line in told)


_PAUSES = tuple(
    PauseStep(
        at=at,
        lasts=10.0,
        scope=scope,
        tenant="north",
        whom=1,
        running=Running.STOP,
        by_itself=by_itself,
    )
    for scope, at, by_itself in (
        (PauseScope.WORKER, 5.0, True),
        (PauseScope.TENANT, 20.0, False),
        (PauseScope.TARGET, 40.0, True),
        (PauseScope.INSTANCE, 60.0, False),
        (PauseScope.INSTANCE, 80.0, True),
    )
)


def test_nights_that_were_found_end_well() -> None:
    assert simulate("--found").count(": well")


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_can_be_put_back(defect: Defect) -> None:
    """The text that it replaces stands in the code, once; what comes of it is code."""
    assert defect.is_there()
    ast.parse(defect.code())


def test_a_night_that_fails_without_a_defect_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nights 3 and 5 fail with it; 3 fails of itself."""
    played: list[tuple[str, ...]] = []

    def play(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
        assert folder != ROOT
        played.append(options)
        seed = 3 if "--first=0" in options else 5
        return subprocess.CompletedProcess(options, 1, f"9 nights\n\nSEED={seed} fails:\n  lost\n")

    monkeypatch.setattr(defects, "_play", play)
    monkeypatch.setattr(defects, "_fails_without", lambda seed, kind: (seed, kind) == (3, "ends"))
    defect = replace(DEFECTS[0], kind="ends", since=0)
    assert defects.find(defect, seeds=10, jobs=1) == Sight(seed=5, how="lost")
    assert played == [
        ("--plain", "--first=0", "--seeds=10", "--kind=ends", "--jobs=1"),
        ("--plain", "--first=4", "--seeds=6", "--kind=ends", "--jobs=1"),
    ]


@pytest.mark.parametrize("still", [True, False])
def test_the_night_that_saw_a_defect_last_comes_first(
    monkeypatch: pytest.MonkeyPatch, *, still: bool
) -> None:
    """Others are searched only where it sees the defect no more."""
    played: list[str] = []

    def play(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
        assert folder != ROOT
        played.append(options[1])
        seed = 7 if "--first=7" in options else 2
        if seed == 7 and not still:
            return subprocess.CompletedProcess(options, 0, "1 nights\n")
        return subprocess.CompletedProcess(options, 1, f"9 nights\n\nSEED={seed} fails:\n  lost\n")

    monkeypatch.setattr(defects, "_play", play)
    monkeypatch.setattr(defects, "_fails_without", lambda _seed, _kind: False)
    defect = replace(DEFECTS[0], since=0)
    sight = defects.find(defect, seeds=10, jobs=1, known=7)
    assert sight == Sight(seed=7 if still else 2, how="lost")
    assert played == ["--first=7", *([] if still else ["--first=0"])]


def test_seeds_are_kept_of_defects_that_there_are_and_of_nights_that_can_meet_them() -> None:
    since = {defect.name: defect.since for defect in DEFECTS}
    assert all(seed >= since[name] for name, seed in seen_by().items())


def test_a_night_is_made_smaller_as_long_as_it_fails_in_the_same_way() -> None:
    whole = replace(draw(3), disorder=0.5)
    needed = whole.wishes[4]

    def played(plan: Plan) -> Night:
        wrong = ["it is lost"] if needed in plan.wishes else []
        return Night(plan, wrong=[*wrong, "another thing"][: 1 if wrong else 2])

    smallest = shrink(played(whole), play=played).plan
    assert smallest.wishes == (needed,)
    assert (smallest.disasters, smallest.steps, smallest.faults) == ((), (), {})
    assert smallest.disorder == 0.0
