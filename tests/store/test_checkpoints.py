"""How far half-made archives are: saved by who has the lease, for who takes over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from app.delivery.checkpoint import Boundary, FinishedMember, Step, Tail, TailObject
from app.delivery.model import Delivery
from app.delivery.object_store import StoredPart, Upload
from app.delivery.ports import Checkpoints
from app.delivery.states import State, Work
from tests.builders import make_stored, make_upload
from tests.deliveries import Deliveries

UPLOAD = replace(make_upload(), target="sealed")
NONE = timedelta()


def step(
    parts: int,
    *,
    follows: int = 0,
    members: int = 0,
    after: int = 0,
    tail: Tail | None = None,
) -> Step:
    """Return a step of `members`, `after` those before."""
    return Step(
        follows=follows,
        part_size=64,
        boundary=Boundary(
            parts=parts, md5_state=bytes(range(16)), members=after + members, crc=2**32 - 1
        ),
        parts=[
            StoredPart(etag=f"e{number}", md5=None if number % 2 else bytes(16))
            for number in range(follows + 1, parts + 1)
        ],
        members=[FinishedMember(2**40, bytes(range(256)))] * members,
        tail=tail,
        made_by=f"a library at level {parts}",
    )


async def steps_of(
    checkpoints: Checkpoints, delivery: Delivery, upload: Upload = UPLOAD
) -> list[Step]:
    """Return what was saved, with the members of each step."""
    whole = []
    for saved in await checkpoints.steps(delivery, upload):
        members = await checkpoints.members(delivery, upload, saved)
        whole.append(
            Step(
                follows=saved.follows,
                part_size=saved.part_size,
                boundary=saved.boundary,
                parts=saved.parts,
                members=members,
                tail=saved.tail,
                made_by=saved.made_by,
            )
        )
        assert whole[-1].saved == saved
    return whole


def tail_of(attempt: int) -> Tail:
    return Tail(key=f"k.unfinished-{attempt}", size=2**40, md5=bytes(range(16)))


async def test_what_is_saved_is_found_by_who_takes_over(deliveries: Deliveries) -> None:
    await deliveries.ready()
    first = await deliveries.leases("dead").claim(Work.TRANSFER)
    assert first is not None
    assert await deliveries.leases("dead").record_upload(first, UPLOAD)
    steps = [step(2, members=1), step(5, follows=2, after=1)]
    for taken in steps:
        assert await deliveries.checkpoints("dead").save(first, UPLOAD, taken)
    await deliveries.let_leases_run_out()
    second = await deliveries.leases("alive").claim(Work.TRANSFER)
    assert second is not None
    assert second.upload == UPLOAD
    assert await steps_of(deliveries.checkpoints("alive"), second) == steps
    assert [part.etag for each in steps for part in each.parts] == ["e1", "e2", "e3", "e4", "e5"]


async def test_a_step_whose_answer_was_lost_is_saved_again_with_more(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed("w")
    assert await deliveries.leases("w").record_upload(claimed, UPLOAD)
    checkpoints = deliveries.checkpoints("w")
    for taken in (step(2), step(4, follows=2), step(6, follows=2), step(6, follows=2)):
        assert await checkpoints.save(claimed, UPLOAD, taken)
    found = await steps_of(checkpoints, claimed)
    assert found == [step(2), step(6, follows=2)]


async def test_what_is_kept_of_files_is_told_of_each_and_of_no_step_that_was_replaced(
    deliveries: Deliveries,
) -> None:
    """Both a step and what was kept at the end may begin with the same file."""
    claimed = await deliveries.claimed("w")
    assert await deliveries.leases("w").record_upload(claimed, UPLOAD)
    checkpoints = deliveries.checkpoints("w")

    async def told() -> list[bytes]:
        return [each async for each in checkpoints.contents(claimed, md5="m")]

    steps = [
        replace(step(2, members=2), contents=b"0 1"),
        replace(step(5, follows=2, members=3, after=2), contents=b"2 3 4, before"),
        replace(step(7, follows=5, members=2, after=5), contents=b"5 6, before"),
    ]
    for taken in steps:
        assert await checkpoints.save(claimed, UPLOAD, taken)
    # The attempt stepped back behind the first one, and saved no other.
    assert await checkpoints.keep_contents(claimed, UPLOAD, md5="m", first=2, contents=b"2 3")
    assert await checkpoints.keep_contents(claimed, UPLOAD, md5="m", first=4, contents=b"4 5 6")
    assert await told() == [b"0 1", b"2 3", b"4 5 6"]
    assert await steps_of(checkpoints, claimed) == [replace(steps[0], contents=None)]
    # A later one makes the same archive, and saves a step: neither hides the other.
    again = replace(step(5, follows=2, members=3, after=2), contents=b"2 3 4")
    assert await checkpoints.save(claimed, UPLOAD, again)
    assert await checkpoints.keep_contents(claimed, UPLOAD, md5="m", first=5, contents=b"5 6")
    assert await told() == [b"0 1", b"2 3 4", b"2 3", b"4 5 6", b"5 6"]


async def test_who_has_lost_the_lease_saves_nothing(deliveries: Deliveries) -> None:
    await deliveries.ready()
    first = await deliveries.leases("dead").claim(Work.TRANSFER)
    assert first is not None
    assert await deliveries.leases("dead").record_upload(first, UPLOAD)
    await deliveries.let_leases_run_out()
    second = await deliveries.leases("alive").claim(Work.TRANSFER)
    assert second is not None
    assert not await deliveries.checkpoints("dead").save(first, UPLOAD, step(2))
    # Nor by the number of its attempt alone, nor by its name alone.
    assert not await deliveries.checkpoints("dead").save(second, UPLOAD, step(2))
    assert not await deliveries.checkpoints("alive").save(first, UPLOAD, step(2))
    assert await steps_of(deliveries.checkpoints("alive"), second) == []


async def test_what_was_saved_of_another_upload_is_replaced(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed("w")
    leases, checkpoints = deliveries.leases("w"), deliveries.checkpoints("w")
    assert await leases.record_upload(claimed, UPLOAD)
    assert await checkpoints.save(claimed, UPLOAD, step(5))
    other = replace(UPLOAD, upload_id="another")
    assert not await checkpoints.save(claimed, other, step(1)), "it is not recorded"
    assert await leases.record_upload(claimed, other)
    assert not await checkpoints.save(claimed, UPLOAD, step(6, follows=5))
    assert await steps_of(checkpoints, claimed, other) == []
    assert await checkpoints.save(claimed, other, step(1))
    assert await steps_of(checkpoints, claimed, other) == [step(1)]
    assert await steps_of(checkpoints, claimed) == []


async def test_an_upload_is_kept_for_this_attempt_or_a_later_one_while_something_is_saved(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready()
    first = await deliveries.leases("slow").claim(Work.TRANSFER)
    assert first is not None
    assert await deliveries.leases("slow").record_upload(first, UPLOAD)
    slow, heir = deliveries.checkpoints("slow"), deliveries.checkpoints("heir")
    assert not await slow.is_kept(first, UPLOAD), "nothing is saved"
    assert await slow.save(first, UPLOAD, step(2))
    assert await slow.is_kept(first, UPLOAD)
    assert not await slow.is_kept(first, UPLOAD, for_another=True)
    assert not await slow.is_kept(first, replace(UPLOAD, upload_id="another"))
    await deliveries.let_leases_run_out()
    second = await deliveries.leases("heir").claim(Work.TRANSFER)
    assert second is not None
    assert await slow.is_kept(first, UPLOAD, for_another=True)
    assert not await heir.is_kept(second, UPLOAD, for_another=True)
    # It begins again, and has not saved anything yet.
    assert await deliveries.leases("heir").record_upload(
        second, replace(UPLOAD, upload_id="another")
    )
    assert not await slow.is_kept(first, UPLOAD, for_another=True)
    assert not await heir.is_kept(second, UPLOAD)


async def test_nothing_is_kept_of_what_a_version_without_checkpoints_has_ended(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed("w")
    assert await deliveries.leases("w").record_upload(claimed, UPLOAD)
    checkpoints = deliveries.checkpoints("w")
    assert await checkpoints.save(claimed, UPLOAD, step(2))
    ended = await deliveries.put(claimed, State.ERROR)
    assert not await checkpoints.is_kept(claimed, UPLOAD)
    assert not await checkpoints.is_kept(replace(claimed, attempt=0), UPLOAD, for_another=True)
    assert await steps_of(checkpoints, ended) != []
    assert await deliveries.store.swept(ended, took=timedelta())
    assert await steps_of(checkpoints, ended) == []


async def test_at_the_end_it_is_forgotten_and_not_before(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed("w")
    assert await deliveries.leases("w").record_upload(claimed, UPLOAD)
    checkpoints = deliveries.checkpoints("w")
    assert await checkpoints.save(claimed, UPLOAD, step(2))
    async with deliveries.store.transaction() as tx:
        stale = replace(claimed, attempt=claimed.attempt - 1)
        assert not await tx.advance(stale, State.DONE, result=make_stored())
    assert await steps_of(checkpoints, claimed) == [step(2)]
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=make_stored())
    assert await steps_of(checkpoints, claimed) == []
    assert not await checkpoints.save(claimed, UPLOAD, step(2))


# Tails.


async def test_steps_behind_one_boundary_differ_by_their_members(deliveries: Deliveries) -> None:
    """An archive that pauses again and again before its next part is full."""
    claimed = await deliveries.claimed("w")
    assert await deliveries.leases("w").record_upload(claimed, UPLOAD)
    checkpoints = deliveries.checkpoints("w")
    steps = [
        step(0, members=2, tail=tail_of(1)),
        step(0, members=1, after=2, tail=tail_of(2)),
        step(1, members=3, after=3),
        step(1, follows=1, members=1, after=6, tail=tail_of(3)),
    ]
    for taken in steps:
        assert await checkpoints.save(claimed, UPLOAD, taken)
    assert await steps_of(checkpoints, claimed) == steps
    # Its answer was lost; with more, it is saved again.
    again = step(1, members=4, after=3, tail=tail_of(4))
    assert await checkpoints.save(claimed, UPLOAD, again)
    assert await steps_of(checkpoints, claimed) == [*steps[:2], again]


def noted(attempt: int, *, dropped: bool = False, target: str = "sealed") -> TailObject:
    return TailObject(key=tail_of(attempt).key, attempt=attempt, target=target, dropped=dropped)


async def test_a_tail_is_noted_with_the_place_where_it_is_put(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed("w")
    assert await deliveries.leases("w").record_upload(claimed, UPLOAD)
    checkpoints = deliveries.checkpoints("w")
    assert await checkpoints.tails(claimed) == []
    for _ in range(2):
        assert await checkpoints.record_tail(claimed, UPLOAD, tail_of(1).key, until=NONE)
    other = replace(UPLOAD, upload_id="another", target="there")
    assert await deliveries.leases("w").record_upload(claimed, other)
    assert await checkpoints.tails(claimed) == [noted(1)]
    await deliveries.let_leases_run_out()
    second = await deliveries.leases("w").claim(Work.TRANSFER)
    assert second is not None
    assert await checkpoints.record_tail(second, other, tail_of(2).key, until=NONE)
    today = replace(other, target="there, with other credentials")
    assert await checkpoints.record_tail(second, today, tail_of(3).key, until=NONE)
    assert await checkpoints.tails(claimed) == [
        noted(1),
        noted(2, target="there"),
        replace(noted(3, target="there, with other credentials"), attempt=2),
    ]
    stranger = await deliveries.claimed("other")
    assert await checkpoints.tails(stranger) == []


async def test_who_has_lost_the_lease_or_the_upload_notes_no_tail(deliveries: Deliveries) -> None:
    await deliveries.ready()
    first = await deliveries.leases("dead").claim(Work.TRANSFER)
    assert first is not None
    key = tail_of(1).key
    assert await deliveries.leases("dead").record_upload(first, UPLOAD)
    other = replace(UPLOAD, upload_id="another")
    assert not await deliveries.checkpoints("dead").record_tail(first, other, key, until=NONE)
    await deliveries.let_leases_run_out()
    second = await deliveries.leases("alive").claim(Work.TRANSFER)
    assert second is not None
    assert not await deliveries.checkpoints("dead").record_tail(first, UPLOAD, key, until=NONE)
    assert not await deliveries.checkpoints("dead").record_tail(second, UPLOAD, key, until=NONE)
    assert not await deliveries.checkpoints("alive").record_tail(first, UPLOAD, key, until=NONE)
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(second, State.DONE, result=make_stored())
    assert not await deliveries.checkpoints("alive").record_tail(second, UPLOAD, key, until=NONE)
    assert await deliveries.checkpoints("alive").tails(second) == []


async def test_a_tail_that_may_be_put_late_stays_noted_and_its_delivery_is_not_swept(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed("w")
    assert await deliveries.leases("w").record_upload(claimed, UPLOAD)
    checkpoints = deliveries.checkpoints("w")
    keys = [tail_of(1).key, tail_of(2).key]
    assert await checkpoints.record_tail(claimed, UPLOAD, keys[0], until=-timedelta(seconds=9))
    assert await checkpoints.record_tail(claimed, UPLOAD, keys[1], until=timedelta(hours=1))
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=make_stored())
    took = timedelta(seconds=10)  # the first one was noted to be over within that
    await checkpoints.forget_tails(claimed, keys, took=took)
    first, second = await checkpoints.tails(claimed)
    assert (first.dropped, second.dropped) == (True, True)
    await checkpoints.forget_tails(claimed, keys, took=NONE)
    (left,) = await checkpoints.tails(claimed)
    assert left.key == keys[1]
    assert not await deliveries.store.swept(claimed, took=NONE)
    await checkpoints.forget_tails(claimed, keys, took=timedelta(hours=-2))
    assert await checkpoints.tails(claimed) == []
    assert await deliveries.store.swept(claimed, took=NONE)
