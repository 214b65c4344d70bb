"""Which folders can't be used now, as far as this process knows from its own calls.

A call that was met by silence, or three in a row that failed in a way that may pass (no space, read
only, an error of the disk), and no new transfer begins there; a probe of its own finds out when it
is good again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from prometheus_client import Gauge

from app.delivery.targets import TargetTrouble
from app.errors import DeliveryError, TargetUnavailableError
from app.telemetry.logs import get_logger
from app.waiting.backoff import Backoff
from sinks.stores.file.faults import PlaceBusyError
from sinks.stores.file.target import FileTarget

log = get_logger(__name__)

PROBES = Backoff(first=1.0, longest=60.0)
_FAILURES = 3  # in a row


@dataclass
class _Circuit:
    """What is known of one folder in which something went wrong."""

    target: FileTarget  # that was asked last
    failures: int = 0  # in a row
    trouble: TargetTrouble | None = None
    probing: asyncio.Task[None] | None = field(default=None, repr=False)


class Circuits:
    """Those of one process. `probe` asks a target for anything, and raises like a sink."""

    in_use: Callable[[], Iterable[FileTarget]] | None = None  # the targets that tenants have

    def __init__(
        self,
        probe: Callable[[FileTarget], Awaitable[None]],
        *,
        up: Gauge | None = None,
        backoff: Backoff = PROBES,
    ) -> None:
        self._probe = probe
        self._up = up
        self._backoff = backoff
        self._circuits: dict[str, _Circuit] = {}
        self.on_change: list[Callable[[], object]] = []

    def trouble(self, target: FileTarget) -> TargetTrouble | None:
        """Return why nothing new is to be put there; None when nothing speaks against it."""
        circuit = self._circuits.get(target.path)
        return None if circuit is None else circuit.trouble

    @contextlib.contextmanager
    def watching(self, target: FileTarget) -> Iterator[None]:
        """Learn from how a call ends: nothing if it was cancelled, or another was in its way.

        What it says is shown to all who deliver there: it names no key.
        """
        try:
            yield
        except TargetUnavailableError as error:
            if not isinstance(error, PlaceBusyError):
                self._failed(target, error)
            raise
        except DeliveryError:
            self._answered(target)
            raise
        else:
            self._answered(target)

    def _failed(self, target: FileTarget, error: TargetUnavailableError) -> None:
        circuit = self._circuits.setdefault(target.path, _Circuit(target))
        circuit.target = target
        circuit.failures += 1
        silent = isinstance(error.__cause__, TimeoutError)
        if circuit.trouble is None and (silent or circuit.failures >= _FAILURES):
            self._open(circuit, str(error))

    def _answered(self, target: FileTarget) -> None:
        circuit = self._circuits.pop(target.path, None)
        if circuit is None or circuit.trouble is None:
            return
        self._end_probe(circuit)
        self._show(circuit, up=True)
        log.info("target_back", server=target.path)
        self._changed()

    def _open(self, circuit: _Circuit, cause: str) -> None:
        now = datetime.now(UTC)
        circuit.trouble = TargetTrouble(
            kind="file",
            server=circuit.target.path,
            cause=cause,
            since=now,
            asked_again=now + timedelta(seconds=self._backoff.first),
        )
        self._show(circuit, up=False)
        log.warning(
            "target_away",
            server=circuit.target.path,
            cause=cause,
            consequence="no transfer to it begins until a probe is answered",
        )
        # Not in the context of what opened it: its log lines would name that delivery.
        circuit.probing = asyncio.create_task(
            self._probe_until_good(circuit), context=contextvars.Context()
        )
        self._changed()

    async def _probe_until_good(self, circuit: _Circuit) -> None:
        """Probe, again and again; what is answered closes the circuit by itself."""
        failed = 0
        while circuit.trouble is not None and self._is_known(circuit):
            pause = self._backoff.jittered(failed)
            circuit.trouble = circuit.trouble.until(datetime.now(UTC) + timedelta(seconds=pause))
            await asyncio.sleep(pause)
            self.forget_unused()
            if not self._is_known(circuit):
                return
            try:
                await self._probe(circuit.target)
            except DeliveryError:
                pass
            except Exception:  # whatever it was: probes must go on
                log.exception("probe_failed", server=circuit.target.path)
            failed += 1

    def _is_known(self, circuit: _Circuit) -> bool:
        return self._circuits.get(circuit.target.path) is circuit

    def forget_unused(self) -> None:
        """Forget the folders that no tenant has any more."""
        if self.in_use is None:
            return
        used = {target.path for target in self.in_use()}
        for path in self._circuits.keys() - used:
            circuit = self._circuits.pop(path)
            self._end_probe(circuit)
            if circuit.trouble is not None:
                if self._up is not None:
                    self._up.remove(path)
                log.info("target_forgotten", server=path)
                self._changed()

    @staticmethod
    def _end_probe(circuit: _Circuit) -> None:
        if circuit.probing is not None and circuit.probing is not asyncio.current_task():
            circuit.probing.cancel()
        circuit.probing = None

    def _show(self, circuit: _Circuit, *, up: bool) -> None:
        if self._up is not None:
            self._up.labels(circuit.target.path).set(up)

    def _changed(self) -> None:
        for tell in self.on_change:
            tell()

    async def close(self) -> None:
        """End all probes."""
        tasks = [circuit.probing for circuit in self._circuits.values() if circuit.probing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
