"""What befalls parties and workers: by the clock (disasters), or at a step of theirs (ambushes)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from tests.simulation import postgres, rabbitmq
from tests.simulation.clients import Clients
from tests.simulation.plan import Ambush, Disaster, Step
from tests.simulation.processes import Process
from tests.simulation.weather import About, Weather, by_no_process
from tests.simulation.worker import Parties, Worker

_AWAY = " is away"
_CUT_OFF = "cut off from "
_CLAIMED = "after commit: an attempt"


class Misfortunes:
    """Strikes, and writes down whom."""

    def __init__(
        self,
        *,
        weather: Weather,
        parties: Parties,
        clients: Clients,
        workers: Sequence[Worker],
        step_in: Callable[[Step], None],
    ) -> None:
        """`workers` are those of the moment; `step_in` lets a person do something."""
        self._weather = weather
        self._parties = parties
        self._clients = clients
        self._workers = workers
        self._step_in = step_in
        self._passed: Counter[int] = Counter()  # steps of each ambush
        self._ambushes: Sequence[Ambush] = ()
        self._successors: dict[About, float] = {}  # how long the next one is frozen, in seconds

    def lie_in_wait(self, ambushes: Sequence[Ambush]) -> None:
        """Let these strike, each at its step."""
        if ambushes:
            self._ambushes = ambushes
            self._weather.on_step = self._on_step

    def befall(self, disaster: Disaster) -> None:
        """Let something befall the worker that has a number, or a party."""
        self._weather.note(f"{disaster.what} {disaster.whom} {disaster.lasts or ''}".rstrip())
        self._strike(disaster.what, self._workers[disaster.whom], disaster.lasts)

    def _on_step(self, step: str, process: Process, about: About | None) -> bool:
        if step == _CLAIMED and about in self._successors:
            self._freeze_successor(process, self._successors.pop(about))
        lost = False
        for number, ambush in enumerate(self._ambushes):
            if not step.startswith(ambush.at):
                continue
            self._passed[number] += 1
            if self._passed[number] == ambush.number and process.alive:
                lost |= self._spring(ambush, step, process, about)
        return lost

    def _spring(self, ambush: Ambush, step: str, process: Process, about: About | None) -> bool:
        """Let an ambush strike; return whether the answer to the step is lost."""
        self._weather.note(f"{process}, {step}: {ambush.what} {ambush.lasts or ''}".rstrip())
        if ambush.successor and about is not None:
            self._successors[about] = ambush.successor
        match ambush.what:
            case "lose the answer":
                return True
            case "a client cancels":
                if about is not None:
                    self._clients.cancel(*about)
            case "a person cancels" | "a person retries":
                if about is not None:
                    what = "cancel" if ambush.what.endswith("cancels") else "retry"
                    self._step_in(Step(at=0, what=what, tenant=about[0], correlation_id=about[1]))
            case what:
                for worker in self._workers:
                    if worker.process is process:
                        self._strike(what, worker, ambush.lasts)
        return False

    def _freeze_successor(self, process: Process, seconds: float) -> None:
        self._weather.note(f"{process}, which takes it over: freeze {seconds}")
        process.freeze()
        by_no_process(seconds, process.thaw)

    def _strike(self, what: str, worker: Worker, lasts: float) -> None:
        process = worker.process
        match what:
            case "kill":
                process.kill()
            case "stop":
                worker.stop()
            case "freeze":
                process.freeze()
                by_no_process(lasts, process.thaw)
            case "a worker's clock jumps":
                process.clock += lasts
            case "its connection to RabbitMQ breaks":
                self._parties.broker.break_of(process)
            case cut if cut.startswith(_CUT_OFF):
                party = cut.removeprefix(_CUT_OFF)
                process.cut_off.add(party)
                by_no_process(lasts, partial(process.cut_off.discard, party))
            case away if away.endswith(_AWAY):
                self._go_away(away.removesuffix(_AWAY), lasts)
            case what:
                self._accidents[what](lasts)

    @property
    def _accidents(self) -> dict[str, Callable[[float], None]]:
        parties = self._parties
        return {
            "RabbitMQ restarts": lambda _: parties.broker.restart(forgets=True),
            "a connection to RabbitMQ breaks": lambda _: parties.broker.break_one(),
            "Kafka loses ends": lambda _: parties.log.lose_ends(),
            "Kafka loses topics": lambda _: parties.log.lose_topics(),
            "Kafka forgets commits": lambda _: parties.log.rewind(),
            "uploads are forgotten": lambda _: parties.shelf.forget_uploads(),
            "the clock of PostgreSQL jumps": parties.database.jump,
            "PostgreSQL is read-only": parties.database.become_read_only,
        }

    def _go_away(self, party: str, seconds: float) -> None:
        self._weather.down[party] = "it is away"
        if party == rabbitmq.PARTY:
            self._parties.broker.restart(forgets=False)
        if party == postgres.PARTY:
            self._parties.database.cut_lines()
        by_no_process(seconds, partial(self._weather.down.pop, party, None))
