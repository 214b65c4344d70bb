"""How the cost of each operation grows with what there is: tenants, deliveries, workers.

    make bench-scale                        # up to a million that have ended, a tenth that wait
    make bench-scale LIMIT=10000            # fewer, within a minute; nothing is kept
    python -m tests.bench.scale --help      # some operations, or axes, only

A PostgreSQL of the bench's own is filled with rows, then the service's own adapters are called,
and PostgreSQL is asked what that was for it. What counts is how many pages of 8 KiB its statements
looked at: that is the same on a busy machine; time is told beside it. One thing grows at a time,
the others stay as `Size` has them. With --write, writes tests/bench/scale.json and docs/scale.svg.
It needs Debian's PostgreSQL: the wheel's has no `pg_stat_statements`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import os
import platform
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import structlog

from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.quotas import Allowance, Quota
from app.delivery.states import State, Work
from app.delivery.targets import Blocked
from app.settings import Settings
from app.store import PostgresJanitor, PostgresOutbox, migrate, open_pool
from app.views.deliveries import Filter
from app.views.history import Step
from compose.embedded.postgres import postgres
from tests.bench.filled import Size, fill
from tests.bench.plot import draw_growth
from tests.bench.statement_costs import SETTINGS, Cost, Costs
from tests.deliveries import DeliveriesInPostgres

HERE = Path(__file__).parent
RESULTS = HERE / "scale.json"
PLOT = HERE.parents[1] / "docs" / "scale.svg"

_AXES: dict[str, tuple[int, ...]] = {
    "tenants": (1, 10, 100),
    "finished": (1_000, 10_000, 100_000, 1_000_000),
    "waiting": (100, 1_000, 10_000, 100_000),
    "workers": (1, 2, 4, 8),
}
_ROUNDS = 5  # an odd number: the median is one of them
_TENANTS = max(_AXES["tenants"])
_PAGE = 50  # deliveries of a list
_BATCH = 10  # messages of a relay's pass
_FORGOTTEN = 20  # deliveries that the janitor finds in each round
# Pages more than before that are none of what there is: another row on another page.
_SLACK = 10


class Site:
    """A service on a filled database, as its workers and its website ask it."""

    size: Size
    middle: tuple[datetime, UUID]  # of the list of the first tenant
    ends: list[datetime]  # of the deliveries that have ended, the oldest that the janitor finds
    last: int  # the number of the newest step

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        settings = Settings(tenants=tuple(f"tenant-{number}" for number in range(_TENANTS)))
        self.deliveries = DeliveriesInPostgres(pool, settings)
        self.limited = DeliveriesInPostgres(pool, settings)
        some = Allowance(active=10_000_000, requests_per_minute=10_000_000)
        self.limited.tenants.give("tenant-0", quota=Quota(tenant=some, user=some))
        self.tracking = self.deliveries.tracking
        self.janitor = PostgresJanitor(pool)
        self.tenants: list[str] = []
        self.outboxes: list[PostgresOutbox] = []
        self.forgotten = 0

    async def be(self, size: Size) -> None:
        """Fill the database."""
        self.size = size
        self.tenants = [f"tenant-{number}" for number in range(size.tenants)]
        self.outboxes = [self.deliveries.outbox(_BATCH) for _ in range(size.workers)]
        self.forgotten = 0
        async with self.pool.acquire() as connection:
            await fill(connection, size)
        row = await self.pool.fetchrow(
            "SELECT requested_at, id FROM delivery WHERE tenant = 'tenant-0' "
            "ORDER BY requested_at DESC, id DESC "
            "OFFSET (SELECT count(*) / 2 FROM delivery WHERE tenant = 'tenant-0') LIMIT 1"
        )
        assert row is not None
        self.middle = row["requested_at"], row["id"]
        self.last = await self.deliveries.changes.last()
        self.ends = [
            ended
            for (ended,) in await self.pool.fetch(
                "SELECT finished_at FROM delivery WHERE finished_at IS NOT NULL "
                "ORDER BY finished_at LIMIT $1",
                _FORGOTTEN * _ROUNDS + 1,
            )
        ]


async def _claim(site: Site, worker: int, **limits: Any) -> None:
    leases = site.deliveries.leases(f"worker-{worker}", **limits)
    assert await leases.claim(Work.TRANSFER) is not None, "nothing is left to claim"


async def _claim_limited(site: Site, worker: int) -> None:
    await _claim(site, worker, transfers_per_tenant=1000)


async def _claim_beside_tenants(site: Site, worker: int) -> None:
    blocked = Blocked(tenants=tuple(site.tenants[1::2]))
    await _claim(site, worker, blocked=lambda: blocked)


async def _claim_beside_targets(site: Site, worker: int) -> None:
    spared = tuple((tenant, "target-1") for tenant in site.tenants)
    blocked = Blocked(tenants=tuple(site.tenants), spared=spared)
    await _claim(site, worker, blocked=lambda: blocked)


async def _submit(site: Site, _worker: int) -> None:
    await site.deliveries.receive(site.deliveries.message(f"new-{uuid4()}", tenant="tenant-0"))


async def _submit_limited(site: Site, _worker: int) -> None:
    await site.limited.receive(site.limited.message(f"new-{uuid4()}", tenant="tenant-0"))


async def _publish(_message: OutgoingMessage) -> None:
    """Confirm it."""


async def _relay_answers(site: Site, worker: int) -> None:
    await site.outboxes[worker].relay(Lane.RESPONSES, _publish)


async def _relay_orders(site: Site, worker: int) -> None:
    for _ in range(2):  # it is noted that they may be out, then they are sent
        await site.outboxes[worker].relay(Lane.ORDERS, _publish)


async def _browse(
    site: Site, tenants: list[str], before: tuple[datetime, UUID] | None = None, **wanted: Any
) -> None:
    await site.tracking.browse(tenants, Filter.model_validate(wanted), before=before, limit=_PAGE)


async def _first_page(site: Site, _worker: int) -> None:
    await _browse(site, ["tenant-0"])


async def _of_all(site: Site, _worker: int) -> None:
    await _browse(site, site.tenants)


async def _deep_page(site: Site, _worker: int) -> None:
    await _browse(site, ["tenant-0"], site.middle)


async def _in_state(site: Site, _worker: int) -> None:
    await _browse(site, ["tenant-0"], state=[State.TRANSFERRING])


async def _failed(site: Site, _worker: int) -> None:
    await _browse(site, ["tenant-0"], state=[State.ERROR])


async def _of_user(site: Site, _worker: int) -> None:
    await _browse(site, ["tenant-0"], user="user-0@example.org")


async def _labelled(site: Site, _worker: int) -> None:
    await _browse(site, ["tenant-0"], label=["weekly"])


async def _with_words(site: Site, _worker: int) -> None:
    await _browse(site, ["tenant-0"], text="nowhere")


async def _of_client(site: Site, _worker: int) -> None:
    await site.tracking.of("tenant-0", "waiting-2")


async def _news(site: Site, _worker: int) -> None:
    await site.deliveries.changes.since(site.last - _PAGE, missing=[], limit=_PAGE)


async def _missed_news(site: Site, _worker: int) -> None:
    await site.deliveries.changes.replay("tenant-0", site.last - 1000, limit=_PAGE)


async def _depths(site: Site, _worker: int) -> None:
    await site.deliveries.overview.depths()
    await site.deliveries.overview.owed()


async def _outcomes(site: Site, _worker: int) -> None:
    await site.deliveries.overview.outcomes(
        ["tenant-0"], since=site.deliveries.now() - timedelta(days=1)
    )


async def _troubles(site: Site, _worker: int) -> None:
    await site.deliveries.attention.troubles(["tenant-0"])


async def _history(site: Site, _worker: int) -> None:
    await site.deliveries.histories.history(["tenant-0"], step=Step.DAY, target=None)


async def _sweep(site: Site, _worker: int) -> None:
    """Do what is due by the clock, each few seconds or minutes, while there is nothing to do."""
    store, hour = site.deliveries.store, timedelta(hours=1)
    await store.expired(100)
    await store.unswept(hour, limit=100)
    await store.quiet_orders(hour, limit=100)
    await store.due_place(longest=hour)
    await store.untold_reports(limit=100)
    await site.deliveries.arrivals().overdue(500)
    await site.deliveries.contents.due(limit=100)
    await store.record_wait("tenant-0", None, "the target is away", limit=100)
    await store.clear_wait("tenant-0", "another one is", limit=100)
    async with store.transaction() as tx:
        await tx.held_tenants()


async def _forget(site: Site, _worker: int) -> None:
    site.forgotten += _FORGOTTEN
    age = datetime.now(UTC) - site.ends[site.forgotten]
    await site.janitor.forget(finished=age, audited=age)


Run: TypeAlias = Callable[[Site, int], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is measured."""

    name: str
    of: str  # which of the six
    run: Run  # by a worker of this number
    led: bool = False  # one process does it for all


