"""Whose certificates object stores may show: public CAs' and the site's, for their own name."""

from __future__ import annotations

import ssl

from app.network.tls import TlsFiles, context_of, explain

_SETTING = "DELIVERY_S3"


def check_ca(ca: str) -> None:
    """Raise ConfigurationError unless the file holds CAs; an empty name is none."""
    if ca:
        context_of(TlsFiles(setting=_SETTING, ca=ca))


def context_for(ca: str) -> ssl.SSLContext:
    """Return what connections are opened with: it trusts public CAs, and those of the file."""
    return context_of(TlsFiles(setting=_SETTING, ca=ca), public_too=True)


def said(error: BaseException) -> str:
    """Return what went wrong with a request, in words that name no address and no secret."""
    return explain(error, TlsFiles(setting=_SETTING)) or type(error).__name__
