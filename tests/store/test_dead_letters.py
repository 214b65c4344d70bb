"""Dead letters are kept once each, looked for, mended, handled once, and wait if buried again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.audit import Actor, AuditRecord
from app.views.dead_letters import (
    BEGINNING_BYTES,
    CopyMark,
    DeadLetterFilter,
    LetterKind,
    Mend,
)
from compose.embedded.stack import TENANT
from tests.builders import make_buried
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER

_ANY = DeadLetterFilter()
_AT = datetime(2026, 3, 1, tzinfo=UTC)


def _done(action: str = "requeue") -> AuditRecord:
    actor = Actor(name="ada", role="ADMIN", tenant=TENANT)
    return AuditRecord(actor=actor, action=action, subject="dead letter", before=None, after=None)


def _mend(**changes: Any) -> Mend:
    return replace(Mend(body=b"{}", tenant=None, by="ada", at=_AT), **changes)


async def _ids(deliveries: Deliveries, whose: str | None = None, **asked: Any) -> list[str]:
    found = await deliveries.dead_letters().browse(
        whose, DeadLetterFilter.model_validate(asked), after=0, limit=99
    )
    return [kept.letter.id for kept in found]


async def _settle(deliveries: Deliveries, letter_id: str, *, held: int = 1) -> bool:
    table = deliveries.dead_letters()
    async with table.settling(letter_id, held=held, done=_done()) as kept:
        return kept is not None


async def _actions(deliveries: Deliveries) -> list[str]:
    return [entry.action for entry in await deliveries.audit.entries(None, before=2**62, limit=99)]


async def test_a_letter_is_kept_as_it_came(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    message = make_buried("amqp:a", body=bytes(range(256)), properties=b"\0\1", at=_AT)
    event = make_buried("event:b", kind=LetterKind.EVENT, key=b"\xff/c", copies=("0:3",))
    await table.keep([message, event], again=True)
    for letter in (message, event):
        kept = await table.one(None, letter.id)
        assert kept is not None
        assert (kept.letter, kept.mend) == (letter, None)
    assert await table.one(None, "amqp:c") is None


async def test_a_message_that_is_buried_twice_is_one_letter(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    first = make_buried("amqp:a", reason="the first", copies=("0:2",))
    await table.keep([first, make_buried("amqp:b")], again=True)
    await table.mend("amqp:a", _mend(), done=_done("mend"))
    await table.keep([replace(first, reason="another", copies=("0:1",))], again=False)
    kept = await table.one(None, "amqp:a")
    assert kept is not None
    assert (kept.letter.reason, kept.letter.copies) == ("the first", ("0:1", "0:2"))
    await table.keep([replace(first, reason="another", copies=("0:2",))], again=True)
    kept = await table.one(None, "amqp:a")
    assert kept is not None
    assert (kept.letter.reason, kept.letter.copies) == ("another", ("0:1", "0:2"))
    assert kept.mend == _mend()
    assert await _ids(deliveries) == ["amqp:b", "amqp:a"]


async def test_pages_follow_one_another_and_tell_how_many_there_are(
    deliveries: Deliveries,
) -> None:
    table = deliveries.dead_letters()
    for number in range(7):
        await table.keep([make_buried(f"amqp:{number}")], again=True)
    seen: list[str] = []
    after = 0
    while page := await table.browse(None, _ANY, after=after, limit=3):
        seen += [kept.letter.id for kept in page]
        after = page[-1].number
    assert seen == [f"amqp:{number}" for number in range(7)]
    assert await table.count(None, _ANY) == 7


async def test_a_tenant_sees_its_own_letters_alone(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    letters = [
        make_buried("amqp:mine"),
        make_buried("amqp:others", tenant=OTHER),
        make_buried("amqp:of none", tenant=None),
        make_buried("amqp:of another service", ours=False),
    ]
    for letter in letters:
        await table.keep([letter], again=True)
    every = [letter.id for letter in letters]
    assert await _ids(deliveries, TENANT) == ["amqp:mine"]
    assert await _ids(deliveries, OTHER) == ["amqp:others"]
    assert await _ids(deliveries) == every
    assert await _ids(deliveries, TENANT, tenant=OTHER) == []
    assert await _ids(deliveries, tenant=OTHER) == ["amqp:others"]
    assert [kept.letter.id for kept in await table.several(TENANT, every)] == ["amqp:mine"]
    assert await table.one(TENANT, "amqp:others") is None
    assert await table.one(TENANT, "amqp:of another service") is None
    assert await table.count(OTHER, _ANY) == 1
    waiting = [(w.place, w.tenant, w.letters) for w in await table.waiting([TENANT])]
    assert waiting == [("requests.DLQ", TENANT, 1), ("requests.DLQ", None, 3)]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["amqp:a", "amqp:b"]),
        ({"place": "CANCELS"}, ["amqp:b"]),
        ({"place": "x%_"}, []),
        ({"reason": "No json"}, ["amqp:a"]),
        ({"correlationId": "c-2"}, ["amqp:b"]),
        ({"correlationId": "c"}, ["amqp:a"]),
        ({"correlationId": "C"}, []),
        ({"since": "2000-01-01", "until": "2999-01-01T00:00:00Z"}, ["amqp:a", "amqp:b"]),
        ({"since": "2999-01-01"}, []),
        ({"until": "2000-01-01"}, []),
        ({"mended": "true"}, ["amqp:b"]),
        ({"mended": "false"}, ["amqp:a"]),
        ({"mended": "true", "reason": "no json"}, []),
    ],
)
async def test_letters_are_looked_for(
    deliveries: Deliveries, asked: dict[str, str], found: list[str]
) -> None:
    table = deliveries.dead_letters()
    await table.keep([make_buried("amqp:a", reason="the body is no JSON")], again=True)
    other = make_buried("amqp:b", place="cancels.DLQ", correlation_id="c-2", reason="x")
    await table.keep([other], again=True)
    await table.mend("amqp:b", _mend(), done=_done("mend"))
    assert await _ids(deliveries, **asked) == found
    wanted = DeadLetterFilter.model_validate(asked)
    assert await table.count(None, wanted) == len(found)
    letters = await table.browse(None, wanted, after=0, limit=9)
    for number, kept in enumerate(letters, 1):
        assert await table.count(None, wanted, after=kept.number) == len(found) - number


async def test_a_list_has_the_beginning_of_a_body(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    body = b"x" * (BEGINNING_BYTES + 1)
    await table.keep([make_buried("amqp:a", body=body)], again=True)
    for (kept,) in (
        await table.browse(None, _ANY, after=0, limit=9),
        await table.several(None, ["amqp:a"]),
    ):
        assert kept.letter.body == body[:-1]
        assert not kept.letter.is_whole


async def test_of_too_many_long_bodies_the_beginning_is_kept(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disk is not one tenant's; the copy is whole. Short bodies are kept all."""
    for module in ("app.store.dead_letters", "app.store.memory.dead_letters"):
        monkeypatch.setattr(f"{module}.MAX_KEPT_OF_TENANT", 25_000)
        monkeypatch.setattr(f"{module}.MAX_KEPT_OF_PLACE", 50_000)
    table = deliveries.dead_letters()
    body = b"x" * 10_000

    async def keep(name: str, *, body: bytes = body, **more: Any) -> bool:
        await table.keep([make_buried(f"amqp:{name}", body=body, **more)], again=True)
        kept = await table.one(None, f"amqp:{name}")
        assert kept is not None
        assert kept.letter.body in (body, body[:BEGINNING_BYTES])
        assert kept.letter.is_whole == kept.is_whole
        (listed,) = await table.several(None, [f"amqp:{name}"])
        assert (listed.is_whole, len(listed.letter.body)) == (
            kept.is_whole,
            min(len(body), BEGINNING_BYTES),
        )
        return kept.is_whole

    for _ in range(2):  # buried again: it counts once
        assert [await keep(name) for name in "ab"] == [True, True]
    assert not await keep("c")
    assert [await keep(f"short {number}", body=b"x" * 8000) for number in range(3)] == [True] * 3
    assert await keep("d", place="cancels.DLQ")
    assert [await keep(f"stranger {n}", tenant=None) for n in range(3)] == [True, True, False]
    assert await keep("e", tenant=OTHER)
    assert not await keep("f", tenant=OTHER)  # that would be too much in one place
    assert not await keep("c")
    assert await _settle(deliveries, "amqp:a")
    await table.settled(["amqp:a"])
    assert await keep("g", tenant=OTHER)