OPERATIONS = (
    Operation(of="claim", name="no limit", run=_claim),
    Operation(of="claim", name="at most 1,000 a tenant", run=_claim_limited),
    Operation(of="claim", name="half of the tenants away", run=_claim_beside_tenants),
    Operation(of="claim", name="a target of each away", run=_claim_beside_targets),
    Operation(of="submit", name="no quota", run=_submit),
    Operation(of="submit", name="with a quota of requests", run=_submit_limited),
    Operation(of="relay", name="answers", run=_relay_answers),
    Operation(of="relay", name="orders", run=_relay_orders),
    Operation(of="list", name="first page", run=_first_page),
    Operation(of="list", name="first page of all tenants", run=_of_all),
    Operation(of="list", name="a page in the middle", run=_deep_page),
    Operation(of="list", name="a state that none is in", run=_in_state),
    Operation(of="list", name="failed", run=_failed),
    Operation(of="list", name="of a user", run=_of_user),
    Operation(of="list", name="a label that none has", run=_labelled),
    Operation(of="list", name="words that none has", run=_with_words),
    Operation(of="list", name="of a correlation id", run=_of_client),
    Operation(of="list", name="50 steps that are new", run=_news),
    Operation(of="list", name="a tenant's of the last 1,000 steps", run=_missed_news),
    Operation(of="overview", name="depths", run=_depths, led=True),
    Operation(of="overview", name="outcomes of a day", run=_outcomes, led=True),
    Operation(of="overview", name="troubles", run=_troubles, led=True),
    Operation(of="overview", name="history by days", run=_history, led=True),
    Operation(of="sweep", name="nothing is due", run=_sweep, led=True),
    Operation(of="janitor", name="20 deliveries are old", run=_forget, led=True),
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """What an operation costs at a size."""

    size: int
    buffers: float  # pages that are looked at
    milliseconds: float  # in the server
    statements: dict[str, float] = field(default_factory=dict)  # the pages of each


def _median_of(costs: list[Cost], size: int, share: int) -> Point:
    names = sorted({name for cost in costs for name in cost.buffers})
    return Point(
        size=size,
        buffers=statistics.median(cost.buffers.total() for cost in costs) / share,
        milliseconds=statistics.median(cost.milliseconds for cost in costs) / share,
        statements={
            name: statistics.median(cost.buffers[name] for cost in costs) / share for name in names
        },
    )


async def measure(operation: Operation, site: Site, costs: Costs, size: int) -> Point:
    """Return what an operation costs one worker."""
    workers = 1 if operation.led else site.size.workers
    found = []
    for _ in range(_ROUNDS):
        await costs.begin()
        await asyncio.gather(*(operation.run(site, worker) for worker in range(workers)))
        found.append(await costs.end())
    return _median_of(found, size, workers)


def grows(points: list[tuple[int, float]]) -> bool:
    """Whether figures grow faster than the logarithm of the size, as the depth of an index does.

    By the two largest sizes: at the smallest, a page of a list has not as many rows as it may have.
    """
    (less, before), (more, after) = points[-2:]
    return after > before * math.log(more) / math.log(less) + _SLACK


def growing(points: list[Point]) -> Iterator[str]:
    """Yield the statements of an operation that look at more pages than that."""
    for name in points[-1].statements:
        if grows([(point.size, point.statements.get(name, 0)) for point in points]):
            yield f"{name}: " + ", ".join(
                f"{point.statements.get(name, 0):,.0f}" for point in points
            )


def sizes_of(axis: str, limit: int) -> list[int]:
    """Return the sizes on an axis, as far as they are tried."""
    most = {"finished": limit, "waiting": limit // 10}.get(axis)
    return [size for size in _AXES[axis] if most is None or size <= most]


Figures: TypeAlias = dict[str, dict[str, list[Point]]]  # by axis, then by operation


async def _along(axis: str, site: Site, costs: Costs, asked: argparse.Namespace) -> Figures:
    along: dict[str, list[Point]] = {}
    for value in sizes_of(axis, asked.limit):
        size: dict[str, Any] = {axis: value}
        await site.be(Size(**size))
        for operation in OPERATIONS:
            name = f"{operation.of}: {operation.name}"
            if asked.only in name and not (operation.led and axis == "workers"):
                point = await measure(operation, site, costs, value)
                along.setdefault(name, []).append(point)
    return {axis: along}


async def _uneven(site: Site, costs: Costs, asked: argparse.Namespace) -> None:
    """Print what the smaller of two tenants pays for the larger one."""
    # So many wait that the smaller one has something to claim in each round.
    finished = min(asked.limit, 100_000)
    await site.be(Size(tenants=2, finished=finished, waiting=10_000, uneven=True))
    for operation in OPERATIONS:
        name = f"{operation.of}: {operation.name}"
        if asked.only in name:
            point = await measure(operation, site, costs, 2)
            print(f"    {name:<45} {point.buffers:9,.0f} {point.milliseconds:9.2f} ms")


def tell(axis: str, along: dict[str, list[Point]]) -> None:
    """Print the figures of an axis, and what grows too fast."""
    for name, points in along.items():
        buffers = " ".join(f"{point.buffers:9,.0f}" for point in points)
        times = " ".join(f"{point.milliseconds:8.2f}" for point in points)
        print(f"    {name:<45} {buffers}   {times} ms")
        for grown in growing(points) if len(points) > 1 else ():
            print(f"        grows faster than the logarithm of {axis}: {grown}", flush=True)


def write(figures: Figures, limit: int) -> None:
    """Keep the figures and draw them."""
    on = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": _ROUNDS,
        "limit": limit,
    }
    kept = {
        axis: {name: [vars(point) for point in points] for name, points in along.items()}
        for axis, along in figures.items()
    }
    RESULTS.write_text(json.dumps({"on": on, "figures": kept}, indent=1) + "\n")
    draw_growth(kept, PLOT)


async def _main(asked: argparse.Namespace) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the user that PostgreSQL runs as
        async with (
            postgres(folder, settings=SETTINGS | {"autovacuum": "off"}) as server,
            open_pool(
                server.url,
                size=max(_AXES["workers"]),
                start_timeout=30,
                command_timeout=3600,
                statement_timeout=3600,
            ) as pool,
        ):
            await migrate(pool)
            connection = await asyncpg.connect(server.url)
            costs = Costs(connection)
            await costs.prepare()
            site, figures = Site(pool), Figures()
            for axis in _AXES:
                if asked.axis in axis:
                    print(f"{axis}: {', '.join(f'{n:,}' for n in sizes_of(axis, asked.limit))}")
                    figures |= await _along(axis, site, costs, asked)
                    tell(axis, figures[axis])
            if not asked.axis:
                print("two tenants, the first of which has a hundredth")
                await _uneven(site, costs, asked)
            await connection.close()
    if asked.write:
        write(figures, asked.limit)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--limit", type=int, default=1_000_000, help="finished deliveries, at most")
    parser.add_argument("--axis", default="", help="only those whose name has this in it")
    parser.add_argument("--only", default="", help="only operations whose name has this in it")
    parser.add_argument("--write", action="store_true", help="keep the results, and draw them")
    asyncio.run(_main(parser.parse_args()))
