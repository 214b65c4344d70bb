"""S3 servers behind a proxy of the environment: it tunnels bytes, and is trusted with no more."""

from __future__ import annotations

import asyncio
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

HOST = "store.example"


class Tunnels:
    """A proxy that opens a tunnel (CONNECT) to one server, whatever it is asked for."""

    port: int  # of the server

    def __init__(self) -> None:
        self.asked: list[str] = []  # host:port
        self._open: set[asyncio.Task[None]] = set()

    async def over(self) -> None:
        """Wait until no tunnel is open any more."""
        await asyncio.gather(*self._open)

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self._open.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, place, _ = head.split(b" ", 2)
        assert method == b"CONNECT"
        self.asked.append(place.decode())
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with contextlib.closing(writer), contextlib.closing(back):
            await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The CA of the site."""
    return Authority(tmp_path / "site")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no proxy but the test's."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@contextlib.asynccontextmanager
async def behind_a_proxy(
    environment: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> AsyncIterator[Tunnels]:
    """Run a store that shows a certificate, and the proxy that leads to it."""

    async def found(_request: web.Request) -> web.Response:
        return web.Response()

    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(*certificate)
    tunnels = Tunnels()
    try:
        async with serving(found, ssl_context=shown) as tunnels.port:
            proxy = await asyncio.start_server(tunnels.take, "127.0.0.1", 0)
            port = proxy.sockets[0].getsockname()[1]
            environment.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            yield tunnels
            proxy.close()
    finally:
        await tunnels.over()


def target() -> S3Target:
    return make_target(endpoint=f"https://{HOST}", bucket="bucket")


async def test_a_store_behind_a_proxy_is_reached_by_its_certificate(
    environment: pytest.MonkeyPatch, authority: Authority
) -> None:
    good = authority.issue("store", HOST)
    async with behind_a_proxy(environment, good) as tunnels:
        async with open_store(ca=str(authority.file)) as sink:
            await sink.find_bucket(target())
        assert tunnels.asked == [f"{HOST}:443"]


async def test_a_certificate_of_another_ca_is_refused_behind_a_proxy(
    environment: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path / "foreign", "foreign").issue("store", HOST)
    async with behind_a_proxy(environment, foreign) as tunnels:
        for ca in (str(authority.file), ""):
            async with open_store(ca=ca) as sink:
                with pytest.raises(TargetUnavailableError, match="certificate"):
                    await sink.find_bucket(target())
        assert len(tunnels.asked) == 2  # it is the store that is refused, not the proxy


async def test_a_certificate_for_another_name_is_refused_behind_a_proxy(
    environment: pytest.MonkeyPatch, authority: Authority
) -> None:
    other = authority.issue("other", "other.example")
    async with behind_a_proxy(environment, other) as tunnels:
        async with open_store(ca=str(authority.file)) as sink:
            with pytest.raises(TargetUnavailableError, match="certificate"):
                await sink.find_bucket(target())
        assert tunnels.asked == [f"{HOST}:443"]
