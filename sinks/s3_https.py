"""Whose certificates object stores may show: public CAs' and the site's, for their own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.tls import TlsFiles, context_of, explain

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiobotocore.httpsession import AIOHTTPSession

_SETTING = "DELIVERY_S3"


def check_ca(ca: str) -> None:
    """Raise ConfigurationError unless the file holds CAs; an empty name is none."""
    if ca:
        context_of(TlsFiles(setting=_SETTING, ca=ca))


def session_trusting(ca: str) -> type[AIOHTTPSession]:
    """Return the class of a client's sessions.

    `verify=ca` would trust these CAs alone, and no public store any more.
    """
    from aiobotocore.httpsession import AIOHTTPSession

    class Session(AIOHTTPSession):
        def _get_ssl_context(self) -> SSLContext:
            context: SSLContext = super()._get_ssl_context()  # type: ignore[misc] # no stubs
            # botocore leaves the name to urllib3, which aiobotocore does not use: any server with
            # a certificate of any trusted CA could take the store's place.
            context.check_hostname = True
            if ca:
                context.load_verify_locations(cafile=ca)
            return context

    return Session


def said(error: BaseException) -> str:
    """Return what went wrong with a request, in words that name no address and no secret."""
    return explain(error, TlsFiles(setting=_SETTING)) or type(error).__name__
