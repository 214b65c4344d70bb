"""What an answer that is no use means: it passes, or it stays (contract, section 2).

rs-order itself refuses for good with 403, 404, 410 and 422. What passes: a key that is being
changed (401), a gateway's login or maintenance page (a redirect, 407, 503), 423, 425, quotas
(429).
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from app.errors import SourceRefusedError, SourceUnavailableError, WrongFileError

_MAX_WAIT = 3600.0  # seconds that a Retry-After may ask for
_MAX_DETAIL = 500  # bytes of a body

_PASSES = {401, 407, 408, 423, 425, 429}
_HINTS = {
    401: "is its key being changed? check DELIVERY_RS_ORDER_TOKEN_SECRET",
    407: "a proxy before it wants credentials; check {address}",
    429: "the user's quota, or a rate, is used up",
}
_REDIRECTED = "is there a gateway's login or maintenance page before it? check {address}"


async def check(
    who: str, response: aiohttp.ClientResponse, what: str, *, check_address: str
) -> None:
    """Raise unless the answer is one of success.

    Raises SourceUnavailableError for what passes, SourceRefusedError for what stays, and
    WrongFileError where a range is asked for that the file doesn't have any more.
    `check_address` is the setting that leads there.
    """
    status = response.status
    if 200 <= status < 300:
        return
    sentence = f"{who} answered {status} for {what}"
    if 300 <= status < 400:
        hint: str | None = _REDIRECTED
    else:
        hint = _HINTS.get(status)
        detail = (await response.content.read(_MAX_DETAIL)).decode("utf-8", "replace").strip()
        if detail and response.content_type != "text/html":
            sentence += f": {detail}"
    if hint:
        sentence += f" ({hint.format(address=check_address)})"
    if status == 416:
        raise WrongFileError(f"{what} is shorter than when it was first read: {sentence}")
    if status in _PASSES or status >= 500 or status < 400:
        raise SourceUnavailableError(
            sentence, retry_after=seconds_of(response.headers.get("Retry-After"))
        )
    raise SourceRefusedError(sentence)


def seen_as(response: aiohttp.ClientResponse) -> str:
    """Say what an answer looks like."""
    length = response.content_length
    return f"it is {response.status}, {response.content_type}" + (
        "" if length is None else f", {length} bytes"
    )


def seconds_of(retry_after: str | None) -> float | None:
    """Read a `Retry-After`: seconds, or a date. An hour at most; None where it says nothing."""
    if not retry_after:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _MAX_WAIT)
