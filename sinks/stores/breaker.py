"""Which servers of one kind answer, as far as this process knows from its own requests.

A circuit breaker for each server: while it does not answer, its circuit is open, no new transfer
begins there, and a probe of the breaker's own, one at a time, finds out when it is back. A
container whose requests are answered with errors has a circuit of its own: others there may be
well.
Transfers that run are not stopped: they wait, or are answered, which closes the circuit, too.
What no tenant delivers to any more is forgotten: it is probed no longer, and no figure shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from prometheus_client import Gauge

from app.delivery.targets import Target, TargetTrouble
from app.errors import DeliveryError, TargetRefusedError, TargetUnavailableError
from app.telemetry.logs import get_logger
from app.waiting.backoff import Backoff

log = get_logger(__name__)

TargetT = TypeVar("TargetT", bound=Target)  # of one kind

_MAX_CIRCUITS = 1000  # circuits
_PROBES = Backoff(first=1.0, longest=60.0)


@dataclass(frozen=True, kw_only=True)
class BreakerPolicy:
    """When a circuit opens, and how it closes."""

    silence: float = 4.0  # seconds that a quick request may be without an answer
    failures: int = 3  # in a row, of any requests; one that was met by silence is enough
    window: float = 120.0  # seconds within which they count as a row
    backoff: Backoff = _PROBES  # before a probe, by those in vain
    probe: float = 5.0  # seconds that a probe may take
    forgiven: float = 300.0  # seconds closed, after which pauses begin again with the first


@dataclass(frozen=True, kw_only=True)
class Signs(Generic[TargetT]):
    """What requests of one kind of store tell of its servers."""

    kind: str  # of server, in a word for people
    # What a target's circuits are called: that of its server, and that of its container.
    places: Callable[[TargetT], tuple[str, str]]
    said: Callable[[DeliveryError], bool]  # whether an error is what a server said, whatever it is
    answered: Callable[[DeliveryError], bool]  # the same, and not only that it is busy
    silent: Callable[[DeliveryError], bool]  # whether nothing came within its time


@dataclass
class _Circuit(Generic[TargetT]):
    """What is known of one server, or of one container there."""

    place: str
    target: TargetT  # that was asked last: whom a probe asks for
    failures: int = 0  # in a row
    failing_since: float = 0.0  # by the monotonic clock
    failed_probes: int = 0  # in a row, and times it came back for a moment: pauses go by it
    closed_at: float = float("-inf")  # by the monotonic clock
    trouble: TargetTrouble | None = None  # None: closed
    probing: asyncio.Task[None] | None = field(default=None, repr=False)


class Breakers(Generic[TargetT]):
    """The circuits of one process.

    `probe` asks a target for anything, and raises like a sink; `up` is where each server shows.
    `in_use`, set when it is known, gives the targets that tenants have now.
    """

    in_use: Callable[[], Iterable[TargetT]] | None = None

    def __init__(
        self,
        probe: Callable[[TargetT], Awaitable[None]],
        signs: Signs[TargetT],
        *,
        policy: BreakerPolicy | None = None,
        up: Gauge | None = None,
        most: int = _MAX_CIRCUITS,
    ) -> None:
        self._probe = probe
        self._signs = signs
        self._policy = policy or BreakerPolicy()
        self._up = up
        self._most = most
        self._circuits: dict[str, _Circuit[TargetT]] = {}
        self.on_change: list[Callable[[], object]] = []  # called when a circuit opens or closes

    def __len__(self) -> int:
        """How many places are watched: those where something went wrong lately."""
        return len(self._circuits)

    def trouble(self, target: TargetT) -> TargetTrouble | None:
        """Return why nothing new is to be sent there; None when nothing speaks against it."""
        circuits = map(self._circuits.get, self._signs.places(target))
        return next((circuit.trouble for circuit in circuits if circuit and circuit.trouble), None)

    @contextlib.contextmanager
    def watching(self, target: TargetT, *, quick: bool = False) -> Iterator[None]:
        """Learn from how a request to the target ends. One that is cancelled teaches nothing.

        A quick one that is not answered within moments opens the circuit before its deadline:
        should the server only be slow, a probe closes it at once.
        """
        loop, silence = asyncio.get_running_loop(), self._policy.silence
        waiting = loop.call_later(silence, self._silent, target) if quick else None
        try:
            yield
        except TargetUnavailableError as error:
            self._failed(target, error)
            raise
        except DeliveryError as error:
            if self._signs.answered(
                error
            ):  # else nothing was asked: it is forbidden, or impossible
                self._answered(target)
            raise
        else:
            self._answered(target)
        finally:
            if waiting is not None:
                waiting.cancel()

    def _silent(self, target: TargetT) -> None:
        circuit = self._circuit(self._signs.places(target)[0], target)
        if circuit.trouble is None:
            self._open(circuit, f"no answer from {target} for {self._policy.silence:g} seconds")

    def _circuit(self, place: str, target: TargetT) -> _Circuit[TargetT]:
        if place not in self._circuits:
            self._make_room()
            self._circuits[place] = _Circuit(place, target)
            self._show(place, up=True)
        circuit = self._circuits[place]
        circuit.target = target
        return circuit

    def forget_unused(self) -> None:
        """Forget the places that no tenant has any more."""
        if self.in_use is not None:
            used = {place for target in self.in_use() for place in self._signs.places(target)}
            for place in self._circuits.keys() - used:
                self._forget(self._circuits[place])

    def _make_room(self) -> None:
        if len(self._circuits) >= self._most:
            self.forget_unused()
        if len(self._circuits) >= self._most:  # the oldest one: those that are closed first
            self._forget(
                min(self._circuits.values(), key=lambda circuit: circuit.trouble is not None)
            )

    def _forget(self, circuit: _Circuit[TargetT]) -> None:
        del self._circuits[circuit.place]
        was_open, circuit.trouble = circuit.trouble is not None, None
        self._end_probe(circuit)
        if self._up is not None:
            self._up.remove(circuit.place)
        if was_open:
            log.info("target_forgotten", server=circuit.place)
            self._changed()

    def _answered(self, target: TargetT) -> None:
        server, container = self._signs.places(target)
        self._heard(self._circuit(server, target))
        if container in self._circuits:
            self._heard(self._circuits[container])

    def _heard(self, circuit: _Circuit[TargetT]) -> None:
        circuit.failures = 0
        if circuit.trouble is not None:
            self._close(circuit)

    def _failed(self, target: TargetT, error: TargetUnavailableError) -> None:
        server, container = self._signs.places(target)
        if self._signs.said(error):
            self._heard(self._circuit(server, target))
            circuit = self._circuit(container, target)
        else:
            circuit = self._circuit(server, target)
        now = time.monotonic()
        if not circuit.failures or now - circuit.failing_since > self._policy.window:
            circuit.failures = 0
            circuit.failing_since = now
        circuit.failures += 1
        silent = self._signs.silent(error)
        if circuit.trouble is None and (silent or circuit.failures >= self._policy.failures):
            self._open(circuit, str(error))

    def _open(self, circuit: _Circuit[TargetT], cause: str) -> None:
        policy = self._policy
        if time.monotonic() - circuit.closed_at > policy.forgiven:
            circuit.failed_probes = 0
        else:  # it came back for a moment only
            circuit.failed_probes += 1
        now = datetime.now(UTC)
        circuit.trouble = TargetTrouble(
            kind=self._signs.kind,
            server=circuit.place,
            cause=cause,
            since=now,
            asked_again=now + timedelta(seconds=policy.backoff.pause(circuit.failed_probes)),
        )
        self._show(circuit.place, up=False)
        log.warning(
            "target_away",
            server=circuit.place,
            cause=cause,
            consequence="no transfer to it begins until a probe is answered",
        )
        # Not in the context of what opened it: its log lines would name that delivery, or request.
        circuit.probing = asyncio.create_task(
            self._probe_until_answered(circuit), context=contextvars.Context()
        )
        self._changed()

    def _close(self, circuit: _Circuit[TargetT]) -> None:
        circuit.trouble = None
        circuit.closed_at = time.monotonic()
        self._end_probe(circuit)
        self._show(circuit.place, up=True)
        log.info("target_back", server=circuit.place)
        self._changed()

    @staticmethod
    def _end_probe(circuit: _Circuit[TargetT]) -> None:
        if circuit.probing is not None and circuit.probing is not asyncio.current_task():
            circuit.probing.cancel()
        circuit.probing = None

    def _show(self, server: str, *, up: bool) -> None:
        if self._up is not None:
            self._up.labels(server).set(up)

    def _changed(self) -> None:
        for tell in self.on_change:
            tell()

    async def _probe_until_answered(self, circuit: _Circuit[TargetT]) -> None:
        """Probe, again and again; the answer itself closes the circuit, whatever it says."""
        while self._probes(circuit) and circuit.trouble is not None:
            # Jittered: workers that lost a server together must not come back to it together.
            pause = self._policy.backoff.jittered(circuit.failed_probes)
            circuit.trouble = circuit.trouble.until(datetime.now(UTC) + timedelta(seconds=pause))
            await asyncio.sleep(pause)
            try:
                self.forget_unused()
                if circuit.trouble is None:
                    return
                async with asyncio.timeout(self._policy.probe):
                    await self._probe(self._asked_at(circuit))
            except TargetRefusedError as error:
                if not self._signs.answered(error) and self._probes(circuit):
                    self._forget(circuit)  # nothing can be sent there: deliveries end by that
            except (DeliveryError, TimeoutError):
                pass
            except Exception:  # whatever it was: probes must go on
                log.exception("probe_failed", server=circuit.place)
            if self._probes(circuit):
                circuit.failed_probes += 1

    @staticmethod
    def _probes(circuit: _Circuit[TargetT]) -> bool:
        """Whether this task is the circuit's prober: it closes, and may open again with another."""
        return circuit.probing is asyncio.current_task()

    def _asked_at(self, circuit: _Circuit[TargetT]) -> TargetT:
        """Return whom a probe asks for: with the credentials that a tenant has now."""
        now = self.in_use() if self.in_use is not None else ()
        return next(
            (target for target in now if circuit.place in self._signs.places(target)),
            circuit.target,
        )

    async def close(self) -> None:
        """End all probes."""
        tasks = [
            circuit.probing for circuit in self._circuits.values() if circuit.probing is not None
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
