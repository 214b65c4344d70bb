"""Links on servers that look at what was signed: expired and altered ones are refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from sinks.stores.s3.links import Door
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.contract.object_store import ZIP, Place, make_asked, over_http
from tests.integration.conftest import abort_all
from tests.targets import MAKE

checked = pytest.mark.skipif(
    MAKE is None, reason="moto looks at no signature: see `make test-stores`"
)


@pytest.fixture
async def place(sink: S3ObjectStore, target: S3Target) -> AsyncIterator[Place]:
    """An object of the S3 server."""
    key = f"{uuid4().hex}/ä b+1.zip"

    async def never(url: str) -> bytes:
        raise AssertionError(url)

    made = Place(store=sink, target=target, kind=S3Target, missing=target, content=never, key=key)
    await made.put(b"content")
    yield made
    await abort_all(sink, target, key)


async def test_a_link_names_the_file_that_is_saved(place: Place) -> None:
    asked = make_asked(name="ä b+1.zip")
    answered = await over_http(await place.store.link(place.target, place.key, asked))
    assert (answered.status, answered.content, answered.media_type) == (200, b"content", ZIP)
    assert answered.disposition == (
        "attachment; filename=\"_ b+1.zip\"; filename*=UTF-8''%C3%A4%20b%2B1.zip"
    )


@checked
@pytest.mark.parametrize("ago", [timedelta(seconds=3), timedelta(hours=5)])
async def test_a_link_that_has_ended_is_refused(place: Place, ago: timedelta) -> None:
    """Signed as at a time that is over, for one second: nothing has to be waited for."""
    asked = make_asked(at=datetime.now(UTC) - ago, seconds=1)
    answered = await over_http(await place.store.link(place.target, place.key, asked))
    assert answered.status == 403
    assert answered.content != b"content"


@checked
async def test_a_link_that_was_altered_is_refused(place: Place) -> None:
    url = await place.store.link(place.target, place.key, make_asked())
    assert (await over_http(url)).status == 200
    other = replace(place, key=f"{uuid4().hex}/other.zip")
    etag = await other.put(b"another's")
    *_, path = urlsplit(url).path.partition(place.target.container)
    altered = {
        "another key": url.replace(path, f"/{other.key}"),
        "another signature": re.sub(r"(Signature=)(.)", r"\g<1>0\2", url)[:-1],
        "a longer time": url.replace("X-Amz-Expires=600", "X-Amz-Expires=6000"),
        "another name": url.replace("a.zip%22", "b.zip%22"),
        "no signature": url.partition("?")[0],
    }
    for how, link in altered.items():
        assert link != url
        answered = await over_http(link)
        assert answered.status in (400, 403), how
        assert answered.content not in (b"content", b"another's"), how
    await other.store.delete(other.target, other.key, etag=etag)


@checked
async def test_a_link_of_a_secret_that_was_changed_is_refused(place: Place) -> None:
    rotated = replace(place.target, secret="the-secret-of-another-day")  # type: ignore[type-var]
    url = await place.store.link(rotated, place.key, make_asked())
    assert (await over_http(url)).status == 403


async def test_a_link_is_made_for_where_clients_reach_the_server(
    place: Place, target: S3Target
) -> None:
    """The public name of the server leads to it: here, another name of this machine."""
    port = urlsplit(target.endpoint).port
    public = f"http://localhost:{port}"
    by_target = replace(target, public_endpoint=public)
    url = await place.store.link(by_target, place.key, make_asked())
    assert url == Door.between(target.endpoint, public).link(target, place.key, _of(url))
    assert url.startswith(f"{public}/")
    answered = await over_http(url)
    assert (answered.status, answered.content) == (200, b"content")


def _of(url: str):  # type: ignore[no-untyped-def] # noqa: ANN202
    """Return what a link was asked as, at the time that it tells."""
    stamp = re.search(r"X-Amz-Date=(\d{8}T\d{6})Z", url)
    assert stamp is not None
    return make_asked(at=datetime.strptime(stamp[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC))
