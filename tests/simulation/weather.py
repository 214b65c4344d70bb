"""What goes wrong between the parties, and how often: until the calm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, TypeAlias, TypeVar

from structlog.contextvars import get_contextvars

from tests.simulation.draws import Draws
from tests.simulation.processes import PROCESS, Process

T = TypeVar("T")

_IN_NO_TIME = 0.7  # of 1; a step is a moment, too
NO_PROCESS = Context()  # what a party does is done by no process: it outlives whose request it was


class _Turn:
    """Let others run: `asyncio.sleep(0)`, which is asked for at each second step."""

    def __await__(self) -> Generator[None, None, None]:
        yield


_TURN = _Turn()


@dataclass(frozen=True, slots=True)
class _Way:
    """The way to a party."""

    stream: Random  # of how long it takes
    slow: str | None  # the fault, if it may be


# What befalls a process at a step of its work (`tests.simulation.ambush`). Returns whether the
# answer to what it asks is lost.
About: TypeAlias = tuple[str, str]  # tenant and correlation id of the delivery that it is about
OnStep: TypeAlias = Callable[[str, Process, About | None], bool]


@dataclass
class Weather:
    """How often, of 1, each fault comes. Those that are not named never come."""

    draws: Draws
    faults: Mapping[str, float]
    note: Callable[..., None]
    pace: float = 0.02  # seconds that bytes are on their way, at most
    calm: bool = False
    down: dict[str, str] = field(default_factory=dict)  # parties that answer nothing, and why
    _ways: dict[str, _Way] = field(default_factory=dict)  # by party
    on_step: OnStep | None = None  # None: nothing lies in wait

    def strikes(self, fault: str) -> bool:
        """Whether a fault comes now."""
        if self.calm or (often := self.faults.get(fault, 0.0)) <= 0:
            return False
        return self.draws.of(fault).random() < often

    def step(self, what: str, process: Process | None, about: About | None) -> bool:
        """Let what lies in wait for a step strike; return whether the answer to it is lost."""
        if self.on_step is None or process is None or self.calm:
            return False
        return self.on_step(what, process, about)

    def why_away(self, party: str) -> str | None:
        """Return why a party does not answer the process that runs; None if it does."""
        if (cause := self.down.get(party)) is not None:
            return cause
        process = PROCESS.get()
        if process is not None and party in process.cut_off:
            return f"{process} is cut off from it"
        return None

    def later(self, party: str, *, longest: float = 0.02) -> float:
        """Return the seconds that something takes on its way; now and then, far more."""
        way = self._way(party)
        if way.slow and self.strikes(way.slow):
            return way.stream.uniform(0, 8)
        return way.stream.uniform(0.0005, longest)

    def travel(self, party: str, *, longest: float) -> Awaitable[None]:
        """Be on the way to a party, or back: mostly in no time."""
        way = self._way(party)
        if way.slow and self.strikes(way.slow):
            return asyncio.sleep(way.stream.uniform(0, 8))
        if self.calm or way.stream.random() < _IN_NO_TIME:
            return _TURN
        return asyncio.sleep(way.stream.uniform(0.0005, longest))

    def _way(self, party: str) -> _Way:
        way = self._ways.get(party)
        if way is None:
            slow = f"{party} is slow"
            way = _Way(self.draws.of(f"{party} takes"), slow if self.faults.get(slow) else None)
            self._ways[party] = way
        return way


@dataclass(frozen=True, kw_only=True)
class Link:
    """The way from the process that asks to one party, and back.

    A request may be lost, or arrive late, also when its sender is gone; an answer may be lost.
    Silence ends after `deadline` seconds, in which the request may still be carried out.
    """

    party: str
    weather: Weather
    deadline: float

    async def ask(
        self,
        what: str,
        act: Callable[[], T],
        *,
        away: Callable[[str], Exception],
        takes: float = 0.02,
        mute: bool = False,
        about: About | None = None,
    ) -> T:
        """Have `act` done on the other side; return its answer, or raise what `away` makes.

        It is on its way for as long as it `takes`, at most; one that is `mute` never answers.
        """
        weather, party = self.weather, self.party
        loop = asyncio.get_running_loop()
        process = PROCESS.get()
        if weather.on_step is not None:
            about = about or about_now()
        await self._set_out(what, process, about, away)
        answered: asyncio.Future[T] = loop.create_future()
        lost = weather.strikes(f"{party} loses answers")
        silent = mute or weather.strikes(f"{party} is silent")

        def arrives() -> None:
            outcome = _outcome(act)
            broken = weather.step(f"after {what}", process, about)
            if broken and not answered.done():
                answered.set_exception(away("the connection broke before it was answered"))
            if lost or silent:
                weather.note(f"{party} was not heard to answer: {what}")
            else:
                reply = partial(_tell, answered, outcome)
                loop.call_later(weather.later(party), reply, context=NO_PROCESS)

        on_its_way = weather.later(party, longest=takes)
        if silent:  # whenever it likes
            on_its_way = weather.draws.of(f"{party} takes").uniform(0, self.deadline)
        loop.call_later(on_its_way, arrives, context=NO_PROCESS)
        if lost:
            await asyncio.sleep(on_its_way + weather.later(party))
            raise away("the connection broke before it was answered")
        try:
            async with asyncio.timeout(self.deadline):
                return await answered
        except TimeoutError:
            raise away(f"no answer within {self.deadline:g} s") from None

    async def _set_out(
        self,
        what: str,
        process: Process | None,
        about: About | None,
        away: Callable[[str], Exception],
    ) -> None:
        """Send a request, or fail to."""
        weather, party = self.weather, self.party
        if weather.on_step is not None:
            if weather.step(f"before {what}", process, about):
                raise away("the connection broke before it was asked")
            await asyncio.sleep(0)  # a process that was stopped there goes no further
        if (cause := weather.why_away(party)) is not None:
            await asyncio.sleep(weather.later(party))
            raise away(cause)
        if weather.strikes(f"{party} loses requests"):
            weather.note(f"{party} never hears of: {what}")
            await asyncio.sleep(weather.later(party))
            raise away("the connection broke before it was asked")


def about_now() -> About | None:
    """Return which delivery a slot works on now."""
    named = get_contextvars()
    return (named["tenant"], named["correlation_id"]) if "correlation_id" in named else None


def _outcome(act: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return act(), None
    except Exception as error:  # noqa: BLE001 - it is the answer
        return None, error


def _tell(answered: asyncio.Future[Any], outcome: tuple[Any, Exception | None]) -> None:
    answer, error = outcome
    if answered.done():
        return
    if error is None:
        answered.set_result(answer)
    else:
        answered.set_exception(error)


def by_no_process(delay: float, act: Callable[[], object]) -> None:
    """Let a party do something later, whatever becomes of the process that runs now."""
    asyncio.get_running_loop().call_later(delay, act, context=NO_PROCESS)
