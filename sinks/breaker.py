"""Which S3 servers answer, as far as this process knows from its own requests.

A circuit breaker for each server (host and port): while it does not answer, its circuit is open, no
new transfer begins there, and a probe of the breaker's own, one at a time, finds out when it is
back. Transfers that run are not stopped: they wait, or are answered, which closes the circuit too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from prometheus_client import Gauge

from app.errors import DeliveryError, TargetUnavailableError
from app.logs import get_logger
from app.model import S3Target, TargetTrouble

log = get_logger(__name__)

_SILENCE = (TimeoutError, ConnectTimeoutError, ReadTimeoutError)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When a circuit opens, and how it closes."""

    silence: float = 4.0  # seconds that a quick request may be without an answer
    failures: int = 3  # in a row, of any requests; one that was met by silence is enough
    window: float = 120.0  # seconds within which they count as a row
    first_pause: float = 1.0  # seconds before the first probe; doubles with each one in vain
    longest_pause: float = 60.0
    probe: float = 5.0  # seconds that a probe may take
    forgiven: float = 300.0  # seconds closed, after which pauses begin anew with the first


@dataclass
class _Circuit:
    """What is known of one server."""

    target: S3Target  # that was asked last: whom a probe asks for
    failures: int = 0  # in a row
    failing_since: float = 0.0  # by the monotonic clock
    pause: float = 0.0  # seconds
    closed_at: float = float("-inf")  # by the monotonic clock
    trouble: TargetTrouble | None = None  # None: closed
    probing: asyncio.Task[None] | None = field(default=None, repr=False)


def server_of(target: S3Target) -> str:
    """Return host and port of a target."""
    address = urlsplit(target.endpoint)
    return f"{address.hostname}:{address.port or _PORTS.get(address.scheme, 443)}"


class Breakers:
    """The circuits of one process.

    `probe` asks a target for anything, and raises like a sink; `up` is where each server shows.
    """

    def __init__(
        self,
        probe: Callable[[S3Target], Awaitable[None]],
        *,
        patience: Patience | None = None,
        up: Gauge | None = None,
    ) -> None:
        self._probe = probe
        self._patience = patience or Patience()
        self._up = up
        self._circuits: dict[str, _Circuit] = {}
        self.on_change: list[Callable[[], object]] = []  # called when a circuit opens or closes

    def trouble(self, target: S3Target) -> TargetTrouble | None:
        """Return why nothing new is to be sent there; None when nothing speaks against it."""
        circuit = self._circuits.get(server_of(target))
        return circuit.trouble if circuit is not None else None

    @contextlib.contextmanager
    def watching(self, target: S3Target, *, quick: bool = False) -> Iterator[None]:
        """Learn from how a request to the target ends. One that is cancelled teaches nothing.

        A quick one that is not answered within moments opens the circuit before its deadline:
        should the server only be slow, a probe closes it at once.
        """
        loop, silence = asyncio.get_running_loop(), self._patience.silence
        waiting = loop.call_later(silence, self._silent, target) if quick else None
        try:
            yield
        except TargetUnavailableError as error:
            self._failed(target, error)
            raise
        except DeliveryError:
            self._answered(target)
            raise
        else:
            self._answered(target)
        finally:
            if waiting is not None:
                waiting.cancel()

    def _silent(self, target: S3Target) -> None:
        circuit = self._circuit(target)
        if circuit.trouble is None:
            self._open(circuit, f"no answer from {target} for {self._patience.silence:g} seconds")

    def _circuit(self, target: S3Target) -> _Circuit:
        server = server_of(target)
        if server not in self._circuits:
            self._circuits[server] = _Circuit(target)
            self._show(server, up=True)
        circuit = self._circuits[server]
        circuit.target = target
        return circuit

    def _answered(self, target: S3Target) -> None:
        circuit = self._circuit(target)
        circuit.failures = 0
        if circuit.trouble is not None:
            self._close(circuit)

    def _failed(self, target: S3Target, error: TargetUnavailableError) -> None:
        circuit = self._circuit(target)
        now = time.monotonic()
        if not circuit.failures or now - circuit.failing_since > self._patience.window:
            circuit.failures = 0
            circuit.failing_since = now
        circuit.failures += 1
        silent = isinstance(error.__cause__, _SILENCE)
        if circuit.trouble is None and (silent or circuit.failures >= self._patience.failures):
            self._open(circuit, str(error))

    def _open(self, circuit: _Circuit, cause: str) -> None:
        patience = self._patience
        if time.monotonic() - circuit.closed_at > patience.forgiven:
            circuit.pause = patience.first_pause
        else:  # it came back for a moment only
            circuit.pause = min(2 * circuit.pause, patience.longest_pause)
        now = datetime.now(UTC)
        server = server_of(circuit.target)
        circuit.trouble = TargetTrouble(
            server=server,
            cause=cause,
            since=now,
            asked_again=now + timedelta(seconds=circuit.pause),
        )
        self._show(server, up=False)
        log.warning(
            "target_away",
            server=server,
            cause=cause,
            consequence="no transfer to it begins until a probe is answered",
        )
        circuit.probing = asyncio.create_task(self._probe_until_answered(circuit))
        self._changed()

    def _close(self, circuit: _Circuit) -> None:
        server = server_of(circuit.target)
        circuit.trouble = None
        circuit.closed_at = time.monotonic()
        if circuit.probing is not None and circuit.probing is not asyncio.current_task():
            circuit.probing.cancel()
        circuit.probing = None
        self._show(server, up=True)
        log.info("target_back", server=server)
        self._changed()

    def _show(self, server: str, *, up: bool) -> None:
        if self._up is not None:
            self._up.labels(server).set(up)

    def _changed(self) -> None:
        for tell in self.on_change:
            tell()

    async def _probe_until_answered(self, circuit: _Circuit) -> None:
        """Probe, again and again; the answer itself closes the circuit, whatever it says."""
        while circuit.trouble is not None:
            # Many workers that lost a server together must not come back to it together.
            pause = circuit.pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
            circuit.trouble = circuit.trouble.until(datetime.now(UTC) + timedelta(seconds=pause))
            await asyncio.sleep(pause)
            with contextlib.suppress(DeliveryError, TimeoutError):
                async with asyncio.timeout(self._patience.probe):
                    await self._probe(circuit.target)
            circuit.pause = min(2 * circuit.pause, self._patience.longest_pause)

    async def close(self) -> None:
        """End all probes."""
        tasks = [one.probing for one in self._circuits.values() if one.probing is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
