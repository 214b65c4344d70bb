"""Answers of Google Cloud Storage, told from those of whatever else may answer in its place.

A gateway's 404 says nothing of an object, and must not seem to. No answer is read without end, or
unpacked.
"""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from sinks.stores.guard import EndlessAnswerError

MAX_PAGE = 4 * 1024 * 1024  # bytes; of a list: 1000 names of 1 KiB
_MAX_RESOURCE = 1024 * 1024  # bytes; metadata have 8 KiB
_MAX_ERROR = 256 * 1024  # bytes
# In answers of Google's alone.
_OWN_HEADERS = ("x-guploader-uploadid", "x-goog-generation", "x-goog-hash")


class NotGoogleError(aiohttp.ClientError):
    """An answer that Google Cloud Storage has not given: a gateway's page, likely."""


class RefusedError(Exception):
    """A request that Google Cloud Storage did not carry out. It tells its words, and no secret."""

    def __init__(self, status: int, reason: str, retry_after: float | None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason  # Google's word, or the status
        self.retry_after = retry_after  # seconds
        self.passes = False  # whether the next token may be taken, where this one was not


async def read(answer: aiohttp.ClientResponse, longest: int) -> bytes:
    """Return all bytes of an answer. Raises EndlessAnswerError."""
    if "Content-Encoding" in answer.headers:
        raise _packed(answer)
    found = bytearray()
    async for piece in answer.content.iter_any():
        found += piece
        if len(found) > longest:
            answer.close()
            raise EndlessAnswerError(f"an answer has more than {longest} bytes")
    return bytes(found)


async def check(answer: aiohttp.ClientResponse) -> None:
    """Raise RefusedError for what was not done, and NotGoogleError for what Google did not say."""
    if answer.status < 300:
        return
    if answer.status < 400:
        answer.close()
        raise NotGoogleError(
            f"what answers ({answer.status}) led elsewhere: correct the endpoint, unless it passes"
        )
    error = _error_in(await read(answer, _MAX_ERROR))
    if error is None and not any(name in answer.headers for name in _OWN_HEADERS):
        raise _not_google(answer)
    raise RefusedError(answer.status, _reason_in(error) or str(answer.status), _retry_after(answer))


async def resource(
    answer: aiohttp.ClientResponse, kind: str, longest: int = _MAX_RESOURCE
) -> dict[str, Any]:
    """Return the resource of this kind that an answer holds. Raises like `check`."""
    await check(answer)
    try:
        found = json.loads(await read(answer, longest))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise _not_google(answer)
    return found


async def done(answer: aiohttp.ClientResponse) -> None:
    """Take an answer that tells nothing but that it was done. Raises like `check`."""
    await check(answer)
    body = await read(answer, _MAX_ERROR)
    if answer.status != 204 and body.strip() not in (b"", b"null"):
        raise _not_google(answer)


async def media(answer: aiohttp.ClientResponse, size: int) -> list[bytes]:
    """Return the first bytes of an object, in pieces. Raises like `check`."""
    await check(answer)
    if not any(name in answer.headers for name in _OWN_HEADERS):
        raise _not_google(answer)
    if "Content-Encoding" in answer.headers:
        raise _packed(answer)
    found: list[bytes] = []
    async for piece in answer.content.iter_any():
        found.append(piece[:size])
        size -= len(found[-1])
        if not size:
            answer.close()
            break
    return found


def unreadable(what: str) -> NotGoogleError:
    """Return the error of what Google would have told in another way."""
    return NotGoogleError(f"{what} can't be read: see that the endpoint is Google Cloud Storage")


def _packed(answer: aiohttp.ClientResponse) -> NotGoogleError:
    answer.close()
    return NotGoogleError("an answer is packed, which was not asked for")


def _not_google(answer: aiohttp.ClientResponse) -> NotGoogleError:
    answer.close()
    return NotGoogleError(
        f"what answers ({answer.status}) is no Google Cloud Storage: correct the endpoint, unless "
        "it passes"
    )


def _error_in(body: bytes) -> dict[str, Any] | None:
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return error if isinstance(error, dict) and isinstance(error.get("code"), int) else None


def _reason_in(error: dict[str, Any] | None) -> str:
    details = (error or {}).get("errors")
    for detail in details if isinstance(details, list) else ():
        reason = detail.get("reason") if isinstance(detail, dict) else None
        if isinstance(reason, str) and reason.isalnum():
            return reason[:100]
    return ""


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and len(text) < 6 else None
