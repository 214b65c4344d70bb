"""Why a caller is not let in."""

from __future__ import annotations

EXPIRED = "the token has expired; sign in again"


class NotSignedInError(Exception):
    """There is no token, or none to believe. Says why, never what the token holds."""
