"""What rs-order's REST side does for those who read it, over HTTP or in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest

from app.delivery.file_bytes import FileBytes
from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.delivery.order_facts import FileState, OrderFacts, OrderFile, OrderState
from app.delivery.ports import OrderSource
from app.delivery.states import State
from app.errors import (
    OrderNotToldError,
    SourceGoneError,
    SourceNotReadyError,
    SourceRefusedError,
    SourceUnavailableError,
)
from compose.rs_order.faults import Faults
from tests.builders import make_delivery, make_file, make_listed

FILES = {
    "a.bin": bytes(range(256)) * 5000,  # several chunks
    "b.txt": b"text",
    "empty": b"",
    "f\N{LATIN SMALL LETTER E WITH ACUTE}.txt": b"another",
}
ORDERED = make_delivery(state=State.AVAILABLE, order_id=1)
TAPE = {"suborder_files": 2, "user_places": 1, "restore_seconds": 10}  # one after the other
CACHE = 7200  # seconds that files stay there


class Holds(Protocol):
    """Accepts a delivery's order of these files; without switches it is one suborder, and done.

    A name may begin with its product.
    """

    def __call__(self, delivery: Delivery, files: Mapping[str, bytes], **switches: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Orders:
    """An rs-order without orders, and a way to give it some."""

    source: OrderSource
    hold: Holds
    misbehave: Callable[[Faults], object]
    advance: Callable[[float], object]  # lets seconds pass

    async def listed(
        self,
        delivery: Delivery = ORDERED,
        suborder: int | None = None,
        *,
        so_far: bool = False,
    ) -> list[ListedFile]:
        return [file async for file in self.source.listing(delivery, suborder, so_far=so_far)]

    async def names(self, suborder: int | None = None) -> list[str]:
        """Return the names of what can be downloaded."""
        return [file.filename for file in await self.listed(suborder=suborder)]

    async def facts(self) -> OrderFacts:
        facts = await self.source.order(ORDERED)
        assert facts is not None
        return facts

    async def every_file(self) -> dict[str, OrderFile]:
        """Return all files of the order by their names, in the order of their ids."""
        files = [file async for file in self.source.every_file(ORDERED, await self.facts())]
        files.sort(key=lambda file: file.file.file_id)
        assert len({file.file.file_id for file in files}) == len(files)
        return {file.file.filename: file for file in files}

    async def suborders(self) -> list[int]:
        """Return the ids of the order's suborders as they are now."""
        found = [file.suborder_id for file in (await self.every_file()).values()]
        return [suborder for suborder in dict.fromkeys(found) if suborder is not None]

    async def files(self, delivery: Delivery = ORDERED) -> dict[str, ManifestFile]:
        """Return what a manifest has of the delivery's files, by their names."""
        return {
            file.filename: make_file(file.filename, file_id=file.file_id, size=file.size)
            for file in await self.listed(delivery)
        }

    async def read(self, file: ManifestFile, delivery: Delivery = ORDERED) -> bytes:
        async with self.source.download(delivery, file) as chunks:
            return b"".join([chunk async for chunk in chunks])


