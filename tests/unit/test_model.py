"""Values that other versions of the service have noted."""

from __future__ import annotations

from dataclasses import asdict

from app.delivery.object_store import StoredObject
from sinks.stores.s3.target import S3Target
from tests.builders import make_stored, make_target

TARGET = make_target(storage_class="COLD")


def test_a_place_that_a_later_version_noted_is_read_without_what_is_not_known_here() -> None:
    assert S3Target.read(asdict(TARGET) | {"invented_later": {"a": 1}}) == TARGET


def test_a_place_that_an_earlier_version_noted_is_read_with_the_defaults_of_what_it_lacks() -> None:
    noted = asdict(TARGET)
    del noted["storage_class"], noted["prefix"]
    assert S3Target.read(noted) == make_target()


def test_an_object_that_a_later_version_was_about_to_complete_is_read() -> None:
    """Its row is read by everybody: a worker that can't would end."""
    stored = make_stored()
    assert StoredObject.read(asdict(stored) | {"sha512": "1" * 128}) == stored
