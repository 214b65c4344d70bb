"""S3 servers behind a proxy of the environment: it tunnels bytes, and is trusted with no more."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from app.errors import TargetUnavailableError
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.target import S3Target
from tests.builders import make_target
from tests.certificates import Authority
from tests.servers import serving
from tests.tunnels import Tunnels, tunnels_to

HOST = "store.example"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The CA of the site."""
    return Authority(tmp_path / "site")


@contextlib.asynccontextmanager
async def behind_a_proxy(
    environment: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> AsyncIterator[Tunnels]:
    """Run a store that shows a certificate, and the proxy that leads to it."""

    async def found(_request: web.Request) -> web.Response:
        return web.Response()

    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(*certificate)
    async with (
        serving(found, ssl_context=shown) as port,
        tunnels_to(port, environment) as tunnels,
    ):
        yield tunnels


def target() -> S3Target:
    return make_target(endpoint=f"https://{HOST}", bucket="bucket")


async def test_a_store_behind_a_proxy_is_reached_by_its_certificate(
    monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:
    good = authority.issue("store", HOST)
    async with behind_a_proxy(monkeypatch, good) as tunnels:
        async with open_store(ca=str(authority.file)) as sink:
            await sink.find_bucket(target())
        assert tunnels.asked == [f"{HOST}:443"]


async def test_a_certificate_of_another_ca_is_refused_behind_a_proxy(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path / "foreign", "foreign").issue("store", HOST)
    async with behind_a_proxy(monkeypatch, foreign) as tunnels:
        for ca in (str(authority.file), ""):
            async with open_store(ca=ca) as sink:
                with pytest.raises(TargetUnavailableError, match="certificate"):
                    await sink.find_bucket(target())
        assert len(tunnels.asked) == 2  # it is the store that is refused, not the proxy


async def test_a_certificate_for_another_name_is_refused_behind_a_proxy(
    monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:
    other = authority.issue("other", "other.example")
    async with behind_a_proxy(monkeypatch, other) as tunnels:
        async with open_store(ca=str(authority.file)) as sink:
            with pytest.raises(TargetUnavailableError, match="certificate"):
                await sink.find_bucket(target())
        assert tunnels.asked == [f"{HOST}:443"]
