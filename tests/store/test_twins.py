"""Side by side: whatever is asked of both stores, in whatever order, they answer the same."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.delivery.model import Delivery
from app.delivery.ports import Checkpoints
from app.delivery.states import State, Work
from app.delivery.targets import Blocked
from app.errors import FolderBusyError
from app.settings import Settings
from compose.embedded.stack import TENANT
from tests.builders import make_upload
from tests.deliveries import Deliveries, DeliveriesInMemory, DeliveriesInPostgres
from tests.store.conftest import OTHER
from tests.store.test_checkpoints import step as step_of
from tests.store.test_checkpoints import steps_of, tail_of
from tests.store.test_state_machine import World
from tests.store.test_state_machine import steps as lives

pytestmark = pytest.mark.stack

Both = tuple[Deliveries, Deliveries]

drawn = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def both(request: pytest.FixtureRequest) -> Both:
    """Deliveries in memory, and in PostgreSQL."""
    tenants = (TENANT, OTHER)
    shared = request.getfixturevalue("settings").model_copy(update={"tenants": tenants})
    in_postgres = DeliveriesInPostgres(request.getfixturevalue("pool"), shared)
    return DeliveriesInMemory(Settings(tenants=tenants)), in_postgres


async def seen(world: World) -> list[Any]:
    """Return all that is known of a correlation id, but for ids and times, which none chooses."""
    return [
        [
            (
                *(row.state, row.attempt, row.failures, row.tries, row.order_id),
                *(row.order_awaited, row.lease_owner, row.last_cause, row.swept),
                await world.moves(row.id),
            )
            for row in await world.ended()
        ],
        [(message.kind, message.body.get("status")) for message in await world.owed()],
        [(message.kind, message.body.get("orderId")) for message in world.sent],
    ]


@given(steps=lives)
@drawn
async def test_a_delivery_lives_the_same_life_in_both(both: Both, steps: list[object]) -> None:
    worlds = [World(deliveries) for deliveries in both]
    for world in worlds:
        await world.arrive("new")
    for step in steps:
        for world in worlds:
            await world.take(step)
        in_memory, in_postgres = [await seen(world) for world in worlds]
        assert in_memory == in_postgres, step
    for world in worlds:
        await world.expire()  # nothing is left for the next one


@dataclass
class Queue:
    """What several workers claim, and do with it."""

    deliveries: Deliveries
    held: list[tuple[str, Delivery]] = field(default_factory=list)
    claimed: list[tuple[str, Delivery]] = field(default_factory=list)  # also what was taken over
    added: int = 0

    async def add(self, tenant: str, target: str, priority: int) -> object:
        self.added += 1
        name = f"q{self.added}"
        await self.deliveries.ready(name, tenant=tenant, target=target, priority=priority)
        return name

    async def claim(self, worker: str, limit: int | None, blocked: Blocked) -> object:
        leases = self.deliveries.leases(
            worker, seconds=3600, transfers_per_tenant=limit, blocked=lambda: blocked
        )
        claimed = await leases.claim(Work.TRANSFER)
        if claimed is None:
            return None
        self.held.append((worker, claimed))
        self.claimed.append((worker, claimed))
        more = leases.sees_more(Work.TRANSFER)
        return claimed.tenant, claimed.correlation_id, claimed.attempt, claimed.last_cause, more

    async def renew(self, which: int) -> object:
        if not self.held:
            return None
        worker, delivery = self.held[which % len(self.held)]
        leases = self.deliveries.leases(worker, seconds=3600)
        return await leases.holds(delivery), await leases.renew(delivery)

    async def release(self, which: int, hours: int) -> object:
        if not self.held:
            return None
        worker, delivery = self.held.pop(which % len(self.held))
        after = timedelta(hours=hours)
        await self.deliveries.leases(worker).release(
            delivery, after=after, failed=bool(hours), cause=f"after {hours} hours"
        )
        row = await self.deliveries.row(delivery)
        return row.tries, row.failures, row.last_cause, row.lease_owner

    async def end(self, which: int) -> object:
        if not self.held:
            return None
        _, delivery = self.held.pop(which % len(self.held))
        async with self.deliveries.store.transaction() as tx:
            return await tx.advance(delivery, State.ERROR)

    async def park(self, which: int) -> object:
        if not self.held:
            return None
        worker, delivery = self.held.pop(which % len(self.held))
        await self.deliveries.leases(worker).park(delivery, cause="waits for the next suborder")
        row = await self.deliveries.row(delivery)
        return row.tries, row.last_cause, row.lease_owner

    # Half-made archives, of attempts that may have lost their lease.

    def _of(self, which: int) -> tuple[str, Checkpoints, Delivery] | None:
        if not self.claimed:
            return None
        worker, delivery = self.claimed[which % len(self.claimed)]
        return worker, self.deliveries.checkpoints(worker), delivery

    async def open(self, which: int, upload: str) -> object:
        if (of := self._of(which)) is None:
            return None
        worker, _, delivery = of
        return await self.deliveries.leases(worker).record_upload(delivery, UPLOADS[upload])

    async def save(self, which: int, upload: str, back: int, members: int) -> object:
        """Save what follows the last step, or an earlier one: then its answer was lost."""
        if (of := self._of(which)) is None:
            return None
        _, checkpoints, delivery = of
        saved = await checkpoints.steps(delivery, UPLOADS[upload])
        parts, before = saved[-1 - back].reaches if len(saved) > back else (0, 0)
        tail = tail_of(delivery.attempt) if members else None
        taken = step_of(parts + 1, follows=parts, members=members, after=before, tail=tail)
        answer = await checkpoints.save(delivery, UPLOADS[upload], taken)
        return answer, await steps_of(checkpoints, delivery, UPLOADS[upload])

    async def put(self, which: int, upload: str, minutes: int) -> object:
        if (of := self._of(which)) is None:
            return None
        _, checkpoints, delivery = of
        key, until = tail_of(delivery.attempt).key, timedelta(minutes=minutes)
        noted = await checkpoints.record_tail(delivery, UPLOADS[upload], key, until=until)
        return noted, await checkpoints.tails(delivery)

    async def files(self, which: int, upload: str, place: str, minutes: int) -> object:
        if (of := self._of(which)) is None:
            return None
        _, checkpoints, delivery = of
        try:
            noted = await checkpoints.record_files(
                delivery,
                UPLOADS[upload],
                tail_of(delivery.attempt).key,
                url=place,
                namespace="s3",
                until=timedelta(minutes=minutes),
            )
        except FolderBusyError as error:
            return str(error)
        return noted, await checkpoints.tails(delivery)

    async def drop(self, which: int, attempts: list[int], minutes: int) -> object:
        if (of := self._of(which)) is None:
            return None
        _, checkpoints, delivery = of
        keys, took = [tail_of(each).key for each in attempts], timedelta(minutes=minutes)
        await checkpoints.forget_tails(delivery, keys, took=took)
        return await checkpoints.tails(delivery)

    async def keep(self, which: int, upload: str, another: bool) -> object:
        if (of := self._of(which)) is None:
            return None
        _, checkpoints, delivery = of
        return await checkpoints.is_kept(delivery, UPLOADS[upload], for_another=another)

    async def elapse(self, minutes: int) -> object:
        await self.deliveries.elapse(timedelta(minutes=minutes))
        return None

    async def tell(self, target: str | None, *, waits: bool) -> object:
        store = self.deliveries.store
        if waits:
            return await store.record_wait(TENANT, target, "away", limit=9)
        return await store.clear_wait(TENANT, "away", limit=9)


UPLOADS = {name: replace(make_upload(upload_id=name), target=name) for name in ("u1", "u2")}

some_tenant = st.sampled_from([TENANT, OTHER, "third"])
some_target = st.sampled_from(["near", "far"])
some_blocked = st.sampled_from(
    [
        Blocked(),
        Blocked(),
        Blocked(tenants=(TENANT,)),
        Blocked(tenants=(TENANT, OTHER), spared=((TENANT, "far"), (OTHER, "near"))),
    ]
)
which = st.integers(0, 3)
add = st.tuples(st.just("add"), some_tenant, some_target, st.sampled_from([1, 1, 30, 200]))
claim = st.tuples(
    st.just("claim"), st.sampled_from("ab"), st.sampled_from([None, None, 1, 2]), some_blocked
)
work = st.one_of(
    add,
    add,
    claim,
    claim,
    claim,
    st.tuples(st.just("renew"), which),
    st.tuples(st.just("release"), which, st.sampled_from([0, 0, 2])),
    st.tuples(st.just("end"), which),
    st.tuples(st.just("elapse"), st.sampled_from([40, 100])),
    st.tuples(st.just("tell"), st.sampled_from([None, "near"]), st.booleans()),
)


some_upload = st.sampled_from(["u1", "u1", "u1", "u2"])
half_made = st.one_of(
    add,
    st.tuples(st.just("claim"), st.sampled_from("ab"), st.none(), st.just(Blocked())),
    st.tuples(st.just("open"), which, some_upload),
    st.tuples(st.just("open"), which, some_upload),
    st.tuples(st.just("save"), which, some_upload, st.sampled_from([0, 0, 1]), st.integers(0, 2)),
    st.tuples(st.just("save"), which, some_upload, st.sampled_from([0, 0, 1]), st.integers(0, 2)),
    st.tuples(st.just("put"), which, some_upload, st.sampled_from([-60, 60])),
    st.tuples(
        st.just("files"), which, some_upload, st.sampled_from("pq"), st.sampled_from([0, 60])
    ),
    st.tuples(st.just("drop"), which, st.lists(st.integers(1, 3)), st.sampled_from([0, 30])),
    st.tuples(st.just("keep"), which, some_upload, st.booleans()),
    st.tuples(st.just("park"), which),
    st.tuples(st.just("release"), which, st.just(0)),
    st.tuples(st.just("end"), which),
    st.tuples(st.just("elapse"), st.sampled_from([40, 100])),
)


@given(steps=st.lists(work, max_size=30))
@drawn
async def test_work_is_given_out_in_the_same_order_by_both(
    both: Both, steps: list[tuple[Any, ...]]
) -> None:
    await compare(both, steps)


@given(steps=st.lists(half_made, max_size=40))
@example(
    steps=[  # two tenants' files at one place: under way, then failed, then none of it can come
        ("add", TENANT, "near", 1),
        ("claim", "a", None, Blocked()),
        ("open", 0, "u1"),
        ("files", 0, "u1", "p", 60),
        ("add", OTHER, "near", 1),
        ("claim", "b", None, Blocked()),
        ("open", 1, "u1"),
        ("files", 1, "u1", "p", 60),
        ("files", 1, "u1", "q", 60),
        ("files", 0, "u1", "q", 60),
        ("end", 0),
        ("files", 1, "u1", "p", 60),
        ("elapse", 100),
        ("files", 1, "u1", "p", 60),
    ]
)
@example(
    steps=[
        ("add", TENANT, "near", 1),
        ("claim", "a", None, Blocked()),
        ("open", 0, "u1"),
        ("put", 0, "u1", 60),
        ("save", 0, "u1", 0, 2),
        ("park", 0),
        ("claim", "b", None, Blocked()),
        ("save", 0, "u1", 0, 1),  # it was taken over
        ("save", 1, "u1", 1, 1),
        ("put", 1, "u1", 60),
        ("drop", 1, [1, 2], 0),
        ("elapse", 40),
        ("elapse", 40),
        ("drop", 1, [1, 2], 30),  # what was put an hour ago, by a look that began before that
        ("elapse", 40),
        ("drop", 1, [1], 30),
        ("keep", 0, "u1", True),
        ("keep", 1, "u1", True),
        ("end", 0),
        ("keep", 0, "u1", True),
    ]
)
@drawn
async def test_half_made_archives_are_kept_the_same_by_both(
    both: Both, steps: list[tuple[Any, ...]]
) -> None:
    await compare(both, steps)


async def compare(both: Both, steps: list[tuple[Any, ...]]) -> None:
    """Take steps in both, and compare each answer."""
    queues = [Queue(deliveries) for deliveries in both]
    try:
        for name, *arguments in steps:
            answers = []
            for queue in queues:
                if name == "tell":
                    answers.append(await queue.tell(arguments[0], waits=arguments[1]))
                else:
                    answers.append(await getattr(queue, name)(*arguments))
            in_memory, in_postgres = answers
            assert in_memory == in_postgres, (name, arguments)
    finally:
        for deliveries in both:
            await deliveries.clear()
