"""Certificates that are renewed while a process runs: the server's, and those of connections."""

from __future__ import annotations

import asyncio
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prometheus_client import REGISTRY

from app.errors import ConfigurationError
from app.network import tls
from app.network.tls import TlsFiles, context_of
from app.run.doctor import check_certificate
from app.run.reloads import Reloads
from app.run.renewals import renew_site
from app.settings import Settings
from web.certificate import ServerCertificate
from web.guard.gate import Gate


class Files:
    """A certificate for localhost and its key, in files, which are replaced."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.renew()

    def renew(self, *, days: int = 30, chain: bool = True, key: bool = True) -> x509.Certificate:
        """Put another pair there, or half of it."""
        made = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        # Of its own, as it signs itself: it is looked for by its name.
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, str(serial))])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(made.public_key())
            .serial_number(serial)
            .not_valid_before(now - timedelta(days=90))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(made, hashes.SHA256())
        )
        if chain:
            self.chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        if key:
            self.key.write_bytes(
                made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            )
        return certificate


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "server")


def shown(
    server: ssl.SSLContext, client: ssl.SSLContext | None = None
) -> tuple[x509.Certificate, bytes | None]:
    """Shake hands in memory; return what the server has shown, and what the client has."""
    if client is None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(back, there, server_hostname="localhost"),
        server.wrap_bio(there, back, server_side=True),
    )
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    by_server = ends[0].getpeercert(binary_form=True)
    assert by_server is not None
    return x509.load_der_x509_certificate(by_server), ends[1].getpeercert(binary_form=True)


def test_new_connections_are_shown_the_certificate_that_was_read_last(files: Files) -> None:
    first = files.renew(days=10)
    certificate = ServerCertificate(certificate=str(files.chain), key=str(files.key))
    listening = certificate.context
    assert shown(listening)[0] == first
    assert not certificate.read_again()  # it is the same
    second = files.renew(days=20)
    assert shown(listening)[0] == first  # until it is told to
    assert certificate.read_again()
    assert shown(listening)[0] == second
    assert certificate.context is listening
    assert certificate.expires == second.not_valid_after_utc
    told = REGISTRY.get_sample_value(
        "delivery_web_certificate_expires_seconds", {"file": str(files.chain)}
    )
    assert told == second.not_valid_after_utc.timestamp()


@pytest.mark.parametrize(
    "changed",
    [{"chain": False}, {"key": False}, {"days": -1}],
    ids=["the key of another", "the certificate of another", "one that has expired"],
)
def test_a_certificate_that_can_not_be_used_leaves_the_one_before(
    files: Files, changed: dict[str, bool]
) -> None:
    certificate = ServerCertificate(certificate=str(files.chain), key=str(files.key))
    first, _ = shown(certificate.context)
    files.renew(**changed)
    with pytest.raises(ConfigurationError, match="DELIVERY_WEB_TLS_CERTIFICATE and DELIVERY_WEB"):
        certificate.read_again()
    assert shown(certificate.context)[0] == first
    assert certificate.expires == first.not_valid_after_utc
    last = files.renew()
    assert certificate.read_again()
    assert shown(certificate.context)[0] == last


def test_a_file_that_is_gone_leaves_the_certificate_before(files: Files) -> None:
    certificate = ServerCertificate(certificate=str(files.chain), key=str(files.key))
    first, _ = shown(certificate.context)
    files.chain.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        certificate.read_again()
    assert shown(certificate.context)[0] == first


@pytest.mark.parametrize(
    ("days", "ok", "told"),
    [
        (30, True, "good until"),
        (13, False, "expires in 12 days"),
        (-1, False, "has expired"),
    ],
)
def test_doctor_tells_how_long_the_certificate_is_good(
    files: Files, days: int, ok: bool, told: str
) -> None:
    files.renew(days=days)
    settings = Settings(web_tls_certificate=str(files.chain), web_tls_key=str(files.key))
    (finding,) = check_certificate(settings, datetime.now(UTC))
    assert (finding.part, finding.ok) == ("web", ok)
    assert finding.message.startswith(told)
    files.key.write_text("nothing of use")
    (finding,) = check_certificate(settings, datetime.now(UTC))
    assert "DELIVERY_WEB_TLS_KEY" in finding.message
    assert list(check_certificate(Settings(), datetime.now(UTC))) == []


@pytest.fixture
def others(tmp_path: Path) -> Files:
    """What a neighbour has."""
    return Files(tmp_path / "neighbour")


def neighbour(others: Files, clients: Files) -> ssl.SSLContext:
    """Return how a server speaks TLS that wants a certificate of ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(others.chain, others.key)
    context.load_verify_locations(clients.chain)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_connections_to_others_are_made_with_what_was_read_last(
    files: Files, others: Files
) -> None:
    line = TlsFiles(
        setting="DELIVERY_TRIED",
        ca=str(others.chain),
        certificate=str(files.chain),
        key=str(files.key),
    )
    context, strange = context_of(line), context_of(TlsFiles(setting="DELIVERY_STRANGE"))
    trusted = len(strange.get_ca_certs())
    first, ours = shown(neighbour(others, files), context)
    mine = files.renew()
    theirs = others.renew()
    with pytest.raises(ssl.SSLCertVerificationError):
        shown(neighbour(others, files), context)
    asyncio.run(tls.read_again("DELIVERY_TRIED"))
    after, ours_after = shown(neighbour(others, files), context)
    assert (after, ours_after) == (theirs, mine.public_bytes(Encoding.DER))
    assert (first, ours) != (after, ours_after)
    assert len(strange.get_ca_certs()) == trusted


