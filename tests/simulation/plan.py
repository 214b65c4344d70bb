"""A night as it is planned: who asks for what, what befalls whom, and when; from its seed.

Nights are of several kinds: one that did a bit of all would meet little of what needs three things
at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.simulation import pauses
from tests.simulation.clients import Wish
from tests.simulation.draws import Draws
from tests.simulation.pauses import PauseStep

TENANTS = ("north", "south")
PATIENT = 900.0  # seconds
# From this seed on tenants have webhooks; of those before, nothing is owed to any.
WEBHOOKS_FROM = 2_000_000
# From this seed on orders are cut into suborders; those before stay the nights that they were.
SUBORDERS_FROM = 10_000
# And from this one on clients ask for formats, each request for one.
FORMATS_FROM = 100_000
# And from this one on what is delivered may be removed again, by the service and by persons.
RETENTION_FROM = 1_000_000
# And from this one on, for names of their archives and folders before them.
NAMES_FROM = 1_000_000
# And from this one on clients take what there is of an order, and archives have manifests.
PARTS_FROM = 2_000_000
# From this one on tenants may have quotas of requests.
QUOTAS_FROM = 3_000_000
# And from this one on tenants want reports of what fails.
REPORTS_FROM = 2_000_000
# And from this one on persons pause transfers and drain workers.
PAUSES_FROM = 4_000_000
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
    "rs-order has wrong bytes": 0.15,
}

# What befalls single files, where clients take what there is. (But for the third it lasts.)
_FLAWS = {
    "rs-order can't restore a file": 0.25,
    "rs-order refuses a file": 0.2,
    "rs-order refuses a download": 0.2,
    "rs-order has other bytes of a file": 0.15,
    "rs-order has a file no more": 0.1,
}


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
class Ambush:
    """Something that befalls a worker, or a party, at a step of the worker's."""

    at: str  # the beginning of the step's name: "after complete", "before publish to"
    number: int  # which of these steps, from 1
    what: str  # as of a disaster; or the answer is lost, or a person or a client steps in
    lasts: float = 0.0  # seconds
    successor: float = 0.0  # seconds that the worker which takes the delivery over is frozen for

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.1f} s" if self.lasts else ""
        successor = f", its successor frozen for {self.successor:.1f} s" if self.successor else ""
        return f"{self.what} {self.at} ({self.number}){lasts}{successor}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a person does over HTTP."""

    at: float  # seconds after the beginning
    what: str  # cancel, retry or remove
    tenant: str
    correlation_id: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is drawn before a night begins."""

    seed: int
    kind: str = ""  # of `KINDS`
    workers: int = 3
    wishes: tuple[Wish, ...] = ()
    disasters: tuple[Disaster, ...] = ()
    ambushes: tuple[Ambush, ...] = ()
    faults: dict[str, float] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    mute: str | None = None  # a tenant whose object store never answers; all else is well then
    pace: float = 0.02  # seconds that a file, or a part, is on its way at most
    disorder: float = 0.0
    ttl: float = 300.0  # seconds that a request may take
    shared: bool = False  # the tenants share a place
    clocks: tuple[float, ...] = (0.0, 0.0, 0.0)  # seconds that workers are ahead
    storm: float = 150.0  # seconds until the calm
    webhooks: bool = False  # tenants have webhooks
    # Seconds that an order request waits for the answer to another one of its id, at most.
    patience: float = 30.0
    formats: bool = False  # clients ask for formats; else all that is delivered is a ZIP
    kept: float = 0.0  # seconds that what is delivered stays; 0: for ever
    names: bool = False  # clients say what archives are called; else they are as REGARDS calls them
    parts: bool = False  # clients take what there is of an order; else all or nothing
    manifest: bool = False  # there is one beside each archive; else where a part was taken
    sha256: bool = False
    reports: bool = False  # a report is written of each delivery that fails
    # Persons pause transfers and drain workers; None: none can, and no worker listens.
    pauses: tuple[PauseStep, ...] | None = None
    quota: Mapping[str, Any] | None = None  # what tenants have set as theirs; None: no tenant has
    suborders: bool = False  # rs-order cuts orders, and restores two suborders of a user at a time


_ASKED = (  # on the way of a message from RabbitMQ to what it changes
    "after commit: an arrival",
    "before append to delivery.requests",
    "after append to delivery.requests",
    "after append to delivery.order-events",
    "before acknowledge",
    "after acknowledge",
    "after commit: a receipt",
    "after commit: it is opened",
    "after commit: GRANTED",
    "after commit: ORDERED",
    "after commit: AVAILABLE",
)
_TOLD = (  # on the way of a message from the outbox to RabbitMQ
    "after commit: an order is noted",
    "before publish to OrderRequestDtoEvent",
    "after publish to OrderRequestDtoEvent",
    "after commit: order is dealt with",
    "after publish to OrderCancelRequestDtoEvent",
    "before publish to DeliveryResponseDtoEvent",
    "after publish to DeliveryResponseDtoEvent",
    "after commit: response is dealt with",
)
_TRANSFERRED = (  # between a claim and an end
    "after commit: an attempt",
    "before open an upload",
    "after open an upload",
    "after commit: an upload",
    "after file",
    "after part",
    "before complete",
    "after commit: a completion",
    "after complete",
    "after commit: DONE",
)
_CLEANED = (  # what is looked at, aborted, removed, given up
    "after list uploads",
    "before abort",
    "after abort",
    "after find",
    "after remove",
    "after commit: a release",
    "after commit: a sweep",
    "after commit: ERROR",
)
_PLANNED = (
    "after commit: a claim",
    "after list order",
    "after commit: READY",
)
_STEPS = (*_ASKED, *_TOLD, *_PLANNED, *_TRANSFERRED, *_CLEANED)

_DEATHS = {"kill": 4, "freeze": 3, "stop": 1}
_ABSENCES = {
    "PostgreSQL is away": 2,
    "PostgreSQL is read-only": 1,
    "RabbitMQ is away": 1,
    "Kafka is away": 1,
    "the object store is away": 1,
}
_LOSSES = {
    "RabbitMQ restarts": 2,
    "a connection to RabbitMQ breaks": 2,
    "Kafka loses ends": 1,
    "Kafka forgets commits": 1,
    "Kafka loses topics": 1,
    "uploads are forgotten": 2,
}
_CLOCKS = {"the clock of PostgreSQL jumps": 1, "a worker's clock jumps": 1}
_PARTITIONS = {"cut off from PostgreSQL": 3, "cut off from the object store": 1}
_PEOPLE = {"a client cancels": 2, "a person cancels": 2, "a person retries": 1}
_LOST_ANSWER = {"lose the answer": 3}
_ANYTHING = _DEATHS | _ABSENCES | _LOSSES | _CLOCKS | _PARTITIONS
_FAULTS_OF_WEBHOOKS = {  # of 1: how often at most
    "a webhook is slow": 0.1,
    "a webhook loses requests": 0.1,
    "a webhook loses answers": 0.1,
    "a webhook is silent": 0.05,
    "a webhook refuses": 0.3,
}
_LASTING = ("freeze", "is away", "is read-only", "jumps", "cut off")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of night: what it has, and how much of it. Where there are several, one is drawn."""

    weight: int  # how often it is drawn; 0: by its name alone, so that seeds stay what they were
    faults: tuple[str, ...] = ("",)  # the beginnings of the names of those that it may have
    share: float = 0.4  # of 1: how many of them
    always: dict[str, float] = field(default_factory=dict)  # of 1: how often these come
    disasters: dict[str, int] = field(default_factory=lambda: _ANYTHING)  # how often of all
    disaster_counts: tuple[int, ...] = (0, 1, 3, 6, 10)
    at: tuple[str, ...] = _STEPS  # where ambushes are
    ambushes: dict[str, int] = field(
        default_factory=lambda: _ANYTHING | _PEOPLE | _LOST_ANSWER,
    )
    ambush_counts: tuple[int, ...] = (0, 2, 5)
    numbers: int = 8  # the last of a night's steps of one name at which one lies in wait
    lasts: tuple[float, ...] = (0.5, 5.0, 25.0, 45.0)  # seconds
    paces: tuple[float, ...] = (0.02, 0.5, 4.0)
    ttls: tuple[float, ...] = (60.0, 240.0, 600.0)
    ids: tuple[int, ...] = (2, 6, 20)  # how many correlation ids there are
    again: tuple[int, ...] = (0, 0, 0, 1, 2)  # how often the client of an id uses it again
    cancelled: float = 0.2  # of 1: how many requests their clients cancel
    steps: tuple[int, ...] = (0, 0, 3, 8)  # how often people step in
    clocks: tuple[float, ...] = (0.0, 0.0, -40.0, 300.0)  # seconds that a worker is ahead
    successors: tuple[float, ...] = (0.0,)  # seconds that a successor is frozen for
    users: tuple[str, ...] = ("known-a", "known-b", "new-c", "stranger-d")
    patiences: tuple[float, ...] = (30.0, PATIENT)  # seconds; by turns
    mute: bool = False
    shared: float = 0.3  # of 1: how often the tenants share a place


