"""Who calls a command, for the audit trail and for tokens."""

from __future__ import annotations

import getpass
import os


def current_user() -> str:
    """Return the user's name; `uid-1234` where the system has none for them (in containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid-{os.getuid()}"
