"""How PostgreSQL is reached: what every connection to it is made with."""

from __future__ import annotations

from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

from app.network.tls import TlsFiles, context_of, explain, explain_cut, is_cut, stays
from app.settings import Settings

DATABASE_FILES = TlsFiles(setting="DELIVERY_DATABASE")  # none; what words need


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresParameters:
    """What asyncpg is given."""

    url: str = field(repr=False)  # with user and password
    password: str | None = field(default=None, repr=False)  # in place of the URL's
    ssl: SSLContext | str | None = None  # None: what URL and environment say
    files: TlsFiles = DATABASE_FILES

    @property
    def arguments(self) -> dict[str, Any]:
        """What `asyncpg.connect` and `create_pool` take."""
        return {"dsn": self.url, "password": self.password, "ssl": self.ssl}

    @property
    def place(self) -> str:
        """Where that is, fit to be shown."""
        parts = urlsplit(self.url)
        hosts = parts.netloc.rpartition("@")[2] or "a socket of this machine"
        return f"{hosts}, database {parts.path.lstrip('/') or 'of the user'}"

    def explain(self, error: BaseException) -> str:
        """Return what went wrong, in words."""
        reason = explain(error, self.files)
        if reason is not None:
            return reason
        if self.finds_no_tls(error):
            return (
                "the server has no TLS, and DELIVERY_DATABASE_SSLMODE or a certificate asks for "
                "it; turn on `ssl` there, or leave them out here: all can be read along then"
            )
        cut = is_cut(error) or isinstance(error, asyncpg.ConnectionDoesNotExistError)
        if cut and isinstance(self.ssl, SSLContext):
            return explain_cut(error, self.files)
        return f"{type(error).__name__}: {error}"

    @staticmethod
    def finds_no_tls(error: BaseException) -> bool:
        """Whether the server answered that it has no TLS: asyncpg has no other word for it."""
        return isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)

    def stays(self, error: BaseException) -> bool:
        """Whether trying again at once gives the same."""
        return stays(error) or self.finds_no_tls(error)


def parameters_of(settings: Settings) -> PostgresParameters:
    """Return how PostgreSQL is reached. Raises ConfigurationError when a file can't be used."""
    url = settings.database_url.get_secret_value()
    files = TlsFiles(
        setting="DELIVERY_DATABASE",
        ca=settings.database_ca,
        certificate=settings.database_certificate,
        key=settings.database_key,
    )
    return PostgresParameters(
        url=url,
        password=settings.database_password.get_secret_value() or None,
        ssl=_ssl(settings.database_sslmode, url, files),
        files=files,
    )


def _ssl(mode: str, url: str, files: TlsFiles) -> SSLContext | str | None:
    if not mode and not files:
        return None
    if mode in ("disable", "prefer"):
        return mode
    asked = parse_qs(urlsplit(url).query).get("sslmode", ["verify-full"])[-1]
    mode = mode or asked
    context = context_of(
        files,
        # As in libpq: where a CA is given, `require` checks the certificate against it.
        verify=mode != "require" or bool(files.ca),
        host_names=mode not in ("require", "verify-ca"),
    )
    context.set_alpn_protocols(["postgresql"])  # which `sslnegotiation=direct` asks for
    return context