@pytest.mark.parametrize("lost", ["ca", "key"])
def test_connections_are_made_as_before_where_a_file_can_not_be_used(
    files: Files, others: Files, lost: str
) -> None:
    line = TlsFiles(
        setting=f"DELIVERY_NO_{lost.upper()}",
        ca=str(others.chain),
        certificate=str(files.chain),
        key=str(files.key),
    )
    context = context_of(line)
    server = neighbour(others, files)
    before = shown(server, context)
    files.renew(key=lost != "key")
    if lost == "ca":
        others.chain.write_text("nothing of use")
    with pytest.raises(ConfigurationError, match=f"_{lost.upper()}"):
        asyncio.run(tls.read_again(f"DELIVERY_NO_{lost.upper()}"))
    assert shown(server, context) == before


class Open:
    """A gate that takes any keys."""

    def check_with(self, *_: object) -> None:
        """Take keys."""

    def scraped_with(self, _: str) -> bool:
        """Take a token."""
        return False


async def test_a_disk_that_does_not_answer_holds_up_no_loop(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with the certificate of the server, nor with those of connections."""
    line = TlsFiles(setting="DELIVERY_SILENT", certificate=str(files.chain), key=str(files.key))
    context = context_of(line)
    certificate = ServerCertificate(certificate=str(files.chain), key=str(files.key))
    asking: SimpleQueue[threading.Event] = SimpleQueue()
    loop_went_on = []
    load = ssl.SSLContext.load_cert_chain

    def silent(self: ssl.SSLContext, *arguments: Any, **more: Any) -> None:
        if self is not context:  # what is in use is changed between two handshakes, out of memory
            answer = threading.Event()
            asking.put(answer)
            loop_went_on.append(answer.wait(60))
        load(self, *arguments, **more)

    async def read(_: Settings) -> None:
        await tls.read_again("DELIVERY_SILENT")

    reloads = Reloads(Settings())
    renew_site(reloads, cast("Gate", Open()), certificate)
    reloads.add("files of DELIVERY_SILENT", read)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", silent)
    reloading = asyncio.create_task(reloads.reload())
    while not reloading.done():
        await asyncio.sleep(0)
        while not asking.empty():
            asking.get().set()
    assert reloads.failed() == {}
    assert loop_went_on == [True] * 3