async def test_a_mend_is_kept_beside_the_body_and_noted(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    await table.keep([make_buried("amqp:a", body=b"broken")], again=True)
    mend = _mend(body=b"\xfe", tenant="swot")
    assert await table.mend("amqp:a", mend, done=_done("mend"))
    kept = await table.one(None, "amqp:a")
    assert kept is not None
    assert (kept.letter.body, kept.mend) == (b"broken", mend)
    assert not await table.mend("amqp:b", mend, done=_done("mend"))
    assert await _actions(deliveries) == ["mend"]


async def test_of_two_mends_of_what_both_saw_one_is_made(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    await table.keep([make_buried("amqp:a"), make_buried("amqp:b")], again=True)
    seen = await table.one(None, "amqp:a")
    assert seen is not None
    mends = [_mend(body=b"1"), _mend(body=b"2", at=_AT + timedelta(microseconds=1))]
    made = await asyncio.gather(
        *(table.mend("amqp:a", mend, done=_done("mend"), seen=seen) for mend in mends)
    )
    assert sorted(made) == [False, True]
    now = await table.one(None, "amqp:a")
    assert now is not None
    assert now.mend == mends[made.index(True)]
    assert now.version != seen.version
    another = _mend(body=b"3", at=_AT + timedelta(seconds=1))
    assert await table.mend("amqp:a", another, done=_done("mend"), seen=now)
    assert await _actions(deliveries) == ["mend", "mend"]


async def test_a_mend_of_what_was_seen_before_it_was_buried_again_is_not_made(
    deliveries: Deliveries,
) -> None:
    table = deliveries.dead_letters()
    letter = make_buried("amqp:a")
    await table.keep([letter, make_buried("amqp:b")], again=True)
    seen = await table.one(None, "amqp:a")
    assert seen is not None
    assert await _settle(deliveries, "amqp:a")
    await table.keep([letter], again=True)
    assert not await table.mend("amqp:a", _mend(), done=_done("mend"), seen=seen)
    assert await table.mend("amqp:a", _mend(), done=_done("mend"))


async def test_a_letter_is_handled_once(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    await table.keep([make_buried("amqp:a"), make_buried("amqp:b")], again=True)
    handled = await asyncio.gather(*(_settle(deliveries, "amqp:a", held=2) for _ in range(3)))
    assert sorted(handled) == [False, False, True]
    assert await _actions(deliveries) == ["requeue"]
    assert await _ids(deliveries) == ["amqp:b"]
    assert await table.known(["amqp:a", "amqp:b", "amqp:c"]) == {"amqp:a": True, "amqp:b": False}
    (left,) = await table.handled("requests.DLQ")
    assert (left.id, left.held) == ("amqp:a", 2)
    assert await table.handled() == []
    assert await table.rows("requests.DLQ") == 2
    await table.settled(["amqp:a", "amqp:b"])
    assert await table.rows("requests.DLQ") == 1
    assert await table.known(["amqp:a", "amqp:b"]) == {"amqp:b": False}


async def test_a_letter_that_went_by_another_way_waits_no_more_and_is_looked_for(
    deliveries: Deliveries,
) -> None:
    """Another copy of it may be in the queue."""
    table = deliveries.dead_letters()
    letters = [make_buried("amqp:a"), make_buried("amqp:b")]
    await table.keep(letters, again=True)
    await _settle(deliveries, "amqp:b", held=2)
    await table.discard(["amqp:a", "amqp:b"])
    assert await _ids(deliveries) == []
    left = {letter.id: letter.held for letter in await table.handled("requests.DLQ")}
    assert left == {"amqp:a": 0, "amqp:b": 1}
    await table.keep([letters[0]], again=True)
    assert await _ids(deliveries) == ["amqp:a"]


async def test_a_letter_waits_on_where_its_handling_fails(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    await table.keep([make_buried("amqp:a")], again=True)
    with pytest.raises(ZeroDivisionError):
        async with table.settling("amqp:a", held=1, done=_done()):
            raise ZeroDivisionError
    assert await _ids(deliveries) == ["amqp:a"]
    assert await _actions(deliveries) == []
    assert await _settle(deliveries, "amqp:a")


async def test_a_letter_that_is_buried_again_waits_again_unmended(deliveries: Deliveries) -> None:
    """It was put back, and failed again: what was known of its copies is of others."""
    table = deliveries.dead_letters()
    letter = make_buried("amqp:a")
    await table.keep([letter, make_buried("amqp:b")], again=True)
    await table.mend("amqp:a", _mend(), done=_done("mend"))
    assert await _settle(deliveries, "amqp:a")
    await table.keep([letter], again=False)  # a copy that was handled with it
    assert await _ids(deliveries) == ["amqp:b"]
    await table.keep([letter], again=True)
    await table.settled(["amqp:a"])
    assert await _ids(deliveries) == ["amqp:b", "amqp:a"]
    kept = await table.one(None, "amqp:a")
    assert kept is not None
    assert kept.mend is None
    assert await table.handled("requests.DLQ") == []


async def test_it_is_told_how_long_ago_a_letter_was_handled(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    await table.keep([make_buried("amqp:a", place="requests.DLQ")], again=True)
    await _settle(deliveries, "amqp:a", held=2)
    await deliveries.elapse(timedelta(hours=1))
    await table.discard(["amqp:a"])
    (left,) = await table.handled("requests.DLQ")
    assert left.held == 1
    assert 3600 <= left.since < 4200


async def test_a_letter_is_buried_again_once_it_is_handled(deliveries: Deliveries) -> None:
    """Who buries waits for who puts back: neither undoes what the other did."""
    table = deliveries.dead_letters()
    letter = make_buried("amqp:a")
    await table.keep([letter], again=True)
    async with table.settling("amqp:a", held=1, done=_done()) as kept:
        assert kept is not None
        buried = asyncio.create_task(table.keep([letter], again=True))
        await asyncio.sleep(0)
    await buried
    assert await table.known(["amqp:a"]) == {"amqp:a": False}


async def test_events_that_are_handled_are_told_with_their_copies(deliveries: Deliveries) -> None:
    table = deliveries.dead_letters()
    event = make_buried(
        "event:a", kind=LetterKind.EVENT, place="delivery.requests", key=b"k", copies=("1:2", "0:3")
    )
    await table.keep([event], again=True)
    assert await _settle(deliveries, "event:a", held=0)
    (left,) = await table.handled()
    assert (left.key, left.copies) == (b"k", ("1:2", "0:3"))


async def test_events_are_forgotten_once_all_their_copies_were_put_back(
    deliveries: Deliveries,
) -> None:
    table = deliveries.dead_letters()
    event = make_buried("event:a", kind=LetterKind.EVENT, copies=("1:2", "0:3"))
    await table.keep([event, make_buried("amqp:b")], again=False)
    await table.marked([CopyMark(copy=copy, letter_id=None) for copy in ("0:3", "0:4")])
    assert await _ids(deliveries) == ["amqp:b", "event:a"]
    await table.marked([CopyMark(copy="1:2", letter_id="event:a")])
    assert await _ids(deliveries) == ["amqp:b"]


async def test_a_mark_is_of_one_event_though_another_has_its_place_on_the_topic(
    deliveries: Deliveries,
) -> None:
    """The topic was made again: places that were taken before are taken once more."""
    table = deliveries.dead_letters()
    earlier, later = (
        make_buried(f"event:{name}", kind=LetterKind.EVENT, copies=("0:5",)) for name in "yx"
    )
    await table.keep([earlier], again=True)
    await table.keep([later], again=True)
    await table.marked([CopyMark(copy="0:5", letter_id="event:y")])
    assert await _ids(deliveries) == ["event:x"]
    kept = await table.one(None, "event:x")
    assert kept is not None
    assert kept.letter == later
    await table.marked([])
    await table.marked([CopyMark(copy="0:5", letter_id=each) for each in ("event:y", "event:x")])
    assert await _ids(deliveries) == []


async def test_copies_in_a_partition_that_is_gone_are_forgotten_and_letters_are_not(
    deliveries: Deliveries,
) -> None:
    table = deliveries.dead_letters()
    event = make_buried("event:a", kind=LetterKind.EVENT, copies=("0:5", "1:5", "10:5"))
    handled = make_buried("event:b", kind=LetterKind.EVENT, copies=("1:6",))
    await table.keep([event, handled], again=True)
    assert await _settle(deliveries, "event:b", held=0)
    await table.forget_copies([1, 2])
    kept = await table.one(None, "event:a")
    assert kept is not None
    assert kept.letter.copies == ("0:5", "10:5")
    assert [(left.id, left.copies) for left in await table.handled()] == [("event:b", ())]
    await table.forget_copies([0, 10])
    await table.marked([CopyMark(copy="0:5", letter_id="event:a")])
    assert await _ids(deliveries) == ["event:a"]


async def test_an_event_with_another_copy_than_those_it_was_handled_with_waits_again(
    deliveries: Deliveries,
) -> None:
    table = deliveries.dead_letters()
    event = make_buried("event:a", kind=LetterKind.EVENT, copies=("0:1", "0:2"))
    await table.keep([event], again=True)
    await table.mend("event:a", _mend(), done=_done("mend"))
    assert await _settle(deliveries, "event:a", held=0)
    await table.keep([replace(event, copies=("0:2",))], again=False)
    assert await _ids(deliveries) == []
    await table.keep([replace(event, copies=("0:3",), reason="again")], again=False)
    kept = await table.one(None, "event:a")
    assert kept is not None
    assert (kept.letter.reason, kept.letter.copies) == ("again", ("0:1", "0:2", "0:3"))
    assert kept.mend is None
    assert await table.handled() == []


async def test_all_know_how_far_copies_were_looked_through(deliveries: Deliveries) -> None:
    assert await deliveries.dead_letters().seen() == {}
    await deliveries.dead_letters().saw({"topic:0": 7, "topic:1": 8})
    await deliveries.dead_letters().saw({"topic:1": 3, "topic:2": 2**40})
    await deliveries.dead_letters().saw({})
    assert await deliveries.dead_letters().seen() == {"topic:0": 7, "topic:1": 3, "topic:2": 2**40}
