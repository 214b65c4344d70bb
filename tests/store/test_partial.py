"""Partial deliveries, on either store: what can't be had is left out, once, for good, and told."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.delivery.manifest import ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.states import State, Work
from app.errors import (
    DeliveryError,
    NothingAvailableError,
    SourceGoneError,
    SourceRefusedError,
    SourceUnavailableError,
    StoreUnavailableError,
    WrongFileError,
)
from app.usecases.leaving_out import LeavingOut
from app.usecases.settle import Settlement
from compose.embedded.stack import TENANT
from tests.builders import make_lease
from tests.conftest import noise
from tests.deliveries import Deliveries
from tests.integration.transfers import MIB
from tests.readers import READERS
from tests.store.half_made import ATTEMPTS, FILES, TARGET, BreakingSource, HalfMade

PARTIAL = {"partial": True}
SMALL = {f"{number}.bin": noise(1000 + number, f"s{number}") for number in range(9)}


class FlawedSource(BreakingSource):
    """Refuses files, or gives other bytes of them, so many times."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files, until=0)
        self.refuses: dict[str, DeliveryError] = {}
        self.refuses_behind: dict[str, int] = {}  # so many bytes
        self.refused_at_most: dict[str, int] = {}  # so many times
        self.wrong = Counter[str]()
        self.refuses_order: DeliveryError | None = None

    async def order(self, _delivery: Delivery) -> None:
        """Tell nothing of an order, unless it is refused."""
        if self.refuses_order is not None:
            raise self.refuses_order

    async def chunks(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        error, behind = self.refuses.get(file.member), self.refuses_behind.get(file.member, 0)
        left = self.refused_at_most.get(file.member)
        if error is not None and left is not None:
            self.refused_at_most[file.member] = left - 1
            error = error if left > 0 else None
        if error is not None and not behind:
            self.reads[file.member] += 1
            raise error
        is_wrong = self.wrong[file.member] > 0
        self.wrong[file.member] -= 1
        given = 0
        async for chunk in super().chunks(delivery, file):
            if error is not None and given >= behind:
                raise error
            given += len(chunk)
            last = given == file.size
            yield bytes([*chunk[:-1], chunk[-1] ^ 1]) if is_wrong and last else chunk


@pytest.fixture
def made(deliveries: Deliveries) -> HalfMade:
    return of_files(deliveries, FILES | SMALL)


def of_files(deliveries: Deliveries, files: Mapping[str, bytes]) -> HalfMade:
    made = HalfMade(deliveries, files)
    made.source = FlawedSource(files)
    return made


def source_of(made: HalfMade) -> FlawedSource:
    assert isinstance(made.source, FlawedSource)
    return made.source


async def terminal(deliveries: Deliveries) -> dict[str, Any]:
    (told,) = [m.body for m in await deliveries.outgoing() if m.body.get("status") in ENDS]
    return told


ENDS = ("DONE", "ERROR")


async def missing(made: HalfMade) -> list[MissingFile]:
    (tracked,) = await made.deliveries.tracking.of(TENANT, "c")
    return [file async for file in made.deliveries.store.missing(tracked.delivery)]


def archived(made: HalfMade, suffix: str = ".zip") -> dict[str, bytes]:
    """Return the members of the archive, and what they are; the manifest beside it tells them."""
    objects = {
        key.rpartition("/")[2]: one.content for key, one in made.store.objects(TARGET).items()
    }
    manifest = json.loads(objects.pop("manifest.json"))
    (archive,) = objects.values()
    members = READERS[suffix](archive)
    told = [(file["path"], file["size"], file["md5"]) for file in manifest["files"]]
    assert told == [
        (name, len(content), hashlib.md5(content).hexdigest()) for name, content in members.items()
    ]
    named = [file["path"] for file in manifest.get("missing", [])]
    assert sorted([*named, *members]) == sorted(made.files)
    assert (manifest["archive"]["size"], manifest["archive"]["md5"]) == (
        len(archive),
        hashlib.md5(archive).hexdigest(),
    )
    return members


def without(made: HalfMade, *names: str) -> dict[str, bytes]:
    return {name: content for name, content in made.files.items() if name not in names}


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.zst"])
async def test_a_file_that_is_refused_is_left_out_and_told(made: HalfMade, suffix: str) -> None:
    source = source_of(made)
    for name in ("2.bin", "second.bin"):
        source.refuses[name] = SourceRefusedError(f"rs-order answered 404 for {name}")
    await made.plan(options=PARTIAL | {"format": suffix})
    assert await made.attempt() is None
    assert archived(made, f".{suffix}") == without(made, "2.bin", "second.bin")
    told = await terminal(made.deliveries)
    assert (told["status"], told["missing"], told["files"]) == ("DONE", 2, 10)
    left_out = await missing(made)
    assert {(file.member, file.cause) for file in left_out} == {
        ("2.bin", "rs-order answered 404 for 2.bin"),
        ("second.bin", "rs-order answered 404 for second.bin"),
    }
    once = Counter(dict.fromkeys(made.files, 1))  # nothing that is delivered was read twice
    assert source.reads == once | {"2.bin": ATTEMPTS, "second.bin": ATTEMPTS}


@pytest.mark.parametrize("behind", [0, 4 * MIB])
async def test_a_file_that_is_refused_for_a_moment_is_not_left_out(
    made: HalfMade, behind: int
) -> None:
    """One answer may be that of a gateway, or of a server that does not know the file yet."""
    source = source_of(made)
    for name in ("2.bin", "second.bin"):
        source.refuses[name] = SourceRefusedError("rs-order answered 404")
        source.refuses_behind[name] = behind
        source.refused_at_most[name] = ATTEMPTS - 1
    await made.plan(options=PARTIAL)
    assert await made.attempt() is None
    assert archived(made) == made.files
    assert "missing" not in await terminal(made.deliveries)


async def test_the_list_of_files_as_they_are_tells_what_is_missing(made: HalfMade) -> None:
    source = source_of(made)
    source.refuses["2.bin"] = SourceRefusedError("rs-order answered 404")
    source.wrong.update({"5.bin": 99, "second.bin": 99})
    await made.plan(options=PARTIAL | {"format": "files"})
    assert await made.attempt() is None
    objects = {key.partition("/")[2]: one for key, one in made.store.objects(TARGET).items()}
    manifest = json.loads(objects.pop("manifest.json").content)
    left_out = ("2.bin", "5.bin", "second.bin")
    assert {name: one.content for name, one in objects.items()} == without(made, *left_out)
    assert {file["path"] for file in manifest["files"]} == set(without(made, *left_out))
    assert {file["path"] for file in manifest["missing"]} == set(left_out)
    assert all(file["cause"] and file["fileId"] >= 0 for file in manifest["missing"])
    assert (await terminal(made.deliveries))["missing"] == 3


async def test_one_refused_file_ends_a_delivery_of_all_or_nothing(made: HalfMade) -> None:
    source_of(made).refuses["2.bin"] = SourceRefusedError("404")
    await made.plan()
    assert isinstance(await made.attempt(), SourceRefusedError)
    assert (await terminal(made.deliveries))["status"] == "ERROR"
    assert await missing(made) == []


async def test_a_small_file_that_is_wrong_is_read_again_and_then_left_out(made: HalfMade) -> None:
    source = source_of(made)
    source.wrong.update({"1.bin": ATTEMPTS - 1, "5.bin": ATTEMPTS, "6.bin": 99, "7.bin": 99})
    await made.plan(options=PARTIAL)
    assert await made.attempt() is None
    assert archived(made) == without(made, "5.bin", "6.bin", "7.bin")
    assert [source.reads[name] for name in ("0.bin", "1.bin", "5.bin", "6.bin")] == [1, 3, 3, 3]
    assert (await terminal(made.deliveries))["missing"] == 3


async def test_a_large_file_that_is_wrong_is_gone_on_without_from_before_it(
    made: HalfMade,
) -> None:
    source = source_of(made)
    source.wrong["third.bin"] = 99
    await made.plan(options=PARTIAL)
    assert await made.attempt() is None
    assert archived(made) == without(made, "third.bin")
    assert source.reads["third.bin"] == ATTEMPTS
    assert source.reads["first.bin"] == 1  # it was there before, and stays
    (told,) = await missing(made)
    assert told.member == "third.bin"
    assert "expected MD5" in told.cause


async def test_a_large_file_that_is_wrong_once_is_not_left_out(made: HalfMade) -> None:
    source_of(made).wrong["second.bin"] = 1
    await made.plan(options=PARTIAL)
    assert await made.attempt() is None
    assert archived(made) == made.files
    assert "missing" not in await terminal(made.deliveries)


async def test_a_file_that_is_refused_half_way_is_left_out(made: HalfMade) -> None:
    source = source_of(made)
    source.refuses["second.bin"] = SourceRefusedError("422")
    source.refuses_behind["second.bin"] = 4 * MIB
    await made.plan(options=PARTIAL)
    assert await made.attempt() is None
    assert archived(made) == without(made, "second.bin")


async def test_what_passes_leaves_out_nothing(made: HalfMade) -> None:
    source = source_of(made)
    source.refuses["2.bin"] = SourceUnavailableError("503")
    await made.plan(options=PARTIAL)
    assert isinstance(await made.attempt(), SourceUnavailableError)
    source.refuses.clear()
    assert await made.attempt("another") is None
    assert archived(made) == made.files


async def test_a_file_that_is_gone_is_asked_for_again_before_it_is_left_out(
    made: HalfMade,
) -> None:
    source = source_of(made)
    source.refuses["2.bin"] = SourceGoneError("410")
    made.orders = orders = Retried(most=2)
    await made.plan(options=PARTIAL)
    for _ in range(3):
        assert isinstance(await made.attempt(), SourceGoneError)
        assert (await made.deliveries.active()).state is State.TRANSFERRING
        await made.deliveries.elapse(timedelta(minutes=1))
    assert orders.asked == 3
    assert await made.attempt() is None
    assert archived(made) == without(made, "2.bin")
    assert (await terminal(made.deliveries))["missing"] == 1


async def test_a_file_that_is_gone_while_its_order_goes_on_is_waited_for(
    made: HalfMade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then rs-order retries nothing: it is not that the file does not come again."""
    source = source_of(made)
    source.refuses["2.bin"] = SourceGoneError("410")
    made.orders = Retried(most=0)
    await made.plan(options=PARTIAL)
    settle = Settlement.settle

    async def settle_before_its_end(
        by: Settlement, delivery: Delivery, error: DeliveryError
    ) -> None:
        await settle(by, replace(delivery, order_done=False), error)

    with monkeypatch.context() as going_on:
        going_on.setattr(Settlement, "settle", settle_before_its_end)
        assert isinstance(await made.attempt(), SourceGoneError)
    assert await missing(made) == []
    source.refuses.clear()
    await made.deliveries.elapse(timedelta(minutes=1))
    assert await made.attempt() is None
    assert archived(made) == made.files


async def test_no_file_is_left_out_while_its_order_is_refused_too(made: HalfMade) -> None:
    """A gateway without a server behind it says 404 to all that it is asked."""
    source = source_of(made)
    source.refuses["2.bin"] = refused = SourceRefusedError("rs-order answered 404")
    await made.plan(options=PARTIAL)
    source.refuses_order = refused
    assert isinstance(await made.attempt(), SourceUnavailableError)
    assert await missing(made) == []
    source.refuses_order = None
    await made.deliveries.elapse(timedelta(minutes=1))
    assert await made.attempt() is None
    assert archived(made) == without(made, "2.bin")


async def test_what_was_sent_of_a_file_before_it_was_left_out_is_swept(made: HalfMade) -> None:
    source = source_of(made)
    source.wrong["second.bin"] = 99
    await made.plan(options=PARTIAL | {"format": "files"})
    while isinstance(await made.attempt(), WrongFileError):
        await made.deliveries.elapse(timedelta(minutes=10))
    assert (await terminal(made.deliveries))["missing"] == 1
    (tracked,) = await made.deliveries.tracking.of(TENANT, "c")
    assert await made.deliveries.store.unswept(timedelta(), limit=9) == [tracked.delivery]
    folders = made.transfers("sweep").folders
    upload = await made.store.create_upload(TARGET, "c/second.bin", {}, media_type="a/b")
    assert upload in await made.store.open_uploads(TARGET, "c/second.bin")
    async for _ in folders.abort_uploads(tracked.delivery, TARGET, "c/manifest.json"):
        pass
    assert await made.store.open_uploads(TARGET, "c/second.bin") == []


class Retried:
    """Takes so many retries of an order."""

    def __init__(self, *, most: int) -> None:
        self.most = most
        self.asked = 0

    async def retry(self, _delivery: Delivery) -> bool:
        self.asked += 1
        return self.asked <= self.most


async def test_a_delivery_of_which_all_is_missing_ends_in_error(made: HalfMade) -> None:
    source = source_of(made)
    for name in made.files:
        source.refuses[name] = SourceRefusedError("rs-order answered 404")
    source.refuses["2.bin"] = SourceRefusedError("rs-order answered 403")
    await made.plan(options=PARTIAL)
    assert isinstance(await made.attempt(), NothingAvailableError)
    told = await terminal(made.deliveries)
    assert told["status"] == "ERROR"
    assert told["message"] == (
        "each of the 12 files of order 1 is missing, so nothing is delivered; most of them "
        "because rs-order answered 404"
    )
    assert not list(made.store.open())


async def test_an_attempt_that_lost_its_lease_leaves_out_nothing(made: HalfMade) -> None:
    await made.plan(options=PARTIAL)
    leases = made.deliveries.leases("first")
    first = await leases.claim(Work.TRANSFER)
    assert first is not None
    assert await leases.failures_of(first, 0) == 0
    for _ in range(2):  # the first answer may have been lost
        assert await leases.record_failures(first, 0, 1)
    await made.take_over()
    assert not await leases.leave_out(first, 0, "404")
    assert not await leases.record_failures(first, 0, 2)
    assert await missing(made) == []
    heirs = made.deliveries.leases("heir")
    heir = made.heir
    assert await heirs.failures_of(heir, 0) == 1  # by any attempt
    assert await heirs.record_failures(heir, 0, 2)
    assert await heirs.leave_out(heir, 0, "404")
    assert await heirs.leave_out(heir, 0, "another word")
    assert [(file.position, file.cause) for file in await missing(made)] == [(0, "404")]
    assert await heirs.failures_of(heir, 0) is None
    assert await heirs.record_failures(heir, 0, 3)


async def test_a_failure_counts_once_where_the_answer_to_its_note_is_lost(made: HalfMade) -> None:
    await made.plan(options=PARTIAL)
    leases = made.deliveries.leases("w")
    delivery = await leases.claim(Work.TRANSFER)
    assert delivery is not None
    record, answers = leases.record_failures, 0

    async def lost(*args: Any) -> bool:
        nonlocal answers
        done = await record(*args)
        answers += 1
        if answers == 1:
            raise StoreUnavailableError("PostgreSQL does not answer any more")
        return done

    leases.record_failures = lost  # type: ignore[assignment, method-assign]
    leaving_out = LeavingOut(
        store=made.deliveries.store,
        leases=leases,
        delivery=delivery,
        lease=make_lease(),
        source=source_of(made),
        attempts=2,
    )
    wrong = WrongFileError("0.bin has another MD5", position=0)
    assert not await leaving_out.decides(0, wrong)
    assert answers == 2
    assert await missing(made) == []
    assert await leaving_out.decides(0, wrong)
    assert [file.position for file in await missing(made)] == [0]


async def test_who_goes_on_with_an_archive_leaves_out_what_it_was_made_without(
    made: HalfMade,
) -> None:
    source = source_of(made)
    source.refuses["first.bin"] = SourceRefusedError("404")
    await made.plan(options=PARTIAL)
    source.until = 8
    assert await made.attempt("first", breaks="third.bin") is not None
    source.refuses.clear()  # it is missing all the same
    source.reads.clear()
    assert await made.attempt("second") is None
    assert archived(made) == without(made, "first.bin")
    assert source.reads["first.bin"] == source.reads["second.bin"] == 0


async def test_an_archive_that_was_completed_with_a_file_is_not_told_without_it(
    made: HalfMade,
) -> None:
    """Its completion was noted, and its answer lost; then a file of it became missing."""
    await made.plan(options=PARTIAL)
    leases = made.deliveries.leases("first")
    first = await leases.claim(Work.TRANSFER)
    assert first is not None

    class LostError(Exception):
        pass

    transfers = made.transfers("first")

    async def lose(*_: object, **__: object) -> None:
        raise LostError

    object.__setattr__(transfers, "finish", lose)
    with pytest.raises(LostError):
        await transfers.deliver(first, make_lease())
    assert archived(made) == made.files
    await made.take_over()
    assert await made.deliveries.leases("heir").leave_out(made.heir, 9, "404")
    (left_out,) = await missing(made)
    await made.end_as_heir()
    assert archived(made) == without(made, str(left_out.member))
    assert (await terminal(made.deliveries))["missing"] == 1


async def test_archive_and_what_is_told_missing_agree_on_random_faults(
    deliveries: Deliveries,
) -> None:
    draw = random.Random(58)
    for night in range(6):
        await deliveries.clear()
        files = {
            f"{number:02}.bin": noise(draw.choice([0, 1, 900, 70_000, MIB, 9 * MIB]), f"{number}")
            for number in range(draw.randint(1, 14))
        }
        made = of_files(deliveries, files)
        source = source_of(made)
        bad = set()
        for name, content in files.items():
            match draw.randint(0, 9):
                case 0 | 1:
                    bad.add(name)
                    source.refuses[name] = SourceRefusedError("404")
                    source.refuses_behind[name] = draw.choice([0, 0, len(content) // 2])
                case 2 if content:
                    bad.add(name)
                    source.wrong[name] = 99
                case 3 if content:
                    source.wrong[name] = draw.randint(1, ATTEMPTS - 1)
        suffix = draw.choice(["zip", "tar", "tar.zst"])
        await made.plan(options=PARTIAL | {"format": suffix})
        ends: list[BaseException | None] = []
        while not ends or (await deliveries.of())[-1].finished_at is None:
            breaks = draw.choice([None, *(name for name in files if name not in bad)])
            ends.append(await made.attempt(f"w{len(ends)}", breaks=breaks))
            await deliveries.let_leases_run_out()
            assert len(ends) < 60, night
        told = await terminal(deliveries)
        assert {file.member for file in await missing(made)} == bad, night
        if len(bad) == len(files):
            assert told["status"] == "ERROR"
            continue
        assert archived(made, f".{suffix}") == without(made, *bad), night
        assert told.get("missing", 0) == len(bad)
        assert told["files"] == len(files) - len(bad)
