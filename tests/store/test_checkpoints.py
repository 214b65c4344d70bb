"""How far half-made archives are: saved by who has the lease, for who takes over."""

from __future__ import annotations

from dataclasses import replace

from app.delivery.checkpoint import Boundary, Checkpoint, FinishedMember, Step
from app.delivery.object_store import StoredPart
from app.delivery.states import State, Work
from tests.builders import make_stored, make_upload
from tests.deliveries import Deliveries

UPLOAD = make_upload()


def step(parts: int, *, follows: int = 0, members: int = 0) -> Step:
    return Step(
        follows=follows,
        part_size=64,
        boundary=Boundary(parts=parts, md5_state=bytes(range(16)), members=members, crc=2**32 - 1),
        parts=[
            StoredPart(etag=f"e{number}", md5=None if number % 2 else bytes(16))
            for number in range(follows + 1, parts + 1)
        ],
        members=[FinishedMember(2**40, bytes(range(256)))] * members,
    )


async def test_what_is_saved_is_found_by_who_takes_over(deliveries: Deliveries) -> None:
    await deliveries.ready()
    first = await deliveries.leases("dead").claim(Work.TRANSFER)
    assert first is not None
    assert await deliveries.leases("dead").record_upload(first, UPLOAD)
    steps = [step(2, members=1), step(5, follows=2)]
    for taken in steps:
        assert await deliveries.checkpoints("dead").save(first, UPLOAD, taken)
    await deliveries.let_leases_run_out()
    second = await deliveries.leases("alive").claim(Work.TRANSFER)
    assert second is not None
    assert second.upload == UPLOAD
    assert await deliveries.checkpoints("alive").steps(second, UPLOAD) == steps
    found = Checkpoint.of(steps)
    assert [part.etag for part in found.parts] == ["e1", "e2", "e3", "e4", "e5"]
    assert (found.offset, len(found.members)) == (5 * 64, 1)


async def test_a_step_whose_answer_was_lost_is_saved_again_with_more(
    deliveries: Deliveries,
) -> None:
    claimed = await deliveries.claimed("w")
    assert await deliveries.leases("w").record_upload(claimed, UPLOAD)
    checkpoints = deliveries.checkpoints("w")
    for taken in (step(2), step(4, follows=2), step(6, follows=2), step(6, follows=2)):
        assert await checkpoints.save(claimed, UPLOAD, taken)
    found = await checkpoints.steps(claimed, UPLOAD)
    assert found == [step(2), step(6, follows=2)]


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
    assert await deliveries.checkpoints("alive").steps(second, UPLOAD) == []


async def test_what_was_saved_of_another_upload_is_replaced(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed("w")
    leases, checkpoints = deliveries.leases("w"), deliveries.checkpoints("w")
    assert await leases.record_upload(claimed, UPLOAD)
    assert await checkpoints.save(claimed, UPLOAD, step(5))
    other = replace(UPLOAD, upload_id="another")
    assert not await checkpoints.save(claimed, other, step(1)), "it is not recorded"
    assert await leases.record_upload(claimed, other)
    assert not await checkpoints.save(claimed, UPLOAD, step(6, follows=5))
    assert await checkpoints.steps(claimed, other) == []
    assert await checkpoints.save(claimed, other, step(1))
    assert await checkpoints.steps(claimed, other) == [step(1)]
    assert await checkpoints.steps(claimed, UPLOAD) == []


async def test_at_the_end_it_is_forgotten_and_not_before(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed("w")
    assert await deliveries.leases("w").record_upload(claimed, UPLOAD)
    checkpoints = deliveries.checkpoints("w")
    assert await checkpoints.save(claimed, UPLOAD, step(2))
    async with deliveries.store.transaction() as tx:
        stale = replace(claimed, attempt=claimed.attempt - 1)
        assert not await tx.advance(stale, State.DONE, result=make_stored())
    assert await checkpoints.steps(claimed, UPLOAD) == [step(2)]
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=make_stored())
    assert await checkpoints.steps(claimed, UPLOAD) == []
    assert not await checkpoints.save(claimed, UPLOAD, step(2))
