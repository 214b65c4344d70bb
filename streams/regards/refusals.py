"""What an answer that is no use means: it passes, or it stays (contract, section 2).

rs-order itself refuses for good with 403, 404, 410 and 422. What passes: a key that is being
changed (401), a gateway's login or maintenance page (a redirect, 407, 503), 423, 425, quotas
(429).
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from app.errors import (
    DeliveryError,
    SourceCredentialsError,
    SourceGoneError,
    SourceRefusedError,
    SourceUnavailableError,
    WrongFileError,
)

_MAX_WAIT = 3600.0  # seconds that a Retry-After may ask for
_MAX_DETAIL = 500  # bytes of a body

_OF_CREDENTIALS = (401, 407)  # this service's own, not a user's
_PASSES = {401, 407, 408, 423, 425, 429}
_HINTS = {
    401: "is its key being changed? check DELIVERY_RS_ORDER_TOKEN_SECRET",
    407: "a proxy before it wants credentials; check {address}",
    410: "it has expired from the cache",
    429: "the user's quota, or a rate, is used up",
}
_REDIRECTED = "is there a gateway's login or maintenance page before it? check {address}"


def stays(status: int) -> bool:
    """Whether a status refuses for good."""
    return 400 <= status < 500 and status not in _PASSES


async def detail_of(response: aiohttp.ClientResponse) -> str:
    """Return what the body of a refusal says, its beginning; nothing where that is a page."""
    if 300 <= response.status < 400:
        return ""
    detail = (await response.content.read(_MAX_DETAIL)).decode("utf-8", "replace").strip()
    return "" if response.content_type == "text/html" else detail


def refusal(
    who: str, response: aiohttp.ClientResponse, what: str, detail: str, *, check_address: str
) -> DeliveryError:
    """Return the error that an answer without success is.

    SourceUnavailableError for what passes (SourceCredentialsError where this service's credentials
    are at fault), SourceRefusedError for what stays (for a 410
    SourceGoneError), and WrongFileError where a range was asked for that the file doesn't have any
    more. `detail` is what its body says, `check_address` the setting that leads there.
    """
    status = response.status
    sentence = f"{who} answered {status} for {what}"
    hint = _REDIRECTED if 300 <= status < 400 else _HINTS.get(status)
    if detail:
        sentence += f": {detail}"
    if hint:
        sentence += f" ({hint.format(address=check_address)})"
    if status == 416:
        return WrongFileError(f"{what} is shorter than when it was first read: {sentence}")
    if status == 410:
        return SourceGoneError(sentence)
    if stays(status):
        return SourceRefusedError(sentence)
    passes = SourceCredentialsError if status in _OF_CREDENTIALS else SourceUnavailableError
    return passes(sentence, retry_after=seconds_of(response.headers.get("Retry-After")))


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
