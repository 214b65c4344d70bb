"""This service signs in as itself: with a token of a managed identity, where it may.

What gives tokens on a machine of Azure's is played on loopback, where azure-identity lets it be
(`AZURE_POD_IDENTITY_AUTHORITY_HOST`); Azurite looks what a token is for, and not who has signed it.
The account's own host is reached through a proxy of the environment.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.storage.blob import UserDelegationKey
from azure.storage.blob.aio import BlobServiceClient

from app.delivery.marks import marks_of
from app.delivery.object_store import LinkAsked
from app.errors import TargetForbiddenError, TargetRefusedError, TargetUnavailableError
from compose.embedded.azurite import Azurite
from compose.embedded.server_tls import ServerTls
from sinks.pipeline.parts import Part
from sinks.stores.azure.calls import AzureCalls
from sinks.stores.azure.links import link
from sinks.stores.azure.managed import AzureStore, open_store
from sinks.stores.azure.target import AzureTarget
from tests.builders import at_any_time, make_delivery
from tests.certificates import Authority
from tests.contract.object_store import make_asked
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
        told = {"access_token": self.token(), "expires_in": "3600", "expires_on": str(now + 3600)}
        return web.json_response(told | {"resource": BLOBS, "token_type": "Bearer"})

    def token(self) -> str:
        """Return one that is good for an hour."""
        now = int(time.time())
        claims = {"aud": self.audience, "iss": f"https://sts.windows.net/{ID}/"}
        claims |= {"oid": ID, "tid": ID}
        claims |= {"nbf": now - 60, "iat": now - 60, "exp": now + 3600}  # type: ignore[dict-item]
        return jwt.encode(claims, "s" * 32, algorithm="HS256")


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


class AskedBeside(AzureCalls):
    """Has the key that signs by another client.

    Azurite gives one without an id of the request, by which this service knows Azure.
    """

    def __init__(self, own: AzureCalls, server: Azurite, authority: Authority) -> None:
        super().__init__(own.clients)
        self._server = server
        self._ca = str(authority.file)

    async def delegation_key(self, target: AzureTarget, asked: LinkAsked) -> UserDelegationKey:
        class Token:
            async def get_token(self, *_scopes: str, **_: Any) -> AccessToken:
                return AccessToken(Metadata().token(), int(time.time()) + 3600)

            async def close(self) -> None: ...

            async def __aenter__(self) -> Self:
                return self

            async def __aexit__(self, *_: object) -> None: ...

        given: Any = Token()
        async with BlobServiceClient(
            self._server.url, credential=given, connection_verify=self._ca
        ) as client:
            return await client.get_user_delegation_key(asked.at, asked.until)


async def test_a_link_is_signed_by_a_key_that_the_identity_is_given(
    store: AzureStore, own: AzureTarget, server: Azurite, authority: Authority
) -> None:
    """No server here looks at it: Azurite signs by an older version than the library does."""
    await store.put_object(
        own, "c/a.zip", Part.of(b"content"), MARKS, media_type="application/zip", may=at_any_time
    )
    calls = AskedBeside(store.calls, server, authority)
    url = await link(calls, own, "c/a.zip", make_asked(marks=MARKS))
    assert url.startswith(f"https://{HOST}/{own.container}/c/a.zip?")
    told = dict(parse_qsl(urlsplit(url).query, strict_parsing=True))
    assert (told["sp"], told["sr"], told["spr"]) == ("r", "b", "https")
    assert (told["skoid"], told["sktid"]) == (ID, ID)
    assert told["se"] == told["ske"]
    assert told["sig"]


async def test_a_key_that_is_given_by_what_is_not_azure_signs_nothing(
    store: AzureStore, own: AzureTarget, metadata: Metadata
) -> None:
    """It is asked for with the identity; here, what answers does not tell that it is Azure."""
    with pytest.raises(TargetUnavailableError, match="what answers \\(200\\)"):
        await store.link(own, "c/a.zip", make_asked(marks=MARKS))
    assert len(metadata.asked) == 1


async def test_no_link_is_signed_with_the_identity_for_another_tenant(
    store: AzureStore, own: AzureTarget
) -> None:
    other = marks_of(make_delivery(tenant="another"))
    with pytest.raises(TargetForbiddenError):
        await store.link(own, "c/a.zip", make_asked(marks=other))
