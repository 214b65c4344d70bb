"""One run: a stack of its own, workers, requests, faults; then everything is looked at."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from compose.embedded import s3
from compose.embedded.stack import Stack, running_stack
from compose.rs_order.switches import Switches
from tests.builders import make_target
from tests.chaos import audit, products
from tests.chaos.client import Listener
from tests.chaos.faults import LEASE, ChaosProxy, Faults
from tests.chaos.plan import TENANTS, WORKERS, Plan
from tests.chaos.workers import Worker, running_workers
from tests.integration.s3_proxy import running_proxy
from tests.standin import StandIn

_SETTLE = 240.0  # seconds for what is asked to be answered, after the last fault
_TIDY = 90.0  # seconds for what is left to be tidied up, after the last answer
_LOOK = 1.0
# An order is one suborder, of which a user has two at a time; what rs-order may do, it does.
_SWITCHES = Switches(granted_late=3, suborder_files=4)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run came to."""

    plan: Plan
    findings: audit.Findings
    faults: Counter[str]
    exits: Counter[int]  # exit codes of workers that were started again
    attempts: dict[str, int]
    seconds: float
    logs: str  # of all workers

    def lines(self) -> list[str]:
        """Return the figures, one a line."""
        found = self.findings
        figures: dict[str, object] = {
            "seed": self.plan.seed,
            "requests": len(self.plan.asks),
            "terminal responses": found.responses,
            "repeats of a message (same id)": found.repeats,
            **self.attempts,
            "faults injected": sum(self.faults.values()),
            **{f"  {name}": count for name, count in sorted(self.faults.items())},
            "workers started again": sum(self.exits.values()),
            **{f"  after exit code {code}": n for code, n in sorted(self.exits.items())},
            "seconds": round(self.seconds),
            "lost": len(found.lost),
            "conflicting (several terminal responses)": len(found.conflicting),
            "wrong (answer or archive)": len(found.wrong),
            "orphans (uploads, rows, leases, places …)": len(found.orphans),
        }
        told = [f"{name:<42} {value}" for name, value in figures.items()]
        for name in ("lost", "conflicting", "wrong", "orphans"):
            told += [f"{name}: {fault}" for fault in getattr(found, name)[:20]]
        return told


def _settings(endpoint: str) -> dict[str, str]:
    """Return settings of workers that notice soon what is amiss."""
    return {
        "DELIVERY_TENANTS": ",".join(TENANTS),
        "DELIVERY_S3_ENDPOINT": endpoint,
        "DELIVERY_LEASE_TTL": str(LEASE),
        "DELIVERY_SHUTDOWN_GRACE": "2",
        "DELIVERY_KAFKA_STUCK_AFTER": "8",
        "DELIVERY_EVENT_ALLOWANCE": "8",
        "DELIVERY_RECONCILE_INTERVAL": "2",
        "DELIVERY_RETRY_BACKOFF_MAX": "2",
        "DELIVERY_OUTBOX_POLL_INTERVAL": "0.5",
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def run(plan: Plan) -> Report:
    """Carry a plan out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        products.make(folder)
        async with running_stack(folder, switches=_SWITCHES) as stack:
            target = make_target(
                endpoint=stack.environment["DELIVERY_S3_ENDPOINT"],
                region=s3.REGION,
                bucket=s3.BUCKET,
                key=s3.KEY,
                secret=s3.SECRET,
            )
            proxy = ChaosProxy(target)
            proxy.chance, proxy.rates = random.Random(plan.seed), {}
            async with (
                running_proxy(target, proxy) as (_, through),
                running_workers(stack, WORKERS, _settings(through.endpoint)) as workers,
                Listener.connected(stack.environment["DELIVERY_AMQP_URL"]) as listener,
                StandIn.connected(stack.rs_order_url) as standin,
            ):
                faults = Faults(
                    stack=stack,
                    workers=workers,
                    proxy=proxy,
                    standin=standin,
                    rabbitmq=asyncio.Lock(),
                )
                return await _carry_out(plan, stack, workers, listener, faults)


async def _carry_out(
    plan: Plan, stack: Stack, workers: list[Worker], listener: Listener, faults: Faults
) -> Report:
    began = time.monotonic()

    async def asking() -> None:
        for ask in plan.asks:
            await asyncio.sleep(began + ask.at - time.monotonic())
            async with faults.rabbitmq:
                await listener.send(
                    products.body_of(ask),
                    tenant=ask.tenant,
                    priority=ask.priority,
                    named=ask.named,
                )

    async def disturbing() -> None:
        async with asyncio.TaskGroup() as under_way:
            for step in plan.steps:
                await asyncio.sleep(began + step.at - time.monotonic())
                _say(f"{step.at:6.1f} s  {step.fault}")
                under_way.create_task(faults.inject(step))

    async with asyncio.TaskGroup() as both:
        both.create_task(asking())
        both.create_task(disturbing())
    _say(f"{time.monotonic() - began:6.1f} s  no more faults")
    await listener.wait_for_all([ask.correlation_id for ask in plan.asks], seconds=_SETTLE)
    _say(f"{time.monotonic() - began:6.1f} s  no more responses")
    until = time.monotonic() + _TIDY
    while (left := await audit.left(stack, faults.standin)) and time.monotonic() < until:
        await asyncio.sleep(_LOOK)
    findings = audit.heard(plan.asks, listener)
    findings.orphans += left
    await audit.stored(plan.asks, listener, stack, findings)
    return Report(
        plan=plan,
        findings=findings,
        faults=faults.done,
        exits=sum((worker.exits for worker in workers), Counter()),
        attempts=await audit.attempts(stack),
        seconds=time.monotonic() - began,
        logs="\n".join(worker.child.log.read_text("utf-8", "replace") for worker in workers),
    )