KINDS = {
    "mute": Kind(
        weight=2,
        faults=(),
        disaster_counts=(0,),
        ambush_counts=(0,),
        paces=(0.02,),
        ttls=(120.0,),
        cancelled=0.2,
        steps=(0,),
        clocks=(0.0,),
        mute=True,
    ),
    "any": Kind(weight=6),
    # Two workers believe that they have a delivery, for long.
    "takeovers": Kind(
        weight=4,
        faults=("the object store", "rs-order serves", "rs-order has"),
        share=0.3,
        disasters=_DEATHS | _PARTITIONS,
        disaster_counts=(0, 2, 5),
        at=(*_TRANSFERRED, *_CLEANED),
        ambushes={"freeze": 4, "kill": 2, "cut off from PostgreSQL": 4, "lose the answer": 1}
        | _CLOCKS,
        ambush_counts=(4, 8, 12),
        lasts=(5.0, 14.0, 18.0, 25.0),
        successors=(0.0, 2.0, 6.0, 11.0),
        paces=(0.5, 4.0, 8.0),
        ttls=(240.0, 600.0),
        ids=(6, 20),
        steps=(0, 3),
    ),
    # A delivery ends while it is being worked on.
    "ends": Kind(
        weight=3,
        share=0.2,
        disasters=_DEATHS | _ABSENCES,
        disaster_counts=(0, 2, 5),
        at=(*_PLANNED, *_TRANSFERRED, *_CLEANED),
        ambushes=_PEOPLE | _LOST_ANSWER | {"freeze": 3, "kill": 2, "cut off from PostgreSQL": 2},
        ambush_counts=(4, 8, 12),
        lasts=(1.0, 5.0, 14.0, 25.0),
        paces=(0.5, 4.0, 8.0),
        ttls=(20.0, 60.0, 240.0),
        ids=(2, 4, 20),
        again=(0, 1, 2),
    ),
    # Orders go out, are taken back, are answered late; ids are used again.
    "orders": Kind(
        weight=4,
        faults=("RabbitMQ", "rs-order", "PostgreSQL loses"),
        share=0.3,
        disasters=_DEATHS | _ABSENCES,
        disaster_counts=(0, 2, 5),
        at=(*_ASKED, *_TOLD),
        ambushes=_DEATHS
        | _PEOPLE
        | _LOST_ANSWER
        | {"RabbitMQ is away": 2, "RabbitMQ restarts": 1, "cut off from PostgreSQL": 2}
        | {"its connection to RabbitMQ breaks": 2},
        ambush_counts=(3, 6, 10),
        lasts=(0.5, 3.0, 14.0, 25.0),
        ttls=(20.0, 60.0, 240.0),
        ids=(1, 2, 4),
        again=(0, 1, 2),
        cancelled=0.5,
        steps=(0, 3, 8),
    ),
    # What comes in is given again, mostly without its flag. (No worker dies or stands still: that a
    # message comes again is noted by the one that had it, see docs/roadmap.md.)
    "returns": Kind(
        weight=4,
        faults=("RabbitMQ", "Kafka", "PostgreSQL loses"),
        share=0.4,
        always={"RabbitMQ forgets deliveries": 1.0},
        users=("known-a", "new-c", "stranger-d", "stranger-d"),  # who are denied end at once
        disasters={"RabbitMQ restarts": 4, "a connection to RabbitMQ breaks": 2, "stop": 1}
        | {"PostgreSQL is away": 1, "Kafka is away": 1, "RabbitMQ is away": 1},
        disaster_counts=(2, 5, 10),
        at=_ASKED,
        ambushes={"RabbitMQ restarts": 5, "its connection to RabbitMQ breaks": 2, "stop": 1}
        | {"PostgreSQL is away": 1, "Kafka is away": 1}
        | _LOST_ANSWER,
        ambush_counts=(3, 6, 10),
        lasts=(0.5, 5.0, 25.0),
        paces=(0.02,),
        again=(0, 1),
        steps=(0, 3),
    ),
    # A completion arrives when its delivery has ended, and the next one of its id is done, which
    # asked for the same.
    "late": Kind(
        weight=1,
        faults=(),
        always={"rs-order has the same files again": 0.8, "the object store is silent": 0.12},
        users=("known-a",),
        disasters={"kill": 1},
        disaster_counts=(0, 1),
        at=("before complete", "after commit: a completion"),
        ambushes={"a person cancels": 3, "a client cancels": 1},
        ambush_counts=(6, 10),
        paces=(0.02,),
        ids=(6, 12),
        again=(1, 2, 3),
        cancelled=0.0,
        steps=(0,),
        clocks=(0.0,),
    ),
    # Two tenants share a place and ids: what one looks for there is being opened by the other.
    "shares": Kind(
        weight=1,
        faults=("the object store loses",),
        share=1.0,
        users=("known-a",),
        disasters={"kill": 1},
        disaster_counts=(0, 2),
        at=("before list uploads",),
        ambushes={"freeze": 1},
        ambush_counts=(8,),
        lasts=(2.0, 5.0, 9.0),
        paces=(0.02, 0.5),
        ids=(2, 4),
        again=(0, 1, 3),
        cancelled=0.5,
        steps=(0, 3),
        clocks=(0.0,),
        shared=1.0,
    ),
    # Archives have many parts, and workers lose them in the midst of it.
    "resumes": Kind(
        weight=0,
        faults=("the object store loses",),
        share=0.5,
        always={"rs-order has many files": 0.9, "the object store is silent": 0.05},
        users=("known-a",),
        disasters=_DEATHS | _PARTITIONS,
        disaster_counts=(0, 2),
        at=("after part",),
        ambushes={"freeze": 6, "cut off from PostgreSQL": 3, "kill": 1},
        ambush_counts=(8, 16),
        numbers=80,
        lasts=(9.0, 11.0, 13.0, 16.0),
        successors=(0.0, 0.0, 2.0, 6.0),
        paces=(0.5, 2.0),
        ttls=(240.0, 600.0),
        ids=(20,),
        again=(0,),
        cancelled=0.0,
        steps=(0,),
        clocks=(0.0,),
    ),
    # Workers stand still, or are cut off, right where their archives appear.
    "completions": Kind(
        weight=0,
        faults=("the object store", "PostgreSQL loses"),
        share=0.3,
        users=("known-a", "known-b"),
        disasters=_DEATHS | _PARTITIONS,
        disaster_counts=(0, 2),
        at=(
            "after part",
            "before complete",
            "after commit: a completion",
            "after complete",
            "after commit: DONE",
        ),
        ambushes={"freeze": 5, "cut off from PostgreSQL": 5, "lose the answer": 2, "kill": 1}
        | {"a client cancels": 1, "a person cancels": 1},
        ambush_counts=(8, 16),
        numbers=16,
        lasts=(9.0, 11.0, 14.0, 25.0),
        successors=(0.0, 0.0, 2.0, 6.0),
        paces=(0.02, 0.5),
        ttls=(60.0, 240.0, 600.0),
        ids=(6, 20),
        again=(0, 0, 1),
        cancelled=0.0,
        steps=(0, 3),
        clocks=(0.0,),
    ),
    # Answers of rs-order come late, never, out of their order: several of an id are waited for.
    "answers": Kind(
        weight=0,
        faults=("PostgreSQL", "Kafka", "RabbitMQ", "rs-order mixes", "rs-order says"),
        share=0.3,
        always={"rs-order is late": 0.6, "rs-order never answers an order": 0.1},
        users=("known-a",),
        disasters={"Kafka is away": 2, "PostgreSQL is away": 1, "freeze": 2},
        disaster_counts=(0, 2, 5),
        at=(
            "before append to delivery.order-events",
            "after append to delivery.order-events",
            "after commit: an arrival",
            "after commit: a receipt",
        ),
        ambushes={"freeze": 3, "cut off from PostgreSQL": 3, "Kafka is away": 1}
        | _LOST_ANSWER
        | {"a client cancels": 2},
        ambush_counts=(4, 8),
        numbers=16,
        lasts=(3.0, 14.0, 25.0),
        paces=(0.02,),
        ttls=(20.0, 60.0),
        ids=(1, 2),
        again=(1, 2, 3),
        cancelled=0.8,
        steps=(0, 3),
        clocks=(0.0,),
    ),
    # Some workers can't save what rs-order answers, while others take what it answers later.
    "overtaken": Kind(
        weight=0,
        faults=("rs-order says",),
        always={"rs-order denies": 0.5},
        users=("known-a",),
        disasters={"cut off from PostgreSQL": 1},
        disaster_counts=(4, 7),
        ambush_counts=(0,),
        lasts=(25.0, 45.0),
        patiences=(3.0,),
        paces=(0.02,),
        ttls=(240.0,),
        ids=(1, 2),
        again=(0, 1, 2),
        cancelled=0.9,
        steps=(0,),
        clocks=(0.0,),
    ),
    # rs-order refuses, and says so twice; what it says waits for Kafka while an id is used again.
    "denials": Kind(
        weight=0,
        faults=("Kafka", "RabbitMQ loses"),
        share=0.2,
        always={"rs-order denies": 0.6, "rs-order says things twice": 0.9},
        users=("known-a",),
        disasters={"Kafka is away": 4, "cut off from PostgreSQL": 1},
        disaster_counts=(3, 6),
        at=("before append to delivery.order-events", "after commit: an arrival"),
        ambushes={"Kafka is away": 4, "cut off from PostgreSQL": 1, "freeze": 1},
        ambush_counts=(4, 8),
        numbers=40,
        lasts=(5.0, 14.0),
        paces=(0.02,),
        ttls=(60.0, 240.0),
        ids=(2, 4),
        again=(1, 2, 3),
        cancelled=0.1,
        steps=(0,),
        clocks=(0.0,),
    ),
    # An order is cancelled while its files are asked for, which takes seconds.
    "plans": Kind(
        weight=0,
        faults=(),
        always={"rs-order is slow": 0.5},
        users=("known-a",),
        disaster_counts=(0,),
        at=("after commit: a claim",),
        ambushes={"a client cancels": 1, "a person cancels": 3, "freeze": 1},
        ambush_counts=(8, 16),
        numbers=30,
        lasts=(0.4, 0.8),
        paces=(0.02,),
        ttls=(240.0,),
        ids=(6, 20),
        again=(0, 1),
        cancelled=0.0,
        steps=(0,),
        clocks=(0.0,),
    ),
    # Times run out while PostgreSQL is slow, and ids are used again at once.
    "expiries": Kind(
        weight=0,
        faults=(),
        always={"PostgreSQL is slow": 0.1, "rs-order never answers an order": 0.8},
        users=("known-a",),
        disaster_counts=(0,),
        ambush_counts=(0,),
        paces=(0.02,),
        ttls=(10.0, 15.0),
        ids=(6, 20),
        again=(1, 2),
        cancelled=0.7,
        steps=(0, 8),
        clocks=(0.0,),
    ),
    # Connections to RabbitMQ break where messages are acknowledged.
    "acknowledgements": Kind(
        weight=0,
        faults=("RabbitMQ loses",),
        share=0.3,
        always={"RabbitMQ forgets deliveries": 1.0},
        users=("known-a", "stranger-d", "stranger-d"),
        disaster_counts=(0,),
        at=("before acknowledge", "after acknowledge"),
        ambushes={"RabbitMQ restarts": 3, "its connection to RabbitMQ breaks": 3} | _LOST_ANSWER,
        ambush_counts=(8, 16),
        numbers=40,
        paces=(0.02,),
        again=(0, 1),
        steps=(0,),
        clocks=(0.0,),
    ),
    # The object store is away for as long as transfers wait for it in place, and longer.
    "waits": Kind(
        weight=0,
        faults=("the object store",),
        share=0.3,
        always={"rs-order has many files": 0.5},
        users=("known-a", "known-b"),
        disasters={"the object store is away": 3, "cut off from the object store": 3},
        disaster_counts=(4, 8),
        ambush_counts=(0,),
        lasts=(12.0, 25.0, 45.0),
        paces=(0.5, 4.0),
        ttls=(240.0, 600.0),
        ids=(20,),
        again=(0,),
        cancelled=0.1,
        steps=(0, 3),
        clocks=(0.0,),
    ),
    # PostgreSQL is away from a completion until the time is over: no worker notes what it made.
    "outages": Kind(
        weight=0,
        faults=(),
        users=("known-a", "known-b"),
        disaster_counts=(0,),
        at=("before complete", "after complete"),
        ambushes={"PostgreSQL is away": 1},
        ambush_counts=(1,),
        lasts=(62.0, 70.0, 80.0),
        paces=(0.02, 0.5),
        ttls=(10.0, 20.0, 60.0),
        ids=(6, 20),
        again=(0,),
        cancelled=0.0,
        steps=(0,),
        clocks=(0.0,),
    ),
    # rs-admin answers late, and what it was asked for has ended, or is asked about by another.
    "checks": Kind(
        weight=0,
        faults=("RabbitMQ", "PostgreSQL loses"),
        share=0.3,
        always={"rs-admin is slow": 0.6, "rs-admin is away": 0.1},
        users=("new-c", "stranger-d"),
        disasters=_DEATHS | _PARTITIONS,
        disaster_counts=(0, 2, 5),
        at=("after commit: a claim", "after commit: a renewal", "after commit: it is opened"),
        ambushes=_PEOPLE | _LOST_ANSWER | {"freeze": 3, "kill": 1, "cut off from PostgreSQL": 2},
        ambush_counts=(4, 8),
        lasts=(5.0, 14.0, 18.0),
        paces=(0.02,),
        ttls=(20.0, 60.0, 240.0),
        ids=(2, 6, 20),
        again=(0, 1, 2),
        cancelled=0.6,
        steps=(0, 3, 8),
    ),
}


