"""`delivery download`: fetch what was delivered. It is a command of the client's."""

from __future__ import annotations

from rs_delivery_client.cli import download

__all__ = ["download"]
