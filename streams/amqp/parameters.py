"""How RabbitMQ is reached: what every connection to it is made with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

from aio_pika.connection import make_url
from yarl import URL

from app.network.tls import TlsFiles, context_of, explain, explain_cut, is_cut
from app.settings import Settings

_TRY_TIMEOUT = 2.0  # seconds
AMQP_FILES = TlsFiles(setting="DELIVERY_AMQP")  # none; what words need


@dataclass(frozen=True, kw_only=True, slots=True)
class AmqpParameters:
    """What aio-pika is told."""

    url: URL = field(repr=False)  # with user and password
    context: SSLContext | None = None  # None: what the URL says
    files: TlsFiles = AMQP_FILES

    @property
    def place(self) -> str:
        """Where that is, fit to be shown."""
        return f"{self.url.host}:{self.port}, virtual host {self.url.path.removeprefix('/') or '/'}"

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

    async def trouble(self) -> str | None:
        """Return why no connection comes up, in words; None when none is seen.

        aio-pika connects again by itself, and keeps to itself what it meets.
        """
        if self.context is None and self.url.query:
            return None  # files may be named there
        try:
            async with asyncio.timeout(_TRY_TIMEOUT):
                reader, writer = await asyncio.open_connection(
                    self.url.host, self.port, ssl=self._tls
                )
                try:
                    # RabbitMQ waits for us to begin, unless it does not like our certificate.
                    await reader.read(1)
                finally:
                    writer.close()
        except TimeoutError:
            return None
        except (OSError, EOFError) as error:
            return self.explain(error)
        return None

    @property
    def _tls(self) -> SSLContext | bool | None:
        if self.url.scheme != "amqps":
            return None
        return self.context or True

    @property
    def port(self) -> int:
        """Where RabbitMQ listens."""
        return self.url.port or (5671 if self.url.scheme == "amqps" else 5672)


def parameters_to(url: str) -> AmqpParameters:
    """Return how the RabbitMQ of a URL is reached."""
    return AmqpParameters(url=make_url(url))


def parameters_of(settings: Settings) -> AmqpParameters:
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
    return AmqpParameters(url=url, context=context_of(files) if files else None, files=files)
