"""Small members that are deflated before their turn: the same bytes, in bounds, ended at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.delivery.manifest import ManifestFile
from app.errors import WrongFileError
from sinks.formats import ahead as module
from sinks.formats.ahead import Ahead
from sinks.formats.archive_format import BLOCK, SMALL, Coming, Member
from sinks.formats.deflate import DeflatePool, compressed
from sinks.formats.zip import Zip
from sinks.pipeline.prefetch import Prefetcher
from sinks.pipeline.rechunk import rechunk
from tests.builders import make_file
from tests.conftest import noise
from tests.readers import READERS
from tests.unit.test_deflate import rows, threads_left
from tests.unit.test_transfer import TARGET
from tests.unit.test_zip_going_on import HalfMade

File = tuple[ManifestFile, bytes]
MIXED = [rows(20_000), noise(20_000), b"", b"x", rows(SMALL), noise(SMALL), rows(SMALL + 1)]
MIXED += [rows(BLOCK), rows(2 * BLOCK + 1), *(rows(20_000 + number) for number in range(30))]


def named(contents: Sequence[bytes], suffix: str = ".bin") -> list[File]:
    return [
        (replace(make_file(f"{number}{suffix}", content), position=number), content)
        for number, content in enumerate(contents)
    ]


def zipped(
    files: Sequence[File],
    *,
    form: Zip,
    compression: str = "auto",
    there: Sequence[int] = (0,),
) -> bytes:
    """Return an archive; of how many files are there whole as one is asked for, `there` says."""
    writer = form.writer(compression=compression)
    told = 0

    def coming(number: int) -> Iterator[Coming]:
        nonlocal told
        told = max(told, number + 1)
        while told < min(len(files), number + 1 + there[number % len(there)]):
            file, content = files[told]
            if len(content) > SMALL:
                return
            told += 1
            yield Coming(file, content)

    def members() -> Iterator[Member]:
        for number, (file, content) in enumerate(files):
            writer.look_ahead(coming(number))
            yield file, rechunk([content])

    try:
        made = [block for batch in writer.batches(members()) for block in batch]
        return b"".join([*made, *writer.end()])
    finally:
        writer.close()
        assert not threads_left()


class Held(DeflatePool):
    """Threads that have other work until they are let."""

    def __init__(self, threads: int = 1) -> None:
        super().__init__(threads)
        self.let = threading.Event()

    def enter(self) -> ThreadPoolExecutor:
        executor = super().enter()
        for _ in range(self.threads):
            executor.submit(self.let.wait)
        return executor

    def leave(self) -> None:
        self.let.set()
        super().leave()


sizes = st.one_of(st.integers(0, 100), st.integers(10_000, 40_000), st.integers(0, 2 * BLOCK))


@pytest.mark.parametrize("compression", ["auto", "deflate", "store"])
@pytest.mark.parametrize("in_blocks", [True, False], ids=["blocks", "earlier"])
@given(
    contents=st.lists(
        st.builds(lambda size, some: some(size), sizes, st.sampled_from([rows, noise])),
        max_size=40,
    ),
    there=st.lists(st.integers(0, 100), min_size=1, max_size=5),
    suffix=st.sampled_from([".bin", ".jpg"]),
)
@example(contents=MIXED, there=[100], suffix=".bin")
@example(contents=MIXED, there=[3, 0, 12], suffix=".bin")
@example(contents=MIXED, there=[100], suffix=".jpg")
@settings(max_examples=15, deadline=None)
def test_the_archive_is_the_same_whatever_was_there_before_its_turn(
    compression: str, contents: list[bytes], there: list[int], suffix: str, *, in_blocks: bool
) -> None:
    files = named(contents, suffix)
    plain = Zip(in_blocks=in_blocks)
    expected = zipped(files, form=plain, compression=compression)
    for threads in (1, 2, 8):
        form = replace(plain, pool=DeflatePool(threads))
        assert zipped(files, form=form, compression=compression, there=there) == expected
    assert READERS[".zip"](expected) == {file.member: content for file, content in files}


def test_what_waits_is_made_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is handed over is; here each member's turn waits until it was."""
    here, made = threading.current_thread(), list[bool]()

    def counted(whole: bytes) -> bytes:
        made.append(threading.current_thread() is not here)
        return compressed(whole)

    monkeypatch.setattr(module, "compressed", counted)
    ahead = Ahead(DeflatePool(1))
    files = named([rows(20_000)] * 20)
    ahead.begin(Coming(*file) for file in files)
    while begun := ahead._begun:  # noqa: SLF001 - what it waits for
        assert begun[0].run.making.result()
        assert ahead.take(begun[0].position) == compressed(rows(20_000))
    ahead.close()
    assert len(made) >= 7
    assert all(made)