def _faults_of_webhooks(seed: int) -> dict[str, float]:
    """Draw what befalls webhooks, by lots of its own: half of it."""
    if seed < WEBHOOKS_FROM:
        return {}
    draws = Draws(seed).of("webhooks")
    return {
        fault: draws.uniform(0, most)
        for fault, most in _FAULTS_OF_WEBHOOKS.items()
        if draws.random() < 0.5
    }


def draw(seed: int, *, deliveries: int = 20, of: str = "") -> Plan:
    """Draw a plan, `of` one kind or of any.

    Of faults some are left out each night: else some would hide others.
    """
    draws = Draws(seed).of("plan")
    drawn = draws.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
    name = of or drawn
    kind = KINDS[name]
    faults = {
        fault: draws.uniform(0, most)
        for fault, most in _FAULTS.items()
        if draws.random() < kind.share and fault.startswith(kind.faults)
    }
    ids = draws.choice(kind.ids)
    plan = Plan(
        seed=seed,
        kind=name,
        wishes=tuple(_wish(draws, kind, ids) for _ in range(deliveries)),
        disasters=tuple(
            sorted(
                (_disaster(draws, kind) for _ in range(draws.choice(kind.disaster_counts))),
                key=lambda disaster: disaster.at,
            )
        ),
        ambushes=tuple(_ambush(draws, kind) for _ in range(draws.choice(kind.ambush_counts))),
        faults=faults | kind.always | _faults_of_webhooks(seed),
        steps=tuple(
            Step(
                at=draws.uniform(1, 110),
                what=draws.choice(("cancel", "retry")),
                tenant=draws.choice(TENANTS),
                correlation_id=f"d-{draws.randrange(ids)}",
            )
            for _ in range(draws.choice(kind.steps))
        ),
        webhooks=seed >= WEBHOOKS_FROM,
        mute=TENANTS[1] if kind.mute else None,
        pace=draws.choice(kind.paces),
        disorder=draws.choice((0.0, 0.1, 0.5, 1.0)),
        ttl=draws.choice(kind.ttls),
        shared=not kind.mute and draws.random() < kind.shared,
        clocks=tuple(draws.choice(kind.clocks) for _ in range(3)),
        # Now and then so long that no answer comes later; drawn by no stream, so that nights stay.
        patience=kind.patiences[seed % len(kind.patiences)],
        suborders=seed >= SUBORDERS_FROM,
        formats=seed >= FORMATS_FROM,
        names=seed >= NAMES_FROM,
        reports=seed >= REPORTS_FROM,
    )
    if seed >= RETENTION_FROM:
        plan = _with_retention(plan, ids)
    if seed >= PAUSES_FROM and not kind.mute:
        plan = replace(plan, pauses=pauses.drawn(seed, TENANTS))
    if seed >= PARTS_FROM:
        plan = _with_parts(plan)
    return plan if seed < QUOTAS_FROM else _with_quota(plan)


