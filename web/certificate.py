"""The certificate that the HTTP server shows, which is renewed while connections are open."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509 import Certificate, load_pem_x509_certificates

from app.errors import ConfigurationError
from app.telemetry.metrics import WEB_CERTIFICATE_EXPIRES


class ServerCertificate:
    """A chain and its key, in files. Raises ConfigurationError where they can't be used.

    `context` is what the server listens with. It stays; each handshake is given what was read last.
    """

    def __init__(self, *, certificate: str, key: str) -> None:
        self._files = certificate, key
        self._shown, self._certificate = _read(certificate, key)
        self.context = self._shown
        self.context.sni_callback = self._show
        self._tell()

    @property
    def expires(self) -> datetime:
        """Until when it is good."""
        return self._certificate.not_valid_after_utc

    def read_again(self) -> bool:
        """Read the files again, for new connections; return whether it is another certificate.

        Raises ConfigurationError; then the one before is shown as it was.
        """
        shown, certificate = _read(*self._files)
        if certificate.not_valid_after_utc < datetime.now(UTC):
            expired = f"it has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
            raise _unusable(ValueError(expired))
        before, self._certificate, self._shown = self._certificate, certificate, shown
        self._tell()
        return certificate != before

    def _tell(self) -> None:
        WEB_CERTIFICATE_EXPIRES.labels(self._files[0]).set(self.expires.timestamp())

    def _show(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Give a handshake what was read last: OpenSSL calls it also where no host is named."""
        if self._shown is not self.context:
            connection.context = self._shown


def certificate_of(*, certificate: str, key: str) -> ServerCertificate | None:
    """Return what TLS needs; None without a certificate. Raises ConfigurationError."""
    if not certificate and not key:
        return None
    return ServerCertificate(certificate=certificate, key=key)


def _read(certificate: str, key: str) -> tuple[ssl.SSLContext, Certificate]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # An empty passphrase: no operator is there to be asked for one.
        context.load_cert_chain(certificate, key or None, password="")
        return context, load_pem_x509_certificates(Path(certificate).read_bytes())[0]
    except (OSError, ValueError) as error:
        raise _unusable(error) from None


def _unusable(error: Exception) -> ConfigurationError:
    return ConfigurationError(
        "DELIVERY_WEB_TLS_CERTIFICATE and DELIVERY_WEB_TLS_KEY must be the files of a certificate "
        f"chain and its key in PEM, without a passphrase ({error})"
    )
