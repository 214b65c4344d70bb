"""A shell completes ids: of the service where it answers at once, else those of the last time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rs_delivery_client.cli.completion import Entry, known
from rs_delivery_client.cli.place import Place

PLACE = Place(url="http://127.0.0.1:1", token="a")
TOLD = [("d-1", "READY"), ("e-1", "DONE mosaic")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ids are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def answers(_place: Place, _begin: str) -> list[Entry]:
    return TOLD


def test_ids_of_a_service_that_answers_are_those_that_begin_so() -> None:
    assert known(PLACE, "", ask=answers, patience=60) == TOLD
    assert known(PLACE, "e", ask=answers, patience=60) == TOLD[1:]


def test_a_service_that_is_silent_or_away_gives_those_of_the_last_time(cache: Path) -> None:
    silent = threading.Event()

    def waits(_place: Place, _begin: str) -> list[Entry]:
        silent.wait()
        return []

    assert known(PLACE, "") == []
    assert known(PLACE, "", ask=answers, patience=60) == TOLD
    assert known(PLACE, "d", ask=waits, patience=0) == TOLD[:1]
    silent.set()
    assert known(PLACE, "d", patience=60) == TOLD[:1]  # nothing listens there
    assert known(Place(url=PLACE.url, token="another"), "d") == []
    (file,) = (cache / "rs-delivery").iterdir()
    assert file.stat().st_mode & 0o077 == 0