class OrderSourceContract:
    """To be subclassed where there is a fixture `orders`."""

    # Listings.

    async def test_a_listing_has_each_file_with_its_size_and_checksum(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        # A media type is told by some.
        listed = [replace(file, media_type=None) for file in await orders.listed()]
        assert listed == [
            make_listed(name, content, file_id=file.file_id, listed=len(FILES))
            for file, (name, content) in zip(listed, FILES.items(), strict=True)
        ]
        assert len({file.file_id for file in listed}) == len(FILES)

    async def test_files_of_another_order_have_other_ids(self, orders: Orders) -> None:
        second = make_delivery(state=State.AVAILABLE, order_id=2)
        orders.hold(ORDERED, FILES)
        orders.hold(second, {"a.bin": b"of the second"})
        (file,) = (await orders.files(second)).values()
        assert file.file_id not in {listed.file_id for listed in await orders.listed()}
        assert await orders.read(file, second) == b"of the second"

    async def test_an_order_without_files_has_an_empty_listing(self, orders: Orders) -> None:
        orders.hold(ORDERED, {})
        assert await orders.listed() == []

    async def test_an_order_that_is_not_finished_is_told(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        orders.misbehave(Faults(listing_not_ready=1))
        with pytest.raises(SourceNotReadyError):
            await orders.listed()
        assert len(await orders.listed()) == len(FILES)

    async def test_an_order_that_there_is_not_is_refused(self, orders: Orders) -> None:
        with pytest.raises(SourceRefusedError):
            await orders.listed()

    @pytest.mark.parametrize("changes", [{"tenant": "swot"}, {"user": "other@example.org"}])
    async def test_an_order_of_another_tenant_or_user_is_refused(
        self, orders: Orders, changes: dict[str, str]
    ) -> None:
        orders.hold(ORDERED, FILES)
        stranger = make_delivery(state=State.AVAILABLE, order_id=1, **changes)
        files = await orders.files()
        with pytest.raises(SourceRefusedError):
            await orders.listed(stranger)
        with pytest.raises(SourceRefusedError):
            await orders.read(files["b.txt"], stranger)

    async def test_a_file_that_was_asked_for_is_listed_no_more(self, orders: Orders) -> None:
        """Read to its end, or refused: it can still be read."""
        orders.hold(ORDERED, FILES)
        files = await orders.files()
        await orders.read(files["b.txt"])
        orders.misbehave(Faults(refuse=403))
        with pytest.raises(SourceRefusedError):
            await orders.read(files["empty"])
        orders.misbehave(Faults())
        assert await orders.read(files["b.txt"]) == b"text"
        left = {file.filename for file in await orders.listed()}
        assert left == FILES.keys() - {"b.txt", "empty"}

    async def test_what_is_not_told_of_a_file_is_none(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        orders.misbehave(Faults(no_size=True, no_checksum=True))
        assert {(file.size, file.md5) for file in await orders.listed()} == {(None, None)}

    # Suborders.

    async def test_what_is_not_finished_is_listed_where_some_files_are_of_use(
        self, orders: Orders
    ) -> None:
        orders.hold(ORDERED, FILES, suborder_files=2, user_places=1, restore_file_seconds=10)
        (first, *_) = await orders.suborders()
        with pytest.raises(SourceNotReadyError):
            await orders.listed(so_far=True)
        orders.advance(10)
        with pytest.raises(SourceNotReadyError):
            await orders.listed()
        assert [file.filename for file in await orders.listed(so_far=True)] == ["a.bin"]
        assert await orders.names(first) == ["a.bin"]

    async def test_suborders_become_available_one_after_the_other(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES, **TAPE)
        first, second = await orders.suborders()
        with pytest.raises(SourceNotReadyError):
            await orders.listed(suborder=first)
        orders.advance(10)
        assert await orders.names(first) == ["a.bin", "b.txt"]
        with pytest.raises(SourceNotReadyError):
            await orders.listed(suborder=second)
        for file in await orders.listed(suborder=first):
            await orders.read(make_file(file.filename, file_id=file.file_id, size=file.size))
        assert await orders.names(first) == []
        orders.advance(10)
        assert await orders.names(second) == [*FILES][2:]
        assert await orders.names() == [*FILES][2:]

    async def test_a_suborders_listing_has_what_the_orders_has_of_it(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES, suborder_files=3)
        first, second = await orders.suborders()
        parts = [await orders.listed(suborder=first), await orders.listed(suborder=second)]
        assert [len(part) for part in parts] == [3, 1]
        assert [file.listed for file in parts[0]] == [3] * 3
        whole = [replace(file, listed=None) for file in await orders.listed()]
        assert [replace(file, listed=None) for part in parts for file in part] == whole

    async def test_of_a_suborder_that_is_refused_its_number_is_told(self, orders: Orders) -> None:
        with pytest.raises(SourceRefusedError):
            await orders.listed(suborder=7)
        orders.hold(ORDERED, FILES)
        with pytest.raises(SourceRefusedError, match=r"suborder 99\b"):
            await orders.listed(suborder=99)
        stranger = make_delivery(state=State.AVAILABLE, order_id=1, user="other@example.org")
        with pytest.raises(SourceRefusedError):
            await orders.listed(stranger, (await orders.suborders())[0])

    # Orders as a whole.

    async def test_an_order_tells_how_far_it_is(self, orders: Orders) -> None:
        files = {"P/a": b"aa", "P/b": b"b", "Q/c": b"c"}
        orders.hold(ORDERED, files, datasets="product", user_places=1, restore_seconds=10)
        facts = await orders.facts()
        assert (facts.status, facts.complete, facts.waiting_for_user) == (
            OrderState.RUNNING,
            False,
            False,
        )
        assert (facts.files, facts.size, facts.available, facts.in_error) == (3, 4, 0, 0)
        assert [(part.files, part.size) for part in facts.datasets] == [(2, 3), (1, 1)]
        assert facts.expires_at is not None
        # Its two suborders, and two more, for as long as files stay in the cache.
        assert facts.expires_at == datetime.fromtimestamp(4 * CACHE, UTC)
        orders.advance(10)
        facts = await orders.facts()
        assert (facts.percent, facts.waiting_for_user, facts.available) == (75, True, 2)

    async def test_an_order_that_is_done_says_so(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        facts = await orders.facts()
        assert (facts.status, facts.percent) == (OrderState.DONE, 100)
        assert (facts.complete, facts.gone, facts.may_be_retried) == (True, False, False)
        for file in (await orders.files()).values():
            await orders.read(file)
        facts = await orders.facts()
        assert (facts.waiting_for_user, facts.available) == (False, 0)

    async def test_an_order_that_has_expired_says_so_and_has_no_files(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        file = (await orders.files())["b.txt"]
        orders.advance(3 * CACHE)
        facts = await orders.facts()
        assert (facts.status, facts.gone, facts.complete) == (OrderState.EXPIRED, True, True)
        assert await orders.listed() == []
        with pytest.raises(SourceRefusedError):
            await orders.read(file)

    async def test_an_order_that_can_not_be_asked_about_is_refused_or_not_told(
        self, orders: Orders
    ) -> None:
        with pytest.raises(SourceRefusedError):
            await orders.source.order(ORDERED)
        orders.hold(ORDERED, FILES, order_facts=False)
        assert await orders.source.order(ORDERED) is None
        for changes in ({"tenant": "swot"}, {"user": "other@example.org"}):
            stranger = make_delivery(state=State.AVAILABLE, order_id=1, **changes)
            with pytest.raises(SourceRefusedError):
                await orders.source.order(stranger)

    # Every file.

    async def test_every_file_is_told_whatever_its_state(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES, unrestorable="^f", **TAPE)
        assert {file.state for file in (await orders.every_file()).values()} == {FileState.PENDING}
        orders.advance(10)
        listed = await orders.listed(suborder=(await orders.suborders())[0])
        files = await orders.every_file()
        told = [files[file.filename].file for file in listed]
        assert [replace(file, listed=2, crc32=None) for file in told] == listed
        assert {file.file.listed for file in files.values()} == {len(FILES)}
        await orders.read(make_file("a.bin", file_id=files["a.bin"].file.file_id))
        orders.misbehave(Faults(refuse=403))
        with pytest.raises(SourceRefusedError):
            await orders.read(make_file("b.txt", file_id=files["b.txt"].file.file_id))
        orders.misbehave(Faults())
        orders.advance(10)
        assert [file.state for file in (await orders.every_file()).values()] == [
            FileState.DOWNLOADED,
            FileState.DOWNLOAD_ERROR,
            FileState.AVAILABLE,
            FileState.ERROR,
        ]

    async def test_every_file_of_several_datasets_is_told_once(self, orders: Orders) -> None:
        files = {f"{product}/{product}{n}": b"x" * n for product in "PQR" for n in range(3)}
        orders.hold(ORDERED, files, datasets="product", restore_seconds=10)
        found = await orders.every_file()
        assert {f"{f.file.product_id}/{f.file.filename}": f.file.size for f in found.values()} == {
            name: len(content) for name, content in files.items()
        }
        assert len({file.suborder_id for file in found.values()}) == 3

    async def test_a_crc32_is_told_with_every_file_or_by_an_older_rs_order_not_at_all(
        self, orders: Orders
    ) -> None:
        orders.hold(ORDERED, FILES)
        told = {name: file.file.crc32 for name, file in (await orders.every_file()).items()}
        assert told == {name: zlib.crc32(content) for name, content in FILES.items()}
        assert {file.crc32 for file in await orders.listed()} == {None}
        orders.hold(ORDERED, FILES, crc32=False)
        assert {file.file.crc32 for file in (await orders.every_file()).values()} == {None}

    async def test_an_rs_order_may_not_tell_every_file(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES, dataset_files=False)
        with pytest.raises(OrderNotToldError):
            await orders.every_file()
        assert len(await orders.listed()) == len(FILES)

    # Files that are gone, and retries.

    async def test_a_file_that_has_expired_is_brought_back_by_a_retry(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES, unrestorable="^f")
        file = (await orders.files())["a.bin"]
        (before,) = await orders.suborders()
        orders.advance(CACHE)
        with pytest.raises(SourceGoneError) as gone:
            await orders.read(replace(file, position=7))
        assert gone.value.position == 7
        assert (await orders.facts()).may_be_retried
        assert await orders.source.retry(ORDERED)
        orders.advance(0)
        again = await orders.every_file()
        assert again["a.bin"].suborder_id != before == again["b.txt"].suborder_id
        assert await orders.names(again["a.bin"].suborder_id) == ["a.bin"]
        assert await orders.read(file) == FILES["a.bin"]

    async def test_an_order_without_errors_is_not_retried(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        assert not await orders.source.retry(ORDERED)
        assert len(await orders.listed()) == len(FILES)

    async def test_a_retry_under_way_is_not_begun_again(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES, unrestorable="^f", restore_seconds=10)
        orders.advance(10)
        assert await orders.source.retry(ORDERED)
        assert not await orders.source.retry(ORDERED)

    async def test_a_retry_of_an_order_that_there_is_not_is_refused(self, orders: Orders) -> None:
        with pytest.raises(SourceRefusedError):
            await orders.source.retry(ORDERED)

    # Files.

    async def test_a_file_is_given_from_its_first_byte_to_its_last(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        files = await orders.files()
        assert {name: await orders.read(file) for name, file in files.items()} == FILES

    async def test_an_answer_tells_how_many_bytes_a_file_has(self, orders: Orders) -> None:
        """Before the first one is used; whatever the listing says."""
        orders.hold(ORDERED, FILES)
        for name, file in (await orders.files()).items():
            listed = replace(file, size=None)
            async with orders.source.download(ORDERED, listed) as chunks:
                await anext(chunks, b"")
                assert isinstance(chunks, FileBytes)
                assert chunks.size == len(FILES[name])

    async def test_files_are_read_side_by_side(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        files = await orders.files()
        async with (
            orders.source.download(ORDERED, files["a.bin"]) as first,
            orders.source.download(ORDERED, files["b.txt"]) as second,
        ):
            begin = await anext(first)
            assert b"".join([chunk async for chunk in second]) == FILES["b.txt"]
            assert begin + b"".join([chunk async for chunk in first]) == FILES["a.bin"]

    async def test_a_file_can_be_left_before_its_end(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        file = (await orders.files())["a.bin"]
        async with orders.source.download(ORDERED, file) as chunks:
            await anext(chunks)
        assert await orders.read(file) == FILES["a.bin"]

    async def test_bytes_are_not_judged(self, orders: Orders) -> None:
        """Whether they are what the listing says is found by who reads them."""
        orders.hold(ORDERED, FILES)
        file = (await orders.files())["b.txt"]
        orders.misbehave(Faults(wrong_checksums=1))
        assert await orders.read(file) == bytes([b"t"[0] ^ 0xFF]) + b"ext"
        assert await orders.read(file) == b"text"

    async def test_faults_may_be_those_of_some_files_alone(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        files = await orders.files()
        orders.misbehave(Faults(refuse=404, refuse_names="a", spoilt_names=r"^b\.txt$"))
        with pytest.raises(SourceRefusedError):
            await orders.read(files["a.bin"])
        for _ in range(2):
            assert await orders.read(files["b.txt"]) == bytes([b"t"[0] ^ 0xFF]) + b"ext"
        assert await orders.read(files["empty"]) == b""

    @pytest.mark.parametrize("status", [403, 404, 410, 422])
    async def test_a_file_that_is_refused_for_good_is_told(
        self, orders: Orders, status: int
    ) -> None:
        orders.hold(ORDERED, FILES)
        file = (await orders.files())["a.bin"]
        orders.misbehave(Faults(refuse=status))
        with pytest.raises(SourceRefusedError):
            await orders.read(file)

    async def test_a_quota_that_is_used_up_passes_and_is_told_in_words(
        self, orders: Orders
    ) -> None:
        orders.hold(ORDERED, FILES, quota=1)
        files = await orders.files()
        await orders.read(files["b.txt"])
        with pytest.raises(SourceUnavailableError, match="the quota of 1 downloads is used up"):
            await orders.read(files["a.bin"])

    async def test_a_file_that_there_is_not_is_refused(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        with pytest.raises(SourceRefusedError):
            await orders.read(make_file("c.bin", file_id=999))

    async def test_a_file_that_is_not_there_yet_is_told(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        file = (await orders.files())["a.bin"]
        orders.misbehave(Faults(not_ready=1))
        with pytest.raises(SourceNotReadyError):
            await orders.read(file)
        assert await orders.read(file) == FILES["a.bin"]

    async def test_a_file_that_breaks_off_gives_what_came_before(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        file = (await orders.files())["a.bin"]
        orders.misbehave(Faults(drops=1, drop_after=700_000))
        given = []
        with pytest.raises(SourceUnavailableError):
            async with orders.source.download(ORDERED, file) as chunks:
                async for chunk in chunks:
                    given.append(chunk)  # noqa: PERF401 - what came before the error counts
        assert FILES["a.bin"].startswith(b"".join(given))
        assert len(b"".join(given)) <= 700_000
        assert await orders.read(file) == FILES["a.bin"]

    # Both.

    async def test_one_that_is_away_for_a_moment_is_told_and_answers_again(
        self, orders: Orders
    ) -> None:
        orders.hold(ORDERED, FILES)
        file = (await orders.files())["b.txt"]
        orders.misbehave(Faults(answers_500=1))
        with pytest.raises(SourceUnavailableError):
            await orders.listed()
        assert len(await orders.listed()) == len(FILES)
        for ask in (orders.source.order, orders.source.retry):
            orders.misbehave(Faults(answers_500=1))
            with pytest.raises(SourceUnavailableError):
                await ask(ORDERED)
        orders.misbehave(Faults(answers_500=1))
        with pytest.raises(SourceUnavailableError):
            await orders.read(file)
        assert await orders.read(file) == b"text"
