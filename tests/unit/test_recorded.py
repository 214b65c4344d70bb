"""What is on a wire, in scripts and on dashboards is as it was recorded (see `tests.recorded`)."""

from __future__ import annotations

import inspect

import pytest

from streams.channels import KAFKA
from streams.events import WorkDue
from tests.recorded import book, today


@pytest.mark.parametrize("name", today.RECORDINGS)
async def test_every_recording_holds(name: str) -> None:
    made = today.RECORDINGS[name]()
    changed = book.difference(name, await made if inspect.isawaitable(made) else made)
    if changed:
        pytest.fail(changed, pytrace=False)


@pytest.mark.parametrize("topic", sorted(book.kept("kafka_events")))
def test_a_recorded_event_is_read_as_it_was_meant(topic: str) -> None:
    """Events wait for days, and those of the version before are read by this one."""
    read, meant = today.kafka.read(topic, book.kept("kafka_events")[topic])
    assert read == meant


def test_each_event_that_says_more_than_whose_it_is_is_recorded() -> None:
    told = {channel.topic.name for channel in KAFKA if channel.event not in (None, WorkDue)}
    assert told == today.kafka.FORMS.keys()


def test_no_recording_is_left_that_nothing_is_compared_with() -> None:
    kept = {path.stem for path in book.KEPT.iterdir()}
    assert kept == {*today.RECORDINGS, *today.STORED, today.SEALED}


def test_a_change_is_told_with_what_to_do() -> None:
    before = book.kept("exit_codes")
    told = book.difference("exit_codes", before | {"a mistake in the call": 3})
    assert '- "a mistake in the call": 2,' in told
    assert '+ "a mistake in the call": 3,' in told
    assert "make record" in told
    assert not book.difference("exit_codes", before)
