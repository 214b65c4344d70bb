"""What `delivery doctor` finds."""

from __future__ import annotations

from app.views.view import View


class Finding(View):
    """The outcome of one check. Checks leave nothing changed."""

    part: str  # "rabbitmq", "postgresql", …
    check: str
    ok: bool
    message: str  # what was found
    advice: str  # what to do, where it is not ok; else empty


def good(part: str, check: str, message: str) -> Finding:
    """Return that all is well."""
    return Finding(part=part, check=check, ok=True, message=message, advice="")


def bad(part: str, check: str, message: str, advice: str) -> Finding:
    """Return a problem, and what to do about it."""
    return Finding(part=part, check=check, ok=False, message=message, advice=advice)
