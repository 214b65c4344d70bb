"""The faults, each as a step of a plan asks for it."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
from aiohttp import web

from compose.embedded.stack import Stack
from tests.chaos.plan import Step
from tests.chaos.workers import Worker
from tests.integration.s3_proxy import S3Proxy
from tests.standin import StandIn

LEASE = 6.0  # seconds, of the workers
_FROZEN = 1.6 * LEASE
_AWAY = 3  # times a step's seconds: up to 18 s

_SERVERS = {
    "restart RabbitMQ": "DELIVERY_AMQP_URL",
    "restart Kafka": "DELIVERY_KAFKA_BOOTSTRAP_SERVERS",
    "restart PostgreSQL": "DELIVERY_DATABASE_URL",
}


class ChaosProxy(S3Proxy):
    """Before S3: answers that are slow, broken, lost or doubtful, at the rates that are set."""

    chance: random.Random
    rates: dict[str, float]
    away = False

    def _use(self, counter: str) -> bool:
        return self.chance.random() < self.rates.get(counter, 0)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            return self._break(request)
        try:
            return await super().handle(request)
        except (ConnectionError, aiohttp.ClientError):
            return self._break(request)  # the process that asked was killed


@dataclass(kw_only=True)
class Faults:
    """Does to a running world what a plan says."""

    stack: Stack
    workers: list[Worker]
    proxy: ChaosProxy
    standin: StandIn
    rabbitmq: asyncio.Lock  # held while it restarts
    done: Counter[str] = field(default_factory=Counter)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _rs_order: dict[str, Any] = field(default_factory=dict)

    async def inject(self, step: Step) -> None:
        """Inject one fault; return when it is over. Counts those that had something to act on."""
        worker = self.workers[step.worker]
        match step.fault:
            case "kill a worker":
                done = worker.send(signal.SIGKILL)
            case "stop a worker":
                done = worker.send(signal.SIGTERM)
            case "freeze a worker":
                done = await worker.freeze(_FROZEN)
            case "restart RabbitMQ":
                async with self.rabbitmq:
                    done = await self._restart(step)
            case "restart Kafka" | "restart PostgreSQL":
                done = await self._restart(step)
            case "S3 falters" | "S3 is away":
                done = await self._s3(step)
            case "the source falters":
                done = await self._standin(
                    step,
                    answers_500=1 + int(step.draw * 5),
                    drops=1 + int(step.draw * 4),
                    drop_after=int(step.draw * 3_000_000),
                    not_ready=int(step.draw * 3),
                    ranges=step.draw >= 0.5,
                )
            case "orders in disorder":
                done = await self._standin(
                    step,
                    events_twice=step.draw < 0.7,
                    events_reversed=step.draw > 0.3,
                    events_late=step.draw,
                )
            case "a lease runs out early":
                done = await self._expire_lease()
            case other:
                raise AssertionError(other)
        self.done[step.fault] += done

    async def _restart(self, step: Step) -> bool:
        async with self._locks[step.fault]:
            # Away for a moment, or for longer.
            after = step.seconds * _AWAY if step.draw < 0.5 else 0
            await self.stack.servers[_SERVERS[step.fault]].restart(after=after)
        return True

    async def _s3(self, step: Step) -> bool:
        async with self._locks["S3"]:
            self.proxy.away = step.fault == "S3 is away"
            self.proxy.rates = {
                "slow_down": 0.3,
                "resets": 0.2,
                "errors_in_200": 0.3,
                "lost_completions": 0.4,
            }
            await asyncio.sleep(step.seconds)
            self.proxy.away, self.proxy.rates = False, {}
        return True

    async def _standin(self, step: Step, **faults: Any) -> bool:
        async with self._locks[step.fault]:
            self._rs_order |= faults
            await self.standin.misbehave(**self._rs_order)
            await asyncio.sleep(step.seconds)
            for name in faults:
                del self._rs_order[name]
            await self.standin.misbehave(**self._rs_order)
        return True

    async def _expire_lease(self) -> bool:
        """Let a lease run out under its worker, as when the database's clock jumps."""
        try:
            connection = await asyncpg.connect(self.stack.environment["DELIVERY_DATABASE_URL"])
        except (OSError, asyncpg.PostgresError):
            return False
        try:
            ended = await connection.execute(
                "UPDATE delivery SET lease_until = now() - interval '1 second' WHERE id = "
                "(SELECT id FROM delivery WHERE lease_until > now() ORDER BY random() LIMIT 1)"
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        finally:
            connection.terminate()
        return ended == "UPDATE 1"
