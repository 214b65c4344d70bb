"""Who calls a command, for the audit trail and for tokens."""

from __future__ import annotations

import getpass
import os

from app.audit import Actor

ROLE = "COMMAND_LINE"  # beside the roles of tokens, and AMQP


def current_user() -> str:
    """Return the user's name; `uid-1234` where the system has none for them (in containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid-{os.getuid()}"


def caller(tenant: str) -> Actor:
    """Return who calls, about what of a tenant."""
    return Actor(name=current_user(), role=ROLE, tenant=tenant)
