"""What is known of a store's conditions is known of one bucket, and for a while."""

from __future__ import annotations

from dataclasses import replace

from sinks.stores.s3.conditions import Conditions, KnownConditions
from tests.builders import make_target

TARGET = make_target(endpoint="http://s3.example")


def test_known_conditions_hold_for_every_user_of_a_bucket() -> None:
    known = KnownConditions()
    assert known.of(TARGET) is None
    known.learn(TARGET, Conditions.KEPT)
    assert known.of(replace(TARGET, key="another", prefix="p/")) is Conditions.KEPT
    assert known.of(replace(TARGET, bucket="another")) is None
    assert known.of(replace(TARGET, endpoint="http://s3.example:9000")) is None
    known.learn(TARGET, Conditions.IN_DOUBT)
    assert known.of(TARGET) is Conditions.IN_DOUBT


def test_known_conditions_are_forgotten_after_a_while() -> None:
    """A store may be upgraded, or another be put in its place."""
    now = 0.0
    known = KnownConditions(lifetime=10, clock=lambda: now)
    known.learn(TARGET, Conditions.KEPT)
    now = 9.9
    assert known.of(TARGET) is Conditions.KEPT
    now = 10.0
    assert known.of(TARGET) is None
    known.learn(replace(TARGET, bucket="another"), Conditions.KEPT)
    assert len(known) == 1