def _with_parts(plan: Plan) -> Plan:
    """Let clients take what there is of orders that lack some of it; by lots of its own."""
    draws = Draws(plan.seed).of("parts")
    flaws = {flaw: draws.uniform(0, most) for flaw, most in _FLAWS.items() if draws.random() < 0.6}
    return replace(
        plan,
        parts=True,
        manifest=draws.random() < 0.5,
        sha256=draws.random() < 0.5,
        # Beside a mute neighbour all else is well: what is asked for again takes its time.
        faults=plan.faults if plan.mute else plan.faults | flaws,
    )


def _with_quota(plan: Plan) -> Plan:
    """Let tenants have a quota, in half of the nights; by lots of its own.

    Not where it is looked how long a tenant's deliveries take: there each has its place.
    """
    draws = Draws(plan.seed).of("quota")
    if plan.mute or draws.random() < 0.5:
        return plan
    user, tenant = (
        {"active": draws.choice(active), "requests_per_minute": draws.choice(requests)}
        for active, requests in (((0, 1, 2), (0, 0, 3)), ((0, 0, 2, 4), (0, 0, 6)))
    )
    over = draws.choice(("wait", "wait", "deny"))
    return replace(plan, quota={"user": user, "tenant": tenant, "over_requests": over})


def _with_retention(plan: Plan, ids: int) -> Plan:
    """Let what is delivered stay for a while, and persons remove some of it; by lots of its own."""
    draws = Draws(plan.seed).of("retention")
    steps = tuple(
        Step(
            at=draws.uniform(1, 140),
            what="remove",
            tenant=draws.choice(TENANTS),
            correlation_id=f"d-{draws.randrange(ids)}",
        )
        for _ in range(draws.choice((0, 3, 8)))
    )
    kept = draws.choice((0.0, 1.0, 10.0, 40.0, 120.0))
    return replace(plan, steps=plan.steps + steps, kept=kept)


