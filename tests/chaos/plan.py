"""What is asked for and what goes wrong, drawn from a seed: the same seed, the same course."""

from __future__ import annotations

import random
from dataclasses import dataclass

WORKERS = 3
TENANTS = ("chaos-a", "chaos-b", "chaos-c")
# Each with its weight. What breaks everything for seconds is drawn less often than a worker's end.
FAULTS = {
    "kill a worker": 4,
    "stop a worker": 3,
    "freeze a worker": 3,
    "restart RabbitMQ": 1,
    "restart Kafka": 2,
    "restart PostgreSQL": 2,
    "S3 falters": 3,
    "S3 is away": 2,
    "the source falters": 3,
    "orders in disorder": 3,
    "a lease runs out early": 3,
}
KINDS = {"tiny": 55, "many": 20, "large": 12, "two": 5, "nothing": 4, "invalid": 4}
_GAP = (0.5, 4.0)  # seconds between two faults


@dataclass(frozen=True, kw_only=True)
class Step:
    """One fault."""

    at: float  # seconds from the beginning
    fault: str
    worker: int
    seconds: float  # that it lasts, where it does
    draw: float  # 0 to 1, for what else the fault leaves to chance


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One delivery request."""

    at: float
    correlation_id: str
    tenant: str
    kind: str
    priority: int
    named: bool  # by a message id: half are not


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The course of a run."""

    seed: int
    seconds: float
    steps: list[Step]
    asks: list[Ask]


def draw(*, seed: int, deliveries: int, seconds: float, only: str = "") -> Plan:
    """Spread requests and faults over `seconds`; `only` those whose names have this in them."""
    chance = random.Random(seed)
    asks = [
        Ask(
            at=chance.uniform(0, seconds * 0.9),
            correlation_id=f"chaos-{seed}-{number}",
            tenant=chance.choice(TENANTS),
            kind=_weighted(chance, KINDS),
            priority=chance.choice([0, 1, 1, 5, 255]),
            named=chance.random() < 0.5,
        )
        for number in range(deliveries)
    ]
    steps = []
    at = chance.uniform(1, 3)
    # Every fault there is once, then by weight.
    weights = {name: weight for name, weight in FAULTS.items() if only in name}
    faults = chance.sample(list(weights), len(weights))
    while at < seconds:
        steps.append(
            Step(
                at=at,
                fault=faults.pop() if faults else _weighted(chance, weights),
                worker=chance.randrange(WORKERS),
                seconds=chance.uniform(2, 6),
                draw=chance.random(),
            )
        )
        at += chance.uniform(*_GAP)
    return Plan(seed=seed, seconds=seconds, steps=steps, asks=sorted(asks, key=lambda ask: ask.at))


def _weighted(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]
