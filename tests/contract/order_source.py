"""What rs-order's REST side does for those who read it, over HTTP or in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.delivery.ports import OrderSource
from app.delivery.states import State
from app.errors import SourceNotReadyError, SourceRefusedError, SourceUnavailableError
from compose.rs_order.faults import Faults
from tests.builders import make_delivery, make_file, make_listed

FILES = {
    "a.bin": bytes(range(256)) * 5000,  # several chunks
    "b.txt": b"text",
    "empty": b"",
    "f\N{LATIN SMALL LETTER E WITH ACUTE}.txt": b"another",
}
ORDERED = make_delivery(state=State.AVAILABLE, order_id=1)


class Holds(Protocol):
    """Lets a delivery's order be done, with these files."""

    def __call__(self, delivery: Delivery, files: Mapping[str, bytes]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Orders:
    """An rs-order without orders, and a way to give it some."""

    source: OrderSource
    hold: Holds
    misbehave: Any  # takes `Faults`

    async def listed(self, delivery: Delivery = ORDERED) -> list[ListedFile]:
        return [file async for file in self.source.listing(delivery)]

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
        listed = await orders.listed()
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

    # Files.

    async def test_a_file_is_given_from_its_first_byte_to_its_last(self, orders: Orders) -> None:
        orders.hold(ORDERED, FILES)
        files = await orders.files()
        assert {name: await orders.read(file) for name, file in files.items()} == FILES

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

    @pytest.mark.parametrize("status", [403, 404, 410, 422])
    async def test_a_file_that_is_refused_for_good_is_told(
        self, orders: Orders, status: int
    ) -> None:
        orders.hold(ORDERED, FILES)
        file = (await orders.files())["a.bin"]
        orders.misbehave(Faults(refuse=status))
        with pytest.raises(SourceRefusedError):
            await orders.read(file)

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
        orders.misbehave(Faults(answers_500=1))
        with pytest.raises(SourceUnavailableError):
            await orders.read(file)
        assert await orders.read(file) == b"text"
