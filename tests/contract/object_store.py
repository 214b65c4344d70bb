"""What every store of archives does: the tests of `app.delivery.object_store`, for each of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from yarl import URL

from app.delivery.marks import marks_of
from app.delivery.object_store import (
    FoundObject,
    LinkAsked,
    May,
    ObjectStore,
    StoredPart,
    Upload,
)
from app.delivery.targets import Target, TargetKind, TargetKinds
from app.errors import (
    ForeignObjectError,
    LeaseLostError,
    NoLinkError,
    ObjectGoneError,
    RetryableError,
    TargetRefusedError,
    UploadLostError,
    WrongObjectError,
)
from sinks.formats.files import MD5_MARK
from sinks.pipeline.parts import MIB, Part
from tests.builders import at_any_time, make_delivery

PART = bytes(range(256)) * (5 * MIB // 256)  # as large as a part must be that is not the last
ZIP = "application/zip"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a client without credentials was answered with, which has followed a link."""

    status: int
    content: bytes
    disposition: str = ""
    media_type: str = ""


Opens = Callable[[str], Awaitable[Answered]]


async def over_http(url: str, *, host: str | None = None) -> Answered:
    """Follow a link as `curl` does; `host` is the header that names the server."""
    headers = {} if host is None else {"Host": host}
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(url, encoded=True), headers=headers) as answer,
    ):
        return Answered(
            status=answer.status,
            content=await answer.read(),
            disposition=answer.headers.get("Content-Disposition", ""),
            media_type=answer.content_type,
        )


def make_asked(**changes: Any) -> LinkAsked:
    """Return what a link shall be that holds from now on."""
    asked = LinkAsked(
        at=datetime.now(UTC),
        seconds=600,
        name="a.zip",
        media_type=ZIP,
        marks=marks_of(make_delivery()),
    )
    return replace(asked, **changes)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A store with a target there, and a key of the test's own."""

    store: ObjectStore[Any]
    target: Target
    kind: TargetKind
    missing: Target  # its container is not there
    content: Callable[[str], Awaitable[bytes]]  # of an object, by its URL
    key: str
    opens: Opens | None = None  # follows a link as any client does; None: the store makes none

    async def begin(self, marks: dict[str, str] | None = None) -> Upload:
        return await self.store.create_upload(self.target, self.key, marks or {}, media_type=ZIP)

    async def send(self, upload: Upload, *contents: bytes) -> list[StoredPart]:
        return [
            await self.store.put_part(self.target, upload, number, Part.of(content))
            for number, content in enumerate(contents, start=1)
        ]

    async def complete(
        self,
        upload: Upload,
        parts: list[StoredPart],
        size: int,
        marks: dict[str, str] | None = None,
        *,
        again: bool = False,
    ) -> str:
        return await self.store.complete(
            self.target, upload, parts, size, marks=marks or {}, again=again
        )

    async def put(self, content: bytes, marks: dict[str, str] | None = None) -> str:
        """Make an object of one part; nothing is open afterwards."""
        upload = await self.begin(marks)
        try:
            return await self.complete(
                upload, await self.send(upload, content), len(content), marks
            )
        finally:
            await self.store.abort(self.target, upload)

    async def find(self) -> FoundObject | None:
        return await self.store.find(self.target, self.key)

    async def holds(self) -> bytes:
        return await self.content(self.target.url_of(self.key))

    async def open_uploads(self) -> list[Upload]:
        return await self.store.open_uploads(self.target, self.key)


