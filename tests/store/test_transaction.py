"""The unit of work: as a whole or not at all, seen and waited for as PostgreSQL has it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.audit import AuditEntry
from app.delivery import outgoing
from app.delivery.ingress import Asked, Opening
from app.delivery.manifest import Extent, ManifestFile
from app.delivery.model import Delivery
from app.delivery.outgoing import Lane
from app.delivery.states import ADVANCES, State, Work
from app.errors import ErrorType, LeaseLostError, StoreUnavailableError
from app.usecases.fail import fail
from app.usecases.laying_out import write
from compose.embedded.stack import TENANT
from tests.builders import (
    make_actor,
    make_delivery,
    make_done,
    make_file,
    make_listed,
    make_manifest,
    make_order_event,
    make_outgoing,
    make_request,
    make_stored,
    make_upload,
    name_bytes,
)
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER

LAST = 2**62  # number of an entry that is newer than all


async def several_turns() -> None:
    """Let what is not kept from it go on: over a connection, too."""
    await asyncio.sleep(0.05)


def opening(correlation_id: str = "c", **changes: object) -> Opening:
    """Return a request that is granted at once."""
    return Opening(
        request=make_request(correlation_id, **changes),
        state=State.GRANTED,
        requested_at=None,
        ttl=timedelta(hours=1),
    )


# Who is woken.


async def test_what_is_owed_wakes_those_that_send_it_and_no_others(deliveries: Deliveries) -> None:
    heard = {lane: deliveries.owed_signal.waiter(lane) for lane in Lane}
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(make_outgoing())
    assert [lane for lane in Lane if heard[lane].event.is_set()] == [Lane.RESPONSES]


# Whole, or nothing.


async def test_a_transaction_that_fails_leaves_nothing_and_tells_no_client(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.granted()
    before = await deliveries.rows(), await deliveries.outgoing()
    told: list[str] = []
    heard = deliveries.owed_signal.waiter()
    heard.event.clear()
    with pytest.raises(KeyError):
        async with deliveries.store.transaction() as tx:
            tx.on_commit(lambda: told.append("committed"))
            assert await tx.advance(delivery, State.ORDERED, order_id=1)
            await tx.enqueue(outgoing.granted(delivery))
            await tx.audit(make_done())
            await tx.open_deliveries([opening("another")])
            raise KeyError
    assert (await deliveries.rows(), await deliveries.outgoing()) == before
    assert await deliveries.audit.entries(None, before=LAST, limit=9) == []
    assert told == []
    assert not heard.event.is_set()


async def test_what_a_transaction_does_is_seen_by_itself_at_once_and_by_others_in_the_end(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.granted()
    told: list[list[str]] = []
    heard = deliveries.owed_signal.waiter()
    heard.event.clear()
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(delivery, State.ORDERED, order_id=1)
        await tx.enqueue(outgoing.granted(delivery))
        own = await tx.lock(TENANT, "c")
        assert own is not None
        assert (own.state, own.order_id) == (State.ORDERED, 1)
        assert await deliveries.states() == ["GRANTED"]
        tx.on_commit(lambda: told.append([]))
        assert told == []
        assert not heard.event.is_set()
    assert told == [[]]
    assert heard.event.is_set()
    assert await deliveries.states() == ["ORDERED"]


async def test_a_transaction_of_which_a_statement_failed_commits_nothing(
    deliveries: Deliveries,
) -> None:
    """Also when the error is caught within it: then the end of the block says so."""
    delivery = await deliveries.ready()
    told: list[str] = []
    heard = deliveries.owed_signal.waiter()
    heard.event.clear()
    with pytest.raises(RuntimeError, match="a statement of it had failed"):
        async with deliveries.store.transaction() as tx:
            tx.on_commit(lambda: told.append("committed"))
            assert await tx.advance(delivery, State.ERROR)
            await tx.enqueue(outgoing.granted(delivery))
            with pytest.raises(LeaseLostError):
                await tx.add_files(delivery, [make_file()])
    assert await deliveries.states() == ["READY"]
    assert told == []
    assert not heard.event.is_set()
    # The connection is as good as before.
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(delivery, State.ERROR)
    assert await deliveries.states() == ["ERROR"]


# Deliveries.


async def test_of_two_that_open_the_same_correlation_id_at_once_one_does(
    deliveries: Deliveries,
) -> None:
    async with deliveries.store.transaction() as tx:
        assert len(await tx.open_deliveries([opening()])) == 1

        async def open_another() -> int:
            async with deliveries.store.transaction() as other:
                return len(await other.open_deliveries([opening(), opening("d")]))

        waiting = asyncio.create_task(open_another())
        await several_turns()
        assert not waiting.done()
    assert await waiting == 1
    assert [row.correlation_id for row in await deliveries.rows()] == ["c", "d"]


async def test_a_correlation_id_is_free_once_its_delivery_has_ended_or_its_opening_failed(
    deliveries: Deliveries,
) -> None:
    with pytest.raises(KeyError):
        async with deliveries.store.transaction() as tx:
            await tx.open_deliveries([opening()])
            raise KeyError
    first = await deliveries.granted()

    async def open_another() -> int:
        async with deliveries.store.transaction() as other:
            return len(await other.open_deliveries([opening()]))

    assert await open_another() == 0
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(first, State.ERROR)
        waiting = asyncio.create_task(open_another())
        await several_turns()
        assert not waiting.done()
    assert await waiting == 1
    assert await deliveries.states() == ["ERROR", "GRANTED"]


async def test_the_same_correlation_id_of_another_tenant_is_another_one(
    deliveries: Deliveries,
) -> None:
    async with deliveries.store.transaction() as tx:
        opened = await tx.open_deliveries([opening(), opening(tenant=OTHER)])
        assert len(opened) == 2
        assert await tx.lock("other", "c") is None


async def test_a_locked_delivery_is_waited_for_and_looked_at_again(deliveries: Deliveries) -> None:
    delivery = await deliveries.granted()

    async def locked() -> State | None:
        async with deliveries.store.transaction() as other:
            found = await other.lock(TENANT, "c")
            return found.state if found else None

    async with deliveries.store.transaction() as tx:
        assert await tx.lock(TENANT, "c") is not None
        waiting = asyncio.create_task(locked())
        await several_turns()
        assert not waiting.done()
        assert await tx.advance(delivery, State.ORDERED)
    assert await waiting is State.ORDERED
    async with deliveries.store.transaction() as tx:
        assert await tx.lock(TENANT, "c") is not None
        waiting = asyncio.create_task(locked())
        await several_turns()
        assert await tx.advance(await seen(deliveries), State.ERROR)
    assert await waiting is None


async def seen(deliveries: Deliveries) -> Any:
    """Return what another transaction has committed; it does not wait."""
    claimed = await deliveries.row((await deliveries.of())[0].id)
    return make_delivery(id=claimed.id, state=claimed.state, attempt=claimed.attempt)


async def test_two_transactions_that_wait_for_each_other_are_not_both_lost(
    deliveries: Deliveries,
) -> None:
    for name in ("a", "b"):
        await deliveries.granted(name)
    both_have_one = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> bool:
        try:
            async with deliveries.store.transaction() as tx:
                assert await tx.lock(TENANT, first) is not None
                await both_have_one.wait()
                assert await tx.lock(TENANT, second) is not None
        except StoreUnavailableError:
            return False
        return True

    assert sorted(await asyncio.gather(lock("a", "b"), lock("b", "a"))) == [False, True]


async def test_advance_makes_its_transitions_and_refuses_the_rest(deliveries: Deliveries) -> None:
    delivery = await deliveries.granted()
    for before, after in product(State, State):
        seen = await deliveries.put(delivery, before)
        async with deliveries.store.transaction() as tx:
            if after in ADVANCES[before]:
                assert await tx.advance(seen, after), (before, after)
                assert not await tx.advance(seen, after) or after is before  # a lost race
            else:
                with pytest.raises(ValueError, match=f"can't go from {before} to {after}"):
                    await tx.advance(seen, after)
        expected = after if after in ADVANCES[before] else before
        assert await deliveries.states() == [expected]


async def test_what_is_told_with_a_transition_stays_until_something_else_is_told(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.granted()
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(delivery, State.ORDERED, order_id=7, total_suborders=1)
        again = await tx.lock(TENANT, "c")
        assert again is not None
        assert await tx.advance(again, State.AVAILABLE)
    available = await deliveries.active()
    assert (available.order_id, available.total_suborders) == (7, 1)


async def test_a_delivery_that_was_never_granted_can_be_withdrawn_and_another_can_not(
    deliveries: Deliveries,
) -> None:
    granted = await deliveries.granted("granted")
    received = await deliveries.put(await deliveries.granted("received"), State.RECEIVED)
    async with deliveries.store.transaction() as tx:
        assert not await tx.delete_ungranted(granted)
        assert await tx.delete_ungranted(received)
        assert not await tx.delete_ungranted(received)
    assert [row.correlation_id for row in await deliveries.rows()] == ["granted"]
    assert await deliveries.moved(received.id) == []


async def test_a_manifest_is_written_once(deliveries: Deliveries) -> None:
    delivery = await deliveries.available()
    files = [make_file(f"f{number}", position=number) for number in range(3)]
    async with deliveries.store.transaction() as tx:
        await tx.add_files(delivery, files[:2])
        await tx.add_files(delivery, files[2:])

        async def write_another() -> None:
            async with deliveries.store.transaction() as other:
                await other.add_files(delivery, files[1:2])

        waiting = asyncio.create_task(write_another())
        await several_turns()
        assert not waiting.done()
        # Its lease can be renewed meanwhile, and others look at it.
        async with deliveries.store.transaction() as other:
            assert await other.lock(TENANT, "c") is not None
        assert await tx.advance(delivery, State.READY, manifest=make_manifest(files))
    with pytest.raises(LeaseLostError, match="was planned by another worker"):
        await waiting
    ready = await deliveries.active()
    assert [file async for file in deliveries.store.files(ready)] == files
    assert not (await deliveries.store.extent(ready)).sizes_known
    with pytest.raises(LeaseLostError, match="is gone"):
        async with deliveries.store.transaction() as tx:
            await tx.add_files(make_delivery(), files)


async def test_a_manifest_is_read_a_batch_at_a_time_in_its_order(deliveries: Deliveries) -> None:
    delivery = await deliveries.available()
    files = [make_file(f"é{number}", position=number, size=1) for number in range(2500)]
    async with deliveries.store.transaction() as tx:
        await tx.add_files(delivery, files[::-1])
    assert [file async for file in deliveries.store.files(delivery)] == files
    names = name_bytes(file.member for file in files)
    extent = Extent(sizes_known=True, name_bytes=names)
    assert await deliveries.store.extent(delivery) == extent
    assert await measured(deliveries, delivery) == (extent, files)


async def test_a_short_manifest_is_measured_as_it_is_read(deliveries: Deliveries) -> None:
    delivery = await deliveries.available()
    assert await measured(deliveries, delivery) == (Extent(sizes_known=True), [])
    files = [make_file("é", position=0, size=1), make_file("b", position=1)]
    async with deliveries.store.transaction() as tx:
        await tx.add_files(delivery, files)
    extent = await deliveries.store.extent(delivery)
    assert extent == Extent(sizes_known=False, name_bytes=3)
    assert await measured(deliveries, delivery) == (extent, files)


async def measured(deliveries: Deliveries, delivery: Delivery) -> tuple[Extent, list[ManifestFile]]:
    extent, files = await deliveries.store.measured(delivery)
    return extent, [file async for file in files]


# Orders.


async def test_an_order_request_is_taken_back_where_it_is_surely_not_out(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.granted()
    async with deliveries.store.transaction() as tx:
        assert await tx.withdraw_order(delivery)
        assert not await tx.withdraw_order(delivery)
    assert [kind for kind, _ in await deliveries.owed()] == ["response"]


async def test_orders_that_are_awaited_are_given_from_the_oldest_on(deliveries: Deliveries) -> None:
    ended = []
    for _ in range(3):
        delivery = await deliveries.granted()
        await deliveries.order()
        await deliveries.fail(delivery, "for the test")
        ended.append(delivery.id)
        await deliveries.elapse(timedelta(seconds=1))
    async with deliveries.store.transaction() as tx:
        awaited = await tx.awaited_orders(TENANT, "c", None)
        assert [order.id for order in awaited] == ended
        early = await tx.awaited_orders(TENANT, "c", awaited[1].requested_at)
        assert [order.id for order in early] == ended[:2]
        await tx.record_answer(awaited[0], 7)
        await tx.record_answer(awaited[1], None)
        assert [order.id for order in await tx.awaited_orders(TENANT, "c", None)] == ended[2:]
        assert await tx.awaited_unless_had(TENANT, "c", None, 7) is None
        left = await tx.awaited_unless_had(TENANT, "c", None, 8)
        assert [order.id for order in left or []] == ended[2:]
    await deliveries.granted()
    await deliveries.tell(make_order_event().status, order_id=8)
    async with deliveries.store.transaction() as tx:
        # Of the active one, not of an earlier.
        assert await tx.awaited_unless_had(TENANT, "c", None, 8) is not None
        before = awaited[0].requested_at - timedelta(seconds=1)
        assert await tx.awaited_unless_had(TENANT, "c", before, 8) == []


# Requests over HTTP.


async def test_what_was_asked_for_is_known_by_its_key_and_while_active_by_its_words(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.granted()
    asked = Asked(request=b"r" * 32, key=b"k" * 32)
    keyless = Asked(request=b"r" * 32, key=None)
    other = Asked(request=b"o" * 32, key=b"k" * 32)
    async with deliveries.store.transaction() as tx:
        assert await tx.asked_before(asked, active=True) is None
        for _ in range(2):
            await tx.record_request(asked, delivery.id)
        for request, active in ((asked, False), (keyless, True), (other, False)):
            known = await tx.asked_before(request, active=active)
            assert known is not None
            assert (known.request, known.delivery_id) == (b"r" * 32, delivery.id)
        assert await tx.asked_before(keyless, active=False) is None
    await deliveries.fail(delivery, "for the test")
    async with deliveries.store.transaction() as tx:
        assert await tx.asked_before(keyless, active=True) is None
        assert await tx.asked_before(asked, active=True) is not None


async def test_who_asks_the_same_at_once_waits(deliveries: Deliveries) -> None:
    asked = Asked(request=b"r" * 32, key=None)
    delivery = await deliveries.granted()

    async def ask() -> bool:
        async with deliveries.store.transaction() as other:
            return await other.asked_before(asked, active=True) is not None

    async with deliveries.store.transaction() as tx:
        assert await tx.asked_before(asked, active=True) is None
        waiting = asyncio.create_task(ask())
        await several_turns()
        assert not waiting.done()
        await tx.record_request(asked, delivery.id)
    assert await waiting


# Objects.


async def test_an_object_is_relied_on_by_who_was_told_it_and_who_is_making_it(
    deliveries: Deliveries,
) -> None:
    made = make_stored(make_upload(container="b", key="k"), etag="e")

    async def relied_on(etag: str = "e", namespace: str = "s3:9000") -> bool:
        async with deliveries.store.transaction() as tx:
            return await tx.relied_on(ended, made.url, etag, namespace=namespace)

    ended = await deliveries.claimed("ended")
    await deliveries.fail(ended, "for the test")
    assert not await relied_on()
    making = await deliveries.claimed("making")
    leases = deliveries.leases("w")
    until = timedelta(minutes=16)
    assert await leases.record_completion(making, made, namespace="s3:9000", until=until)
    assert await relied_on("another")
    assert not await relied_on(namespace="another:9000")
    await deliveries.elapse(timedelta(minutes=17))
    assert not await relied_on()
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(making, State.DONE, result=made)
    assert await deliveries.store.done_by(making)
    assert not await deliveries.store.done_by(ended)
    assert await relied_on()
    assert not await relied_on("another")


async def test_an_object_is_relied_on_while_a_later_attempt_makes_it_and_when_it_is_done(
    deliveries: Deliveries,
) -> None:
    """Also with another ETag than it has: what was found first may have been replaced since."""
    first = await deliveries.claimed()
    await deliveries.let_leases_run_out()
    second = await deliveries.leases("another").claim(Work.TRANSFER)
    assert second is not None
    made = make_stored(make_upload(container="b", key="k"), etag="e")

    async def relied_on() -> bool:
        async with deliveries.store.transaction() as tx:
            return await tx.relied_on(first, made.url, "wrong", namespace="s3:9000")

    assert await relied_on()
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(second, State.DONE, result=made)
    assert await relied_on()


async def test_an_object_that_is_being_removed_is_not_completed_meanwhile(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed()
    made = make_stored(make_upload(container="b", key="k"))
    leases = deliveries.leases("w")
    until = timedelta(minutes=16)
    async with deliveries.store.transaction() as tx:
        await tx.lock_object(made.url, "s3:9000")
        noting = asyncio.create_task(
            leases.record_completion(claimed, made, namespace="s3:9000", until=until)
        )
        await several_turns()
        assert not noting.done()
        # At another server it is another object.
        assert await leases.record_completion(claimed, made, namespace="another:9000", until=until)
    assert await noting


async def test_an_object_that_others_keep_for_too_long_is_not_locked_and_no_harm_is_done(
    deliveries: Deliveries,
) -> None:
    waits, given_up = timedelta(seconds=60), timedelta(milliseconds=50)
    first, second = await deliveries.granted("first"), await deliveries.granted("second")
    async with deliveries.store.transaction() as tx:
        assert await tx.lock_object_within("s3://b/k", "s3:9000", given_up)
        async with deliveries.store.transaction() as other:
            assert not await other.lock_object_within("s3://b/k", "s3:9000", given_up)
            assert not await other.lock_object_within("s3://b/k", "s3:9000", timedelta())
            assert await other.lock_object_within("s3://b/k", "another:9000", given_up)
            assert await fail(other, first, ErrorType.INTERNAL_ERROR, "for the test")
        assert (await deliveries.row(first)).state is State.ERROR

        async def have_it_later() -> None:
            async with deliveries.store.transaction() as later:
                assert await later.lock_object_within("s3://b/k", "s3:9000", waits)
                assert await later.lock_object_within("s3://b/k", "s3:9000", timedelta())
                assert await fail(later, second, ErrorType.INTERNAL_ERROR, "for the test")

        having = asyncio.create_task(have_it_later())
        await several_turns()
        assert not having.done()
    await having
    assert (await deliveries.row(second)).state is State.ERROR


# What is looked for.


async def test_a_delivery_whose_time_is_over_is_expired_the_longest_overdue_first(
    deliveries: Deliveries,
) -> None:
    for name in ("first", "second", "ended"):
        await deliveries.granted(name)
        await deliveries.elapse(timedelta(seconds=1))
    await deliveries.fail(await deliveries.active("ended"), "for the test")
    assert await deliveries.store.expired(9) == []
    await deliveries.elapse(timedelta(hours=13))
    await deliveries.granted("young")
    expired = await deliveries.store.expired(9)
    assert [delivery.correlation_id for delivery in expired] == ["first", "second"]
    assert len(await deliveries.store.expired(1)) == 1


async def test_an_ended_delivery_is_swept_once_and_not_while_its_id_is_in_use(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed()
    leases = deliveries.leases("w")
    upload = make_upload(target="sealed")
    assert await leases.record_upload(claimed, upload)
    made = make_stored(upload)
    until = timedelta(minutes=16)
    assert await leases.record_completion(claimed, made, namespace="s3", until=until)
    async with deliveries.store.transaction() as tx:
        assert await fail(tx, claimed, ErrorType.INTERNAL_ERROR, "for the test", decided=True)
    after = timedelta(minutes=1)

    async def unswept() -> list[str]:
        return [
            delivery.correlation_id for delivery in await deliveries.store.unswept(after, limit=9)
        ]

    assert await unswept() == []
    await deliveries.elapse(timedelta(minutes=2))
    again = await deliveries.granted()
    assert await unswept() == []
    await deliveries.fail(again, "for the test")
    assert await unswept() == ["c"]
    moment = timedelta(seconds=1)
    assert not await deliveries.store.swept(claimed, took=moment)  # it may still appear
    await deliveries.store.postpone_sweeps([claimed], after=after, pause=timedelta(hours=1))
    assert await unswept() == []
    await deliveries.elapse(timedelta(hours=1, seconds=1))
    assert await unswept() == ["c"]
    assert (await deliveries.row(claimed)).upload_target == "sealed"
    # The look began before it could appear no more.
    assert not await deliveries.store.swept(claimed, took=timedelta(hours=2))
    assert await deliveries.store.swept(claimed, took=moment)
    assert await unswept() == []
    assert (await deliveries.row(claimed)).upload_target is None
    await deliveries.store.sweep_again(claimed)
    assert await unswept() == []
    await deliveries.elapse(timedelta(minutes=2))
    assert await unswept() == ["c"]


async def test_a_look_in_which_an_attempt_left_something_is_none_that_sweeps(
    deliveries: Deliveries,
) -> None:
    """It may have asked what is open before that was."""
    claimed = await deliveries.claimed()
    await deliveries.fail(claimed, "for the test")
    await deliveries.elapse(timedelta(minutes=5))
    await deliveries.store.sweep_again(claimed)
    await deliveries.elapse(timedelta(minutes=1))
    assert not await deliveries.store.swept(claimed, took=timedelta(minutes=2))
    assert await deliveries.store.swept(claimed, took=timedelta(seconds=59))


async def test_a_delivery_is_not_swept_while_another_completes_an_object_in_its_place(
    deliveries: Deliveries,
) -> None:
    """What had appeared of it was left alone: it is looked for again."""
    made = make_stored()
    until, moment = timedelta(minutes=16), timedelta(seconds=1)
    first = await deliveries.claimed("first")
    assert await deliveries.leases("w").record_completion(
        first, made, namespace="s3", until=timedelta(seconds=1)
    )
    await deliveries.fail(first, "for the test")
    await deliveries.elapse(timedelta(seconds=5))
    second = await deliveries.claimed("second")
    assert await deliveries.leases("w").record_completion(second, made, namespace="s3", until=until)
    assert not await deliveries.store.swept(first, took=moment)
    await deliveries.elapse(timedelta(minutes=17))
    assert await deliveries.store.swept(first, took=moment)


async def test_uploads_of_others_are_told_unless_one_may_have_opened_another(
    deliveries: Deliveries,
) -> None:
    mine = await deliveries.claimed("x/c")
    theirs = await deliveries.ready("c", tenant=OTHER)
    key = f"x/c/{mine.archive_name}"

    async def others() -> frozenset[str] | None:
        return await deliveries.store.uploads_of_others(mine, container="b", key=key)

    assert await others() == frozenset()
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    assert claimed.id == theirs.id
    assert await others() is None  # it may be opening one there
    leases = deliveries.leases("w")
    assert await leases.record_upload(claimed, make_upload(container="b", key=key, upload_id="u"))
    await leases.release(claimed, after=timedelta(), failed=False, cause="away")
    assert await others() == frozenset({"u"})
    await deliveries.fail(claimed, "for the test")
    assert await others() == frozenset()
    await deliveries.fail(mine, "for the test")
    await deliveries.granted("x/c")
    assert await others() is None  # it has the same correlation id


@pytest.mark.parametrize(
    ("mine", "theirs", "may_meet"),
    [
        (("p/q", "c"), ("p/q", "c"), True),
        (("", "c"), ("p", "c"), False),
        (("p", "c"), ("q", "c"), False),
        (("x/p", "c"), ("p", "c"), True),  # the latter's target may have the prefix x
        (("p", "c"), ("", "c"), True),  # and p
    ],
)
async def test_an_upload_behind_other_folders_is_none_of_another_key(
    deliveries: Deliveries, mine: tuple[str, str], theirs: tuple[str, str], may_meet: bool
) -> None:
    made = []
    for tenant, (prefix, correlation_id) in ((TENANT, mine), (OTHER, theirs)):
        delivery = await deliveries.available(correlation_id, tenant=tenant)
        await deliveries.plan(delivery, [make_listed("f", file_id=1)], prefix=prefix)
        claimed = await deliveries.leases("w").claim(Work.TRANSFER)
        assert claimed is not None
        assert claimed.key == "/".join(filter(None, (prefix, correlation_id, "P_v1.zip")))
        made.append(claimed)
    others = await deliveries.store.uploads_of_others(made[0], container="b", key=made[0].key)
    assert others == (None if may_meet else frozenset())


async def test_an_attempt_that_is_over_is_told_of_no_upload_that_it_may_abort(
    deliveries: Deliveries,
) -> None:
    """Its successor has opened its own by now, which is none of another delivery."""
    stale = await deliveries.claimed("c")
    key = f"c/{stale.archive_name}"
    store = deliveries.store
    assert await store.uploads_of_others(stale, container="b", key=key) == frozenset()
    await deliveries.leases("w").release(stale, after=timedelta(), failed=False, cause="away")
    successor = await deliveries.leases("w2").claim(Work.TRANSFER)
    assert successor is not None
    assert successor.id == stale.id
    assert await store.uploads_of_others(stale, container="b", key=key) is None
    assert await store.uploads_of_others(successor, container="b", key=key) == frozenset()


# The audit trail.


async def test_what_was_done_is_told_from_the_newest_on(deliveries: Deliveries) -> None:
    for number, tenant in enumerate((TENANT, OTHER, TENANT)):
        done = make_done(make_actor(tenant=tenant), subject=f"s{number}", after={"n": number})
        async with deliveries.store.transaction() as tx:
            await tx.audit(done)
        await deliveries.elapse(timedelta(minutes=1))

    async def subjects(tenant: str | None, **wanted: Any) -> list[str]:
        found = await deliveries.audit.entries(tenant, **{"before": LAST, "limit": 9} | wanted)
        return [entry.subject for entry in found]

    newest: AuditEntry = (await deliveries.audit.entries(None, before=LAST, limit=1))[0]
    assert (newest.subject, newest.after, newest.tenant) == ("s2", {"n": 2}, TENANT)
    assert await subjects(None) == ["s2", "s1", "s0"]
    assert await subjects(TENANT) == ["s2", "s0"]
    assert await subjects(None, before=newest.id) == ["s1", "s0"]
    assert await subjects(None, limit=2) == ["s2", "s1"]
    since = deliveries.now() - timedelta(seconds=90)
    assert await subjects(None, since=since) == ["s2"]
    assert await subjects(None, until=since) == ["s1", "s0"]


async def test_what_was_done_is_found_by_who_did_it_what_it_was_and_to_what(
    deliveries: Deliveries,
) -> None:
    for tenant in (TENANT, OTHER):
        for name in ("ann", "bob"):
            actor = make_actor(tenant=tenant, name=name)
            for action in ("set", "try"):
                for subject in ("quota", "report"):
                    await deliveries.audit.record(make_done(actor, action=action, subject=subject))

    async def found(tenant: str | None, **wanted: Any) -> list[tuple[str, str, str]]:
        entries = await deliveries.audit.entries(tenant, **{"before": LAST, "limit": 99} | wanted)
        return [(entry.actor, entry.action, entry.subject) for entry in entries]

    every = await found(TENANT)
    assert len(every) == 8
    for wanted in (
        {"actor": "ann"},
        {"action": "try"},
        {"subject": "quota"},
        {"actor": "ann", "action": "try"},
        {"actor": "bob", "subject": "report"},
        {"action": "set", "subject": "quota"},
        {"actor": "bob", "action": "set", "subject": "report"},
        {"actor": "eve"},
    ):
        known = [
            entry
            for entry in every
            if set(wanted.items()) <= set(zip(("actor", "action", "subject"), entry, strict=True))
        ]
        assert await found(TENANT, **wanted) == known
        assert await found(TENANT, **wanted, limit=1) == known[:1]
        assert len(await found(None, **wanted)) == 2 * len(known)
    now = deliveries.now()
    assert await found(TENANT, subject="quota", since=now + timedelta(hours=1)) == []
    (newest,) = await deliveries.audit.entries(TENANT, before=LAST, limit=1, subject="quota")
    assert len(await found(TENANT, subject="quota", before=newest.id)) == 3


async def test_what_fails_within_the_block_is_not_noted(deliveries: Deliveries) -> None:
    with pytest.raises(KeyError):
        async with deliveries.audit.recording(make_done()):
            raise KeyError
    await deliveries.audit.record(make_done(subject="noted"))
    (entry,) = await deliveries.audit.entries(None, before=LAST, limit=9)
    assert entry.subject == "noted"


async def test_files_that_are_not_verified_at_all_are_told_apart(deliveries: Deliveries) -> None:
    """Nothing but the connection's own end tells that such a file is whole."""
    delivery = await deliveries.available()
    files = [
        make_file("checked", file_id=1, position=0, size=None, md5="0" * 32),
        make_file("sized", file_id=2, position=1, size=5, md5=None),
        make_file("unknown", file_id=3, position=2, size=None, md5=None),
        make_file("unknown, too", file_id=4, position=3, size=None, md5=None),
    ]
    with capture_logs() as logs:
        async with deliveries.store.transaction() as tx:
            await write(tx, delivery, files)
    told = [line for line in logs if line["event"] == "files_without_checksum"]
    assert [(line["files"], line["example"], line["consequence"]) for line in told] == [
        (1, "sized", "verified by size alone"),
        (2, "unknown", "not verified: rs-order tells no size of them either"),
    ]