def test_what_no_thread_has_begun_is_not_waited_for() -> None:
    """Threads that have the blocks of other transfers hold nothing up."""
    files = named([content for content in MIXED if len(content) <= SMALL])
    held = Held()
    assert zipped(files, form=Zip(pool=held), there=[100]) == zipped(files, form=Zip())


class Kept(bytes):
    """Bytes of which it is known how many there are."""

    held = 0

    def __init__(self, *_: Any) -> None:
        type(self).held += len(self)

    def __del__(self) -> None:
        type(self).held -= len(self)


@pytest.mark.parametrize("pool", [DeflatePool(1), DeflatePool(8), Held()], ids=["1", "8", "held"])
def test_no_more_is_ahead_than_a_block(pool: DeflatePool) -> None:
    """Also of what is in the threads' line, and waits behind the blocks of others."""
    assert not Kept.held
    chance = random.Random(4)
    sizes = [chance.choice([0, 700, 20_000, 120_000, SMALL]) for _ in range(600)]
    ahead, told, most = Ahead(pool), 0, 0
    file = make_file("a")

    def coming() -> Iterator[Coming]:
        nonlocal told
        while told < len(sizes):
            told += 1
            yield Coming(replace(file, position=told - 1), Kept(rows(sizes[told - 1])))

    for number in range(len(sizes)):
        ahead.begin(coming())
        assert ahead.size <= BLOCK
        most = max(most, Kept.held)
        assert Kept.held <= BLOCK
        ahead.take(number)
    assert most > BLOCK // 2
    ahead.close()
    assert not threads_left()
    assert not Kept.held


def test_what_a_thread_fails_with_is_told_in_the_members_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_whole: bytes) -> bytes:
        raise MemoryError("a member")

    monkeypatch.setattr(module, "compressed", fails)
    pool = DeflatePool(1)
    ahead = Ahead(pool)
    ahead.begin(Coming(*file) for file in named([rows(20_000)] * 7))
    ahead._begun[0].run.making.exception()  # noqa: SLF001 - a thread has begun it
    with pytest.raises(MemoryError, match="a member"):
        ahead.take(0)
    ahead.close()
    assert not threads_left()


def test_who_ends_in_the_midst_begins_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """And has ended when what was begun has."""
    began, let, made = threading.Event(), threading.Event(), list[bytes]()

    def slow(whole: bytes) -> bytes:
        began.set()
        assert let.wait(60)
        made.append(whole)
        return b""

    monkeypatch.setattr(module, "compressed", slow)
    ahead = Ahead(DeflatePool(1))
    ahead.begin(Coming(*file) for file in named([noise(SMALL)] * 3))
    assert began.wait(60)
    *_, last = ahead._begun  # noqa: SLF001 - it is not begun, and dropped before one is waited for
    last.run.making.add_done_callback(lambda _: let.set())
    ahead.close()
    assert made == [noise(SMALL)]
    assert not threads_left()


FEW = {f"{number}.csv": rows(20_000 + number) for number in range(40)}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the positions of members that are made before their turn."""
    found: list[int] = []
    take = Ahead.take

    def noted(self: Ahead, position: int) -> bytes | None:
        if self._begun:
            wait([self._begun[0].run.making])
        made = take(self, position)
        if made is not None:
            found.append(position)
        return made

    monkeypatch.setattr(Ahead, "take", noted)
    return found


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> HalfMade:
    """Return a delivery whose archive is begun when all of its files are there."""
    half, there = HalfMade(FEW), threading.Event()
    half.source.begins["39.csv"] = there.set
    next_one = Prefetcher.next

    def after_all(self: Prefetcher) -> Any:
        assert there.wait(60)
        return next_one(self)

    monkeypatch.setattr(Prefetcher, "next", after_all)
    return half


async def test_small_files_that_are_there_are_made_before_their_turn(
    half: HalfMade, taken: list[int]
) -> None:
    await half.attempt(Zip(pool=DeflatePool(1)), breaks=None)
    assert len(taken) > 20
    assert taken == sorted(taken)
    assert READERS[".zip"](half.content) == FEW
    files = named(list(FEW.values()), ".csv")
    assert half.content == zipped(files, form=Zip())


async def test_a_file_that_is_wrong_is_so_in_its_turn(half: HalfMade, taken: list[int]) -> None:
    """What was made of it before is of no archive; nor is what comes behind looked at."""
    manifest = half.source.manifest()
    wrong, later = manifest[30], manifest[35]
    manifest[30] = replace(wrong, md5="0" * 32)
    manifest[35] = replace(later, size=7)
    half.source.manifest = lambda: manifest  # type: ignore[method-assign]
    with pytest.raises(WrongFileError) as told:
        await half.attempt(Zip(pool=DeflatePool(1)), breaks=None)
    assert told.value.position == wrong.position
    assert taken
    assert not half.store.objects(TARGET)
    assert not threads_left()
