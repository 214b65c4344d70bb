"""How RabbitMQ is reached: what every connection to it is made with."""

from __future__ import annotations

from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

from aio_pika.connection import make_url
from yarl import URL

from app.settings import Settings
from app.tls import TlsFiles, context_of, explain, explain_cut, is_cut

AMQP_FILES = TlsFiles(setting="DELIVERY_AMQP")  # none; what words need


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What aio-pika is told."""

    url: URL = field(repr=False)  # with user and password
    context: SSLContext | None = None  # None: what the URL says
    files: TlsFiles = AMQP_FILES

    @property
    def place(self) -> str:
        """Where that is, fit to be shown."""
        port = self.url.port or (5671 if self.url.scheme == "amqps" else 5672)
        return f"{self.url.host}:{port}, virtual host {self.url.path.removeprefix('/') or '/'}"

    @property
    def arguments(self) -> dict[str, Any]:
        """What `aio_pika.connect` and its connections take."""
        return {"url": self.url, "ssl_context": self.context}

    def explain(self, error: BaseException) -> str:
        """Return what went wrong, in words."""
        told = explain(error, self.files)
        if told is not None:
            return told
        if is_cut(error) and self.url.scheme == "amqps":
            return explain_cut(error, self.files)
        return f"{type(error).__name__}: {error}"


def line_to(url: str) -> Line:
    """Return how the RabbitMQ of a URL is reached."""
    return Line(url=make_url(url))


def line_of(settings: Settings) -> Line:
    """Return how RabbitMQ is reached. Raises ConfigurationError when a file can't be used."""
    url = make_url(settings.amqp_url.get_secret_value())
    password = settings.amqp_password.get_secret_value()
    if password:
        url = url.with_password(password)
    files = TlsFiles(
        setting="DELIVERY_AMQP",
        ca=settings.amqp_ca,
        certificate=settings.amqp_certificate,
        key=settings.amqp_key,
    )
    return Line(url=url, context=context_of(files) if files else None, files=files)