def _wish(draws: Random, kind: Kind, ids: int) -> Wish:
    return Wish(
        at=draws.uniform(0, 90),
        tenant=draws.choice(TENANTS),
        correlation_id=f"d-{draws.randrange(ids)}",
        user=draws.choice(kind.users),
        again=draws.choice(kind.again),
        twice_after=draws.choice((None, None, 0.001, 3.0, 60.0)),
        cancelled_after=draws.uniform(0, 20) if draws.random() < kind.cancelled else None,
        spoilt_after=draws.choice((*[None] * 9, 0.01)),
    )


def _drawn(draws: Random, often: dict[str, int], lasts: tuple[float, ...]) -> tuple[str, float]:
    """Return what befalls, and for how many seconds."""
    what = draws.choices(list(often), list(often.values()))[0]
    return what, draws.choice(lasts) if any(word in what for word in _LASTING) else 0.0


def _disaster(draws: Random, kind: Kind) -> Disaster:
    what, lasts = _drawn(draws, kind.disasters, kind.lasts)
    return Disaster(at=draws.uniform(1, 120), what=what, whom=draws.randrange(3), lasts=lasts)


def _ambush(draws: Random, kind: Kind) -> Ambush:
    what, lasts = _drawn(draws, kind.ambushes, kind.lasts)
    return Ambush(
        at=draws.choice(kind.at),
        number=draws.randint(1, kind.numbers),
        what=what,
        lasts=lasts,
        successor=draws.choice(kind.successors),
    )