class ObjectStoreContract:
    """To be subclassed where there is a fixture `place`."""

    # What uploads become.

    async def test_parts_become_one_object_that_carries_the_marks(self, place: Place) -> None:
        marks = marks_of(make_delivery()) | {MD5_MARK: hashlib.md5(b"of a file").hexdigest()}
        upload = await place.begin(marks)
        parts = await place.send(upload, PART, b"the rest")
        size = len(PART) + 8
        etag = await place.complete(upload, parts, size, marks)
        assert etag == place.store.etag_of(place.target, parts)
        assert await place.find() == FoundObject(size=size, etag=etag, marks=marks)
        assert await place.holds() == PART + b"the rest"
        assert await place.open_uploads() == []

    async def test_etags_are_md5s_as_clients_compute_them(self, place: Place) -> None:
        upload = await place.begin()
        parts = await place.send(upload, PART, b"end")
        digests = [hashlib.md5(content) for content in (PART, b"end")]
        assert [part.etag for part in parts] == [digest.hexdigest() for digest in digests]
        assert [part.md5 for part in parts] == [digest.digest() for digest in digests]
        whole = hashlib.md5(b"".join(digest.digest() for digest in digests)).hexdigest()
        assert await place.complete(upload, parts, len(PART) + 3) == f"{whole}-2"

    async def test_an_etag_is_not_told_in_advance_where_a_parts_md5_is_not_known(
        self, place: Place
    ) -> None:
        parts = [StoredPart(etag="e", md5=None), StoredPart(etag="f", md5=b"\0" * 16)]
        assert place.store.etag_of(place.target, parts) is None

    async def test_there_is_nothing_until_it_is_completed(self, place: Place) -> None:
        upload = await place.begin()
        await place.send(upload, b"content")
        assert await place.find() is None
        assert await place.open_uploads() == [upload]

    async def test_a_part_that_is_sent_again_replaces_the_one_before(self, place: Place) -> None:
        upload = await place.begin()
        await place.send(upload, b"spoilt")
        await place.complete(upload, await place.send(upload, b"good"), 4)
        assert await place.holds() == b"good"

    async def test_parts_are_put_together_by_their_numbers(self, place: Place) -> None:
        upload = await place.begin()
        last = await place.store.put_part(place.target, upload, 2, Part.of(b"last"))
        first = await place.store.put_part(place.target, upload, 1, Part.of(PART))
        await place.complete(upload, [first, last], len(PART) + 4)
        assert await place.holds() == PART + b"last"

    async def test_a_part_that_was_not_sent_is_not_made_up(self, place: Place) -> None:
        upload = await place.begin()
        await place.send(upload, b"content")
        other = StoredPart(etag="0" * 32, md5=bytes(16))
        with pytest.raises(UploadLostError):
            await place.complete(upload, [other], 7)
        assert await place.find() is None

    async def test_the_parts_that_are_there_are_told(self, place: Place) -> None:
        upload = await place.begin()
        assert await place.store.part_etags(place.target, upload) == {}
        first, second = await place.send(upload, PART, b"end")
        found = await place.store.part_etags(place.target, upload)
        assert found == {1: first.etag, 2: second.etag}
        await place.store.abort(place.target, upload)
        with pytest.raises(UploadLostError):
            await place.store.part_etags(place.target, upload)

    async def test_of_a_part_that_was_sent_again_the_last_is_told(self, place: Place) -> None:
        upload = await place.begin()
        first, _ = await place.send(upload, PART, b"end")
        replaced = await place.store.put_part(place.target, upload, 2, Part.of(b"another"))
        found = await place.store.part_etags(place.target, upload)
        assert found == {1: first.etag, 2: replaced.etag}

    async def test_an_object_of_another_size_is_told(self, place: Place) -> None:
        upload = await place.begin()
        parts = await place.send(upload, b"content")
        with pytest.raises(WrongObjectError, match="should have 8 bytes"):
            await place.complete(upload, parts, 8)

    # The fence.

    async def test_what_is_aborted_takes_no_part_and_becomes_no_object(self, place: Place) -> None:
        upload = await place.begin()
        parts = await place.send(upload, b"content")
        await place.store.abort(place.target, upload)
        with pytest.raises(RetryableError):
            await place.complete(upload, parts, 7)
        with pytest.raises(UploadLostError):
            await place.send(upload, b"content")
        assert await place.find() is None
        assert await place.open_uploads() == []
        await place.store.abort(place.target, upload)

    async def test_a_successor_fences_its_predecessor(self, place: Place) -> None:
        predecessor = await place.begin()
        old = await place.send(predecessor, b"old")
        await place.store.abort(place.target, predecessor)
        successor = await place.begin()
        await place.complete(successor, await place.send(successor, b"new"), 3)
        with pytest.raises(RetryableError):
            await place.complete(predecessor, old, 3)
        assert await place.holds() == b"new"

    async def test_every_open_upload_of_a_key_is_told_and_of_no_other(self, place: Place) -> None:
        longer = place.key + "x"
        first, second = await place.begin(), await place.begin()
        other = await place.store.create_upload(place.target, longer, {}, media_type=ZIP)
        found = await place.open_uploads()
        assert {upload.upload_id for upload in found} == {first.upload_id, second.upload_id}
        assert {(upload.container, upload.key) for upload in found} == {
            (first.container, place.key)
        }
        for upload in found:
            await place.store.abort(place.target, upload)
        assert await place.open_uploads() == []
        assert await place.store.open_uploads(place.target, longer) == [other]
        await place.store.abort(place.target, other)

    # Asked again.

    async def test_a_completion_whose_answer_was_lost_is_found_to_be_made(
        self, place: Place
    ) -> None:
        marks = marks_of(make_delivery())
        upload = await place.begin(marks)
        parts = await place.send(upload, b"content")
        etag = await place.complete(upload, parts, 7, marks)
        assert await place.complete(upload, parts, 7, marks, again=True) == etag

    async def test_what_an_earlier_attempt_has_made_stays_and_nothing_is_left_open(
        self, place: Place
    ) -> None:
        marks = marks_of(make_delivery())
        etag = await place.put(b"content", marks)
        upload = await place.begin(marks)
        parts = await place.send(upload, b"content")
        assert await place.complete(upload, parts, 7, marks) == etag
        assert await place.open_uploads() == []

    async def test_what_an_earlier_upload_has_made_leaves_none_open_when_asked_again(
        self, place: Place
    ) -> None:
        """Both answers were lost: which upload made the object can't be told."""
        marks = marks_of(make_delivery())
        etag = await place.put(b"content", marks)
        upload = await place.begin(marks)
        parts = await place.send(upload, b"content")
        assert await place.complete(upload, parts, 7, marks, again=True) == etag
        assert await place.store.open_uploads(place.target, place.key) == []

    # Whose place it takes.

    @pytest.mark.parametrize("marked", [True, False])
    async def test_an_object_of_the_same_user_or_without_marks_is_replaced(
        self, place: Place, marked: bool
    ) -> None:
        await place.put(b"first", marks_of(make_delivery()) if marked else None)
        second = marks_of(make_delivery())
        etag = await place.put(b"second", second)
        assert await place.find() == FoundObject(size=6, etag=etag, marks=second)
        assert await place.holds() == b"second"

    @pytest.mark.parametrize(
        ("other", "whose"),
        [({"tenant": "swot"}, "another tenant's"), ({"user": "x@example.org"}, "another user's")],
    )
    @pytest.mark.parametrize("content", [b"mine", b"theirs"])
    async def test_an_object_of_another_tenant_or_user_is_never_replaced(
        self, place: Place, other: dict[str, str], whose: str, content: bytes
    ) -> None:
        """The same bytes are theirs all the same."""
        theirs = marks_of(make_delivery(**other))
        etag = await place.put(b"theirs", theirs)
        with pytest.raises(ForeignObjectError, match=f"the archive of {whose} delivery"):
            await place.put(content, marks_of(make_delivery()))
        assert await place.find() == FoundObject(size=6, etag=etag, marks=theirs)

    # What is there, and what is not.

    async def test_an_object_is_removed_by_its_etag(self, place: Place) -> None:
        etag = await place.put(b"content")
        await place.store.delete(place.target, place.key, etag=etag)
        assert await place.find() is None

    async def test_a_container_that_is_not_there_is_refused_for_good(self, place: Place) -> None:
        with pytest.raises(TargetRefusedError):
            await place.store.create_upload(place.missing, place.key, {}, media_type=ZIP)
        with pytest.raises(TargetRefusedError):
            await place.store.open_uploads(place.missing, place.key)
        gone = Upload(container=place.missing.container, key=place.key, upload_id="u")
        await place.store.abort(place.missing, gone)

    # What is put at once.

    async def put_at_once(
        self, place: Place, content: bytes, marks: dict[str, str], may: May = at_any_time
    ) -> str:
        return await place.store.put_object(
            place.target, place.key, Part.of(content), marks, media_type="image/tiff", may=may
        )

    @pytest.mark.parametrize("content", [b"content", b"", PART])
    async def test_what_is_put_at_once_is_an_object_that_carries_the_marks(
        self, place: Place, content: bytes
    ) -> None:
        marks = marks_of(make_delivery()) | {MD5_MARK: hashlib.md5(content).hexdigest()}
        etag = await self.put_at_once(place, content, marks)
        assert await place.find() == FoundObject(size=len(content), etag=etag, marks=marks)
        assert await place.holds() == content
        assert await place.open_uploads() == []

    @pytest.mark.parametrize("marked", [True, False])
    async def test_what_is_put_at_once_replaces_what_is_of_the_same_user_or_without_marks(
        self, place: Place, marked: bool
    ) -> None:
        await place.put(b"first", marks_of(make_delivery()) if marked else None)
        for content in (b"second", b"third"):
            marks = marks_of(make_delivery())
            etag = await self.put_at_once(place, content, marks)
            found = FoundObject(size=len(content), etag=etag, marks=marks)
            assert await place.find() == found
            assert await place.holds() == content

    @pytest.mark.parametrize("other", [{"tenant": "swot"}, {"user": "x@example.org"}])
    @pytest.mark.parametrize("content", [b"mine", b"theirs"])
    async def test_what_is_put_at_once_replaces_no_object_of_another_tenant_or_user(
        self, place: Place, other: dict[str, str], content: bytes
    ) -> None:
        theirs = marks_of(make_delivery(**other))
        etag = await self.put_at_once(place, b"theirs", theirs)
        with pytest.raises(ForeignObjectError, match=r"is not replaced"):
            await self.put_at_once(place, content, marks_of(make_delivery()))
        assert await place.find() == FoundObject(size=6, etag=etag, marks=theirs)

    async def test_nothing_is_put_at_once_where_there_is_no_container(self, place: Place) -> None:
        with pytest.raises(TargetRefusedError):
            await place.store.put_object(
                place.missing,
                place.key,
                Part.of(b"content"),
                {},
                media_type=ZIP,
                may=at_any_time,
            )

    @pytest.mark.parametrize("content", [b"content", b""])
    @pytest.mark.parametrize("there", [True, False])
    async def test_what_may_not_be_put_any_more_is_not_and_leaves_what_is_there(
        self, place: Place, content: bytes, there: bool
    ) -> None:
        """Whichever time it is asked: so what was delivered meanwhile stays."""
        if there:
            await self.put_at_once(place, b"before", marks_of(make_delivery()))
        before = await place.find()

        async def put(*, allowed: int) -> None:
            asked = itertools.count()

            async def may() -> None:
                if next(asked) >= allowed:
                    raise LeaseLostError("it was taken over")

            await self.put_at_once(place, content, marks_of(make_delivery()), may)

        allowed = 0
        while True:
            try:
                await put(allowed=allowed)
                break
            except LeaseLostError:
                assert await place.find() == before
                assert await place.open_uploads() == []
                allowed += 1
        assert allowed > 0
        assert await place.holds() == content

    # What is there is read, and handed on.

    async def test_an_object_is_read_bit_by_bit(self, place: Place) -> None:
        content = PART + b"the rest"
        upload = await place.begin()
        etag = await place.complete(
            upload, await place.send(upload, PART, b"the rest"), len(content)
        )
        size = len(content)
        for offset, length in ((0, 1), (0, 4 * MIB), (len(PART) - 3, 6), (size - 5, 5)):
            pieces = await place.store.read(
                place.target, place.key, etag=etag, offset=offset, length=length
            )
            assert b"".join(pieces) == content[offset : offset + length]

    async def test_an_object_that_was_replaced_or_removed_is_not_read_on(
        self, place: Place
    ) -> None:
        first = await place.put(b"first")
        second = await place.put(b"other")
        for etag, key in ((first, place.key), (second, f"{place.key}.none")):
            with pytest.raises(ObjectGoneError):
                await place.store.read(place.target, key, etag=etag, offset=0, length=5)
        await place.store.delete(place.target, place.key, etag=second)
        with pytest.raises(ObjectGoneError):
            await place.store.read(place.target, place.key, etag=second, offset=0, length=5)

    @pytest.mark.parametrize("name", ["a.zip", "ä b+%41&c=;'(1)~.zip"])
    async def test_a_link_leads_any_client_to_the_object(self, place: Place, name: str) -> None:
        at = replace(place, key=f"{place.key}-{name}")
        etag = await at.put(b"content")
        asked = make_asked(name=name)
        if at.opens is None:
            with pytest.raises(NoLinkError):
                await at.store.link(at.target, at.key, asked)
        else:
            answered = await at.opens(await at.store.link(at.target, at.key, asked))
            assert (answered.status, answered.content) == (200, b"content")
        await at.store.delete(at.target, at.key, etag=etag)

    # What is put aside.

    async def test_what_is_put_aside_is_read_as_it_was_and_dropped(self, place: Place) -> None:
        store, target, key = place.store, place.target, f"{place.key}.unfinished-1"
        marks = marks_of(make_delivery())
        await store.put_aside(target, key, Part.of(b"first"), marks)
        await store.put_aside(target, key, Part.of(PART), marks)
        pieces = await store.read_aside(target, key, size=len(PART))
        assert b"".join(pieces) == PART
        found = await store.find(target, key)
        assert found is not None
        assert (found.size, found.marks) == (len(PART), marks)
        assert await place.find() is None
        assert await place.open_uploads() == []
        for _ in range(2):
            await store.drop_aside(target, key)
        assert await store.read_aside(target, key, size=len(PART)) == []

    async def test_of_what_is_larger_than_it_was_no_more_is_read_than_shows_it(
        self, place: Place
    ) -> None:
        store, target, key = place.store, place.target, f"{place.key}.unfinished-1"
        await store.put_aside(target, key, Part.of(PART), {})
        pieces = await store.read_aside(target, key, size=1000)
        assert sum(map(len, pieces)) == 1001
        await store.drop_aside(target, key)

    async def test_nothing_is_put_aside_or_read_where_there_is_no_container(
        self, place: Place
    ) -> None:
        with pytest.raises(TargetRefusedError):
            await place.store.put_aside(place.missing, place.key, Part.of(b"content"), {})
        with pytest.raises(TargetRefusedError):
            await place.store.read_aside(place.missing, place.key, size=7)

    # Targets.

    async def test_a_target_is_read_as_it_was_noted(self, place: Place) -> None:
        noted = place.target.noted()
        kinds = TargetKinds(place.kind)
        assert kinds.read(noted) == place.target
        assert kinds.read(noted | {"invented_later": {"a": 1}}) == place.target
        assert hash(kinds.read(noted)) == hash(place.target)
        assert place.target != place.missing

    async def test_a_target_says_where_it_is_without_a_secret(self, place: Place) -> None:
        target = place.target
        assert target.namespace
        assert "\0" not in target.namespace  # it is kept
        assert target.url_of("c/a.zip").endswith(f"/{target.container}/c/a.zip")
        secret = target.noted().get("secret")
        for text in (str(target), repr(target)):
            assert target.container in text
            assert secret is None or secret not in text
