"""What a code means: as the service says now, as it said last, or as this program was built."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client_library.fake import TOKEN, Fake
from tests.client_library.program import called

NEW = {
    "code": "MOON_AWAY",
    "title": "The moon is away",
    "means": "It does not answer.",
    "waiting": "yes",
    "who": "it mends itself",
    "do": "Wait.",
    "lost": "Nothing.",
}


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """The service."""
    made = Fake()
    async with made.running():
        yield made


@pytest.fixture
def environment(fake: Fake, tmp_path: Path) -> dict[str, object]:
    """Where the service is, and where a user keeps what it told."""
    return {"DELIVERY_URL": fake.url, "DELIVERY_TOKEN": TOKEN, "XDG_CACHE_HOME": tmp_path}


async def test_a_code_that_is_newer_than_the_program_is_explained(
    fake: Fake, environment: dict[str, object]
) -> None:
    fake.codes = [NEW]
    code, out, err = await called("rs-delivery", "explain", "MOON_AWAY", environment=environment)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "MOON_AWAY: The moon is away",
        "  what it means:       It does not answer.",
        "  does waiting help:   yes",
        "  who can mend it:     it mends itself",
        "  what to do:          Wait.",
        "  is anything lost:    Nothing.",
    ]
    # It is asked whether that has changed, and told again as it was.
    again = await called("rs-delivery", "explain", "MOON_AWAY", environment=environment)
    assert (again, fake.asked["errors unchanged"]) == ((0, out, ""), 1)


async def test_a_service_that_is_away_or_old_leaves_what_the_program_knows(
    fake: Fake, environment: dict[str, object]
) -> None:
    first = await called("rs-delivery", "explain", "SOURCE_AWAY", environment=environment)
    assert first[0] == 0
    assert first[1].startswith("SOURCE_AWAY: ")
    away = environment | {"DELIVERY_URL": "http://127.0.0.1:1"}
    assert await called("rs-delivery", "explain", "SOURCE_AWAY", environment=away) == first
    assert await called("rs-delivery", "explain", "SOURCE_AWAY") == first
    code, _, err = await called("rs-delivery", "explain", "SOURCE_AWAY", "--url", "nonsense")
    assert (code, "must begin with https://" in err) == (2, True)


async def test_what_was_kept_is_told_while_the_service_is_away(
    fake: Fake, environment: dict[str, object], tmp_path: Path
) -> None:
    fake.codes = [NEW]
    first = await called("rs-delivery", "explain", "MOON_AWAY", environment=environment)
    fake.codes = None
    assert await called("rs-delivery", "explain", "MOON_AWAY", environment=environment) == first
    (kept,) = (tmp_path / "rs-delivery").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    kept.write_text('["damaged"]')
    fake.delivery |= {"correlationId": "MOON_AWAY"}
    code, out, _ = await called("rs-delivery", "explain", "MOON_AWAY", environment=environment)
    assert (code, out.startswith("MOON_AWAY: DONE since")) == (0, True)


async def test_a_delivery_is_explained_with_what_its_code_means(
    fake: Fake, environment: dict[str, object]
) -> None:
    fake.codes = [NEW]
    fake.delivery |= {"state": "READY", "code": "MOON_AWAY", "lastCause": "no light"}
    code, out, err = await called("rs-delivery", "explain", "d 1/é", environment=environment)
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == [
        "  why:   no light",
        "  code:  MOON_AWAY: The moon is away; it helps to wait",
        "  mends: it mends itself",
        "  do:    Wait.",
        "  lost:  Nothing.",
    ]
