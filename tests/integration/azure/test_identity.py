"""This service signs in as itself: with a token of a managed identity, where it may.

What gives tokens on a machine of Azure's is played on loopback, where azure-identity lets it be
(`AZURE_POD_IDENTITY_AUTHORITY_HOST`); Azurite looks what a token is for, and not who has signed it.
The account's own host is reached through a proxy of the environment.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jwt
import pytest
from aiohttp import web

from app.delivery.marks import marks_of
from app.errors import TargetRefusedError, TargetUnavailableError
from compose.embedded.azurite import Azurite
from compose.embedded.server_tls import ServerTls
from sinks.pipeline.parts import Part
from sinks.stores.azure.managed import AzureStore, open_store
from sinks.stores.azure.target import AzureTarget
from tests.builders import make_delivery
from tests.certificates import Authority
from tests.integration.azure import made_container, running_azurite, skipped_without
from tests.servers import serving
from tests.tunnels import Tunnels, tunnels_to

pytestmark = skipped_without

HOST = "rsdelivery.blob.core.windows.net"  # of the account that Azurite has
ID = "01234567-89ab-cdef-0123-456789abcdef"
DELIVERY = make_delivery()
MARKS = marks_of(DELIVERY)
BLOBS = "https://storage.azure.com"


@dataclass
class Metadata:
    """The service that a machine of Azure's has its tokens from."""

    audience: str = BLOBS  # of the tokens that it gives
    assigned: bool = True  # whether the machine has the identity
    asked: list[Mapping[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["Metadata"] == "true"
        self.asked.append(dict(request.query))
        if not self.assigned:
            return web.json_response({"error": "invalid_request"}, status=400)
        now = int(time.time())
        claims = {"aud": self.audience, "iss": f"https://sts.windows.net/{ID}/"}
        claims |= {"nbf": now - 60, "iat": now - 60, "exp": now + 3600}  # type: ignore[dict-item]
        token = jwt.encode(claims, "s" * 32, algorithm="HS256")
        told = {"access_token": token, "expires_in": "3600", "expires_on": str(now + 3600)}
        return web.json_response(told | {"resource": BLOBS, "token_type": "Bearer"})


@pytest.fixture
async def metadata(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Metadata]:
    """What gives tokens here, and the only thing that does."""
    for name in ("CLIENT_ID", "CLIENT_SECRET", "TENANT_ID", "FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(f"AZURE_{name}", raising=False)
    for name in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    played = Metadata()
    async with serving(played.answer) as port:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{port}")
        yield played


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
async def server(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Azurite]:
    """One account for all, which takes bearer tokens."""
    certificate, key = authority.issue("azurite", "localhost", HOST)
    tls = ServerTls(
        ca=authority.file,
        certificate=certificate,
        key=key,
        client_certificate=certificate,
        client_key=key,
    )
    folder = tmp_path_factory.mktemp("azure")
    async with running_azurite(folder, tls=tls) as running:
        yield running


@pytest.fixture
async def own(server: Azurite, authority: Authority) -> AsyncIterator[AzureTarget]:
    """A container of the test's own, at the account's own host, with no secret."""
    async with made_container(server, ca=authority.file) as made:
        yield replace(made, endpoint=f"https://{HOST}", key=None, identity="default")


@pytest.fixture
async def tunnels(
    server: Azurite, own: AzureTarget, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Tunnels]:
    """The way to that host; what was asked for by `own` did not go through it."""
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    async with tunnels_to(port, monkeypatch) as opened:
        yield opened


@pytest.fixture
async def store(
    own: AzureTarget, tunnels: Tunnels, authority: Authority, metadata: Metadata
) -> AsyncIterator[AzureStore]:
    """The real store, of a service that may sign in there for the delivery's tenant."""
    place = f"{DELIVERY.tenant}={HOST}/{own.container}"
    async with open_store(
        ca=str(authority.file), identity_places=[place, f"{place}#{ID}"]
    ) as opened:
        yield opened


@pytest.mark.parametrize("identity", ["default", ID])
async def test_an_archive_is_put_with_the_identity_of_this_service(
    store: AzureStore, own: AzureTarget, metadata: Metadata, tunnels: Tunnels, identity: str
) -> None:
    """One token serves all requests."""
    target = replace(own, identity=identity)
    upload = await store.create_upload(target, "c/a.zip", MARKS, media_type="application/zip")
    parts = [await store.put_part(target, upload, 1, Part.of(b"content"))]
    etag = await store.complete(target, upload, parts, 7, marks=MARKS)
    found = await store.find(target, "c/a.zip")
    assert found is not None
    assert (found.size, found.etag) == (7, etag)
    named: dict[str, Any] = {} if identity == "default" else {"client_id": ID}
    assert metadata.asked == [{"api-version": "2018-02-01", "resource": BLOBS} | named]
    assert set(tunnels.asked) == {f"{HOST}:443"}
    assert all(step.ok for step in await store.probe(target))


@pytest.mark.parametrize("identity", ["default", ID])
async def test_a_machine_that_has_no_identity_is_told_what_to_do_and_nothing_is_sent(
    store: AzureStore, own: AzureTarget, metadata: Metadata, tunnels: Tunnels, identity: str
) -> None:
    metadata.assigned = False
    with pytest.raises(TargetUnavailableError, match="has no identity to look with") as raised:
        await store.look(replace(own, identity=identity))
    assert "see that one is assigned to it, or give a key or a SAS" in str(raised.value)
    assert tunnels.asked == []
    metadata.assigned = True  # once it is, the next call goes through
    await store.look(replace(own, identity=identity))


async def test_an_identity_that_azure_does_not_take_is_told_as_one(
    store: AzureStore, own: AzureTarget, metadata: Metadata
) -> None:
    metadata.audience = "https://vault.example"
    with pytest.raises(TargetRefusedError, match="correct the identity") as raised:
        await store.look(own)
    shown = f"{raised.value!r} {raised.value.__cause__!r}"
    assert "Bearer" not in shown
