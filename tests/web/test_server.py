"""The listening server: TLS, slow clients, a port that is taken."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.errors import ConfigurationError
from app.run.wiring.tenants import ConfigurationParts
from tests.web.conftest import bearer, parts_for
from web import site as web_site
from web.certificate import ServerCertificate, certificate_of
from web.site import Site, create_site


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "chain.pem", tmp_path / "key.pem"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


async def test_the_server_speaks_tls(
    configuration: ConfigurationParts, certificate: tuple[Path, Path]
) -> None:
    chain, key = certificate
    tls = ServerCertificate(certificate=str(chain), key=str(key)).context
    application = create_site(parts_for(configuration, tls=True))
    site = Site(application, host="127.0.0.1", port=0, tls=tls)
    await site.start()
    try:
        trusting = ssl.create_default_context(cafile=str(chain))
        async with aiohttp.ClientSession(headers=bearer()) as session:
            url = f"https://127.0.0.1:{site.port}/settings"
            async with session.get(url, ssl=trusting, server_hostname="localhost") as answer:
                assert answer.status == 200
                assert "max-age" in answer.headers["Strict-Transport-Security"]
    finally:
        await site.stop()


async def test_a_client_that_never_begins_a_handshake_is_cut_off(
    configuration: ConfigurationParts, certificate: tuple[Path, Path]
) -> None:
    chain, key = certificate
    tls = ServerCertificate(certificate=str(chain), key=str(key)).context
    site = Site(
        create_site(parts_for(configuration)),
        host="127.0.0.1",
        port=0,
        tls=tls,
        handshake_timeout=0.2,
    )
    await site.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
    finally:
        await site.stop()


def test_a_certificate_that_is_none_is_told(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nonsense")
    for chain, key in (
        (str(wrong), str(certificate[1])),
        (str(certificate[0]), str(wrong)),
        ("/no/such/file", "/no/such/file"),
        ("", str(certificate[1])),
    ):
        with pytest.raises(ConfigurationError, match="DELIVERY_WEB_TLS_CERTIFICATE"):
            certificate_of(certificate=chain, key=key)
    assert certificate_of(certificate="", key="") is None


async def test_a_client_that_never_finishes_its_head_is_cut_off(
    configuration: ConfigurationParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(web_site.CONNECTION_LIMITS, "keepalive_timeout", 0.2)
    site = Site(create_site(parts_for(configuration)), host="127.0.0.1", port=0, tls=None)
    await site.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"GET /settings HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
    finally:
        await site.stop()


async def test_a_client_that_never_finishes_its_body_is_told(
    configuration: ConfigurationParts,
) -> None:
    application = create_site(parts_for(configuration, body_timeout=0.2))
    site = Site(application, host="127.0.0.1", port=0, tls=None)
    await site.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(
            b"PUT /settings/request_ttl HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\nAuthorization: "
            + bearer()["Authorization"].encode()
            + b"\r\n\r\n{"
        )
        async with asyncio.timeout(30):
            assert b" 408 " in await reader.readline()
        writer.close()
    finally:
        await site.stop()
