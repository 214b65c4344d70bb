"""A process that reads its files again (SIGHUP), in the midst of its work."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from cryptography import x509

from compose.embedded.processes import Child
from compose.embedded.stack import TENANT, Stack
from tests.builders import make_token
from tests.certificates import Authority
from tests.client import Client, contents, request_for
from tests.command import logged
from tests.conftest import noise
from tests.integration.test_starting import ends_well, starting
from tests.integration.test_stopping import said as logged_lines
from tests.service import running_service
from tests.standin import StandIn

OTHER = "arrives-later"
ONE, ANOTHER = "one-secret-" * 6, "another-secret-" * 6


def said(child: Child, event: str) -> list[dict[str, Any]]:
    worker: Any = type("", (), {"child": child})
    return logged_lines([worker], event)


def hang_up(child: Child) -> None:
    (program,) = psutil.Process(child.process.pid).children()
    program.send_signal(signal.SIGHUP)


class Files:
    """What the service reads, and reads again."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.tenants, self.secret = folder / "tenants", folder / "secret"
        self.chain, self.key = self.authority.issue("web", "127.0.0.1")
        self.tenants.write_text(f"{TENANT}\n")
        self.secret.write_text(ONE)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "DELIVERY_TENANTS": "",
            "DELIVERY_TENANTS_FILE": str(self.tenants),
            "DELIVERY_JWT_SECRET_FILE": str(self.secret),
            "DELIVERY_WEB_TLS_CERTIFICATE": str(self.chain),
            "DELIVERY_WEB_TLS_KEY": str(self.key),
        }


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "files")


class Caller:
    """Calls the service by HTTPS, each time over a connection of its own."""

    def __init__(self, files: Files, url: str) -> None:
        self._files = files
        self.url = url.replace("http:", "https:")

    async def get(
        self, path: str, secret: str, tenant: str = TENANT, **claims: str
    ) -> tuple[int, str]:
        trusted = ssl.create_default_context(cafile=str(self._files.authority.file))
        token = make_token(secret, tenant=tenant, **claims)
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
            session.get(self.url + path, ssl=trusted) as answer,
        ):
            return answer.status, await answer.text()

    async def shown(self) -> x509.Certificate:
        """Return the certificate that a new connection is shown."""
        host, _, port = self.url.removeprefix("https://").partition(":")
        pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
        return x509.load_pem_x509_certificate(pem.encode())

    async def follow(self, correlation_id: str, heard: list[str]) -> AsyncIterator[None]:
        """Follow a delivery to its end; comes back once the stream is open."""
        trusted = ssl.create_default_context(cafile=str(self._files.authority.file))
        headers = {"Authorization": f"Bearer {make_token(ONE)}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{self.url}/deliveries/{correlation_id}/events", ssl=trusted) as answer,
        ):
            assert answer.status == 200
            yield
            heard.extend([line.decode() async for line in answer.content])


async def ends_for_its_token(stream: AsyncIterator[None], heard: list[str]) -> None:
    """Show that a stream ends before its delivery does, and says why."""
    async with asyncio.timeout(60):
        async for _ in stream:
            pass
    told = "".join(heard).replace(": ", ":")
    assert "event:expired" in told
    assert '"state":"DONE"' not in told


def certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


async def a_wrong_file_changes_nothing(child: Child, files: Files, caller: Caller) -> None:
    """Show that what is wrong stays as it was, and is told to operators."""
    files.tenants.write_text(f"{OTHER}\nno name\n")
    hang_up(child)
    await logged(child, '"reloaded"', 2)
    (wrong,) = said(child, "part_not_reloaded")
    assert (wrong["part"], wrong["level"]) == ("tenants", "error")
    assert "DELIVERY_TENANTS_FILE names: line 2: 'no name' is no name" in wrong["cause"]
    status, health = await caller.get("/health/ready", ANOTHER, OTHER)
    assert status == 200
    # The file is of all tenants: what is wrong in it is for who administers the instance.
    assert "could not be read again" in health
    assert "no name of a tenant" not in health
    _, health = await caller.get("/health/ready", ANOTHER, OTHER, role="INSTANCE_ADMIN")
    assert "line 2: 'no name' is no name of a tenant" in health
    assert "no name of a tenant" not in (await caller.get("/health/ready", ONE, OTHER))[1]


