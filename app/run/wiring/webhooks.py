"""Webhooks of tenants: what sends to them."""

from __future__ import annotations

from app.settings import Settings
from app.tenants.webhooks import callbacks_of
from streams.webhooks.sender import HttpWebhooks


def webhook_sender(settings: Settings) -> HttpWebhooks:
    """Return what sends events. Raises ConfigurationError when the file of a CA can't be used."""
    return HttpWebhooks(
        callbacks_of(settings), timeout=settings.webhook_timeout, ca=settings.http_ca
    )
