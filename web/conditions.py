"""`If-Match`: a change is made only of what the caller has seen."""

from __future__ import annotations

from aiohttp import web


def versions_of(request: web.Request) -> list[str] | None:
    """Return the ETags that If-Match names; None if any will do.

    A header that can't be read names none: who sent it did not want just any. Weak ones are left
    out, as they promise no more than likeness.
    """
    try:
        tags = request.if_match
    except ValueError:
        tags = ()
    if tags is None or any(tag.value == "*" for tag in tags):
        return None
    return [tag.value for tag in tags if not tag.is_weak]