async def test_a_reload_takes_effect_in_the_midst_of_a_transfer_and_touches_nothing_of_it(
    stack: Stack,
    apart: dict[str, str],
    files: Files,
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    await standin.misbehave(bytes_per_second=200_000)  # it would take minutes
    content = {"a.bin": noise(40_000_000)}
    body = request_for(make_product(content))
    name = body["correlationId"]
    extra = apart | files.settings
    async with running_service(stack, extra=extra) as (child, url):
        caller = Caller(files, url)
        assert await caller.shown() == certificate(files.chain)
        await client.send(body)
        async with asyncio.timeout(60):
            while not await client.open_uploads(name):
                await asyncio.sleep(0.1)
        heard: list[str] = []
        stream = caller.follow(name, heard)
        await anext(stream)

        # Another tenant, another secret, another certificate.
        files.tenants.write_text(f"# instead of the first\n{OTHER}\n")
        files.secret.write_text(ANOTHER)
        files.authority.issue("web", "127.0.0.1")
        hang_up(child)
        await logged(child, '"reloaded"')
        changed = {line["part"]: line["changed"] for line in said(child, "part_reloaded")}
        assert changed["tenants"] == f"now served: {OTHER}; served no more: {TENANT}"
        assert said(child, "part_not_reloaded") == []
        assert await caller.shown() == certificate(files.chain)
        assert (await caller.get("/deliveries", ONE, OTHER))[0] == 401
        assert (await caller.get("/deliveries", ANOTHER, OTHER))[0] == 200
        assert (await caller.get("/deliveries", ANOTHER, TENANT)) == (
            403,
            '{"message": "the token is of a tenant that is not served here", "code": "FORBIDDEN"}',
        )
        refused = request_for(make_product({"b": b"b"}))
        await client.send(refused)
        await logged(child, '"message_buried"')
        (buried,) = said(child, "message_buried")
        assert f"unknown tenant '{TENANT}'; add it to DELIVERY_TENANTS" in buried["reason"]

        await a_wrong_file_changes_nothing(child, files, caller)

        # The stream has ended, as its caller would not be let in any more.
        await ends_for_its_token(stream, heard)

        # The transfer has not noticed.
        await standin.behave()
        done = await client.wait_for(name, "DONE", "ERROR", seconds=120)
        assert contents(await client.fetch(done["url"])) == content
        assert client.said(name) == ["GRANTED", "DONE"]
        assert [line["attempt"] for line in said(child, "transfer_began")] == [1]
        assert said(child, "work_handed_over") == []
        assert client.said(refused["correlationId"]) == []

        # And the tenant that is new is served.
        new = request_for(make_product({"c.txt": b"c"}))
        await client.send(new, tenant=OTHER)
        done = await client.wait_for(new["correlationId"], "DONE", "ERROR", "DENIED")
        assert done["status"] == "DONE", done
        _, figures = await caller.get("/metrics", ANOTHER, OTHER)
        assert f'delivery_requests_total{{outcome="granted",tenant="{OTHER}"}} 1.0' in figures
        assert child.running


async def test_a_worker_that_is_told_to_reload_while_it_starts_does_so_once_it_works(
    stack: Stack, apart: dict[str, str]
) -> None:
    async with starting(stack, apart) as child:
        await logged(child, '"migration_applied"')
        hang_up(child)
        await logged(child, '"reloaded"')
        events = child.log.read_text()
        assert events.index('"worker_ready"') < events.index('"reloaded"')
        await ends_well(child)


async def test_a_process_that_has_not_begun_to_start_is_not_ended_by_a_signal(
    stack: Stack, apart: dict[str, str]
) -> None:
    """Its imports take a second, before anything of it can handle one."""
    async with starting(stack, apart) as child:
        async with asyncio.timeout(60):
            while not _blocks_hang_up(child):
                await asyncio.sleep(0)
        hang_up(child)
        await logged(child, '"worker_ready"')
        await logged(child, '"reloaded"')
        await ends_well(child)


def _blocks_hang_up(child: Child) -> bool:
    programs = psutil.Process(child.process.pid).children()
    if not programs:
        return False
    status = Path(f"/proc/{programs[0].pid}/status").read_text()
    (blocked,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")]
    return bool(int(blocked, 16) & 1 << (signal.SIGHUP - 1))
