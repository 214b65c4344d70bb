"""A night as it is planned: who asks for what, what befalls whom, and when; from its seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.simulation.clients import Wish
from tests.simulation.draws import Draws

TENANTS = ("north", "south")
PATIENT = 900.0  # seconds
_FAULTS = {  # of 1: how often at most
    "PostgreSQL is slow": 0.01,
    "PostgreSQL loses requests": 0.02,
    "PostgreSQL loses answers": 0.02,
    "RabbitMQ is slow": 0.02,
    "RabbitMQ loses requests": 0.05,
    "RabbitMQ loses answers": 0.05,
    "RabbitMQ forgets deliveries": 0.5,
    "RabbitMQ loses its order": 0.3,
    "Kafka is slow": 0.02,
    "Kafka loses requests": 0.05,
    "Kafka loses answers": 0.05,
    "the object store is slow": 0.05,
    "the object store loses requests": 0.1,
    "the object store loses answers": 0.1,
    "the object store is silent": 0.03,
    "rs-order is slow": 0.05,
    "rs-order loses requests": 0.05,
    "rs-order loses answers": 0.05,
    "rs-order is late": 0.2,
    "rs-order never answers an order": 0.1,
    "rs-order denies": 0.1,
    "rs-order fails orders": 0.1,
    "rs-order splits orders": 0.1,
    "rs-order mixes events up": 0.3,
    "rs-order says things twice": 0.3,
    "rs-order serves wrong bytes": 0.05,
}
_DISASTERS = (  # each with how often it is drawn
    ("kill", 4),
    ("stop", 1),
    ("freeze", 3),
    ("RabbitMQ restarts", 2),
    ("a connection to RabbitMQ breaks", 2),
    ("Kafka loses ends", 1),
    ("Kafka forgets commits", 1),
    ("Kafka loses topics", 1),
    ("uploads are forgotten", 2),
    ("the clock of PostgreSQL jumps", 1),
    ("a worker's clock jumps", 1),
    ("PostgreSQL is away", 2),
    ("RabbitMQ is away", 1),
    ("Kafka is away", 1),
    ("the object store is away", 1),
)


@dataclass(frozen=True, kw_only=True)
class Disaster:
    """Something that befalls a party."""

    at: float  # seconds after the beginning
    what: str
    whom: int = 0  # which worker
    lasts: float = 0.0  # seconds

    def __str__(self) -> str:
        whom = f" (worker {self.whom})" if self.what in ("kill", "stop", "freeze") else ""
        return f"{self.at:8.3f}  {self.what}{whom}" + (
            f" for {self.lasts:.1f} s" if self.lasts else ""
        )


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a person does over HTTP."""

    at: float  # seconds after the beginning
    what: str  # cancel or retry
    tenant: str
    correlation_id: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is drawn before a night begins."""

    seed: int
    workers: int = 3
    wishes: tuple[Wish, ...] = ()
    disasters: tuple[Disaster, ...] = ()
    faults: dict[str, float] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    mute: str | None = None  # a tenant whose object store never answers; all else is well then
    pace: float = 0.02  # seconds that a file, or a part, is on its way at most
    disorder: float = 0.0
    ttl: float = 300.0  # seconds that a request may take
    shared: bool = False  # the tenants share a place
    clocks: tuple[float, ...] = (0.0, 0.0, 0.0)  # seconds that workers are ahead
    storm: float = 150.0  # seconds until the calm
    # Seconds that an order request waits for the answer to another one of its id, at most.
    patience: float = 30.0


def draw(seed: int, *, deliveries: int = 20) -> Plan:
    """Draw a plan. Of faults some are left out each night: else some would hide others."""
    draws = Draws(seed).of("plan")
    faults = {
        name: draws.uniform(0, most) for name, most in _FAULTS.items() if draws.random() < 0.4
    }
    ids = draws.choice((2, 6, deliveries))
    if draws.random() < 0.1:
        return Plan(
            seed=seed,
            wishes=tuple(_wish(draws, ids) for _ in range(deliveries)),
            mute=TENANTS[1],
            ttl=120.0,
            disorder=draws.random(),
        )
    return Plan(
        seed=seed,
        workers=3,
        wishes=tuple(_wish(draws, ids) for _ in range(deliveries)),
        disasters=tuple(
            sorted(
                (_disaster(draws) for _ in range(draws.choice((0, 1, 3, 6, 10)))),
                key=lambda disaster: disaster.at,
            )
        ),
        faults=faults,
        steps=tuple(
            Step(
                at=draws.uniform(1, 110),
                what=draws.choice(("cancel", "retry")),
                tenant=draws.choice(TENANTS),
                correlation_id=f"d-{draws.randrange(ids)}",
            )
            for _ in range(draws.choice((0, 0, 3, 8)))
        ),
        pace=draws.choice((0.02, 0.5, 4.0)),
        disorder=draws.choice((0.0, 0.1, 0.5, 1.0)),
        ttl=draws.choice((60.0, 240.0, 600.0)),
        shared=draws.random() < 0.3,
        clocks=tuple(draws.choice((0.0, 0.0, -40.0, 300.0)) for _ in range(3)),
        # Now and then so long that no answer comes later; drawn by no stream, so that nights stay.
        patience=(30.0, PATIENT)[seed % 2],
    )


def _wish(draws: Random, ids: int) -> Wish:
    return Wish(
        at=draws.uniform(0, 90),
        tenant=draws.choice(TENANTS),
        correlation_id=f"d-{draws.randrange(ids)}",
        user=draws.choice(("known-a", "known-b", "new-c", "stranger-d")),
        again=draws.choice((0, 0, 0, 1, 2)),
        twice_after=draws.choice((None, None, 0.001, 3.0, 60.0)),
        cancelled_after=draws.choice((None, None, None, None, draws.uniform(0, 20))),
    )


def _disaster(draws: Random) -> Disaster:
    names = [name for name, _ in _DISASTERS]
    what = draws.choices(names, [weight for _, weight in _DISASTERS])[0]
    lasts = 0.0
    if what == "freeze" or what.endswith(("is away", "jumps")):
        lasts = draws.choice((0.5, 5.0, 25.0, 45.0))
    return Disaster(at=draws.uniform(1, 120), what=what, whom=draws.randrange(3), lasts=lasts)
