"""`delivery verify`: whether what was delivered is whole. It is a command of the client's."""

from __future__ import annotations

from rs_delivery_client.cli import verify

__all__ = ["verify"]
