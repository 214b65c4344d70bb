"""Each form goes to each place, with files of more than one part, and is the same there."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.payloads import md5, pattern
from tests.bench.places import PLACES, target_at, told
from tests.bench.processes import server
from tests.bench.upload import MIB, PART, Job
from tests.bench.ways import FORMS, TO

SIZE = PART + MIB


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    """What gives the files."""
    with server("source") as address:
        yield f"{address}/incompressible/{SIZE}/0"


def readable(folder: str) -> Path:
    """Let every user into a folder."""
    path = Path(folder)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", PLACES)
def test_each_form_goes_to_each_place(source: str, name: str) -> None:
    """Whether it arrives as it was sent is asked with servers that keep it; these keep none."""
    whole = pattern("incompressible")
    files = [(number, SIZE, md5(whole, number, SIZE)) for number in (1, 2)]
    # Not one of pytest's folders: a server runs as another user.
    with (
        tempfile.TemporaryDirectory(prefix="rs-delivery-") as folder,
        PLACES[name].serve(readable(folder)) as target,
    ):
        assert told(target_at(PLACES[name], told(target))) == told(target)
        job = Job(source=source, sink=told(target), files=files)
        made = {form: asyncio.run(TO[name][f"ours, {form}"](job)) for form in FORMS}
    assert len(set(made.values())) == len(FORMS), made
