"""What goes out and what comes in as JSON, and what each error is in HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import hdrs, web
from pydantic import BaseModel

from app.audit import Actor
from app.errors import (
    InvalidRequestError,
    NotAcceptedError,
    NotPossibleError,
    RetryableError,
    SettingChangedError,
    SettingError,
    UnknownDeadLetterError,
    UnknownDeliveryError,
    UnknownSettingError,
)
from app.telemetry.logs import get_logger
from app.views.view import dumped
from web.endpoint import ACTOR, OPERATORS, Handler
from web.guard.access import CAUSE, route_of
from web.guard.auth import NotSignedInError
from web.schemas import ErrorView

log = get_logger(__name__)

BODY_TIMEOUT = web.AppKey("body_timeout", float)  # seconds for a client to send its body


def shown(
    view: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer in JSON. Fields that are None by default are left out where they are."""
    return web.json_response(dumped(view), status=status, headers=headers)


def refusal(
    status: int,
    message: str,
    messages: Sequence[str] = (),
    *,
    cause: str | None = None,
    **headers: str,
) -> web.Response:
    """Return an error: `message`, and `messages` when there are several.

    The log has the message, too, or what is given as its `cause`.
    """
    answer = shown(
        ErrorView(message=message, messages=list(messages) if len(messages) > 1 else None),
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    answer[CAUSE] = cause or "; ".join(messages) or message
    return answer


_STATUSES: dict[type[Exception], int] = {
    UnknownSettingError: 404,
    SettingChangedError: 412,
    SettingError: 422,
    InvalidRequestError: 422,
    UnknownDeliveryError: 404,
    UnknownDeadLetterError: 404,
    NotPossibleError: 409,
    RetryableError: 503,
}


# What an error of a dependency says may name addresses, tenants and drivers.
_AWAY = (
    "something that this needs is away for now; come again in a moment (the log of the service has "
    "the cause, beside the X-Request-ID of this answer)"
)


def refused(error: Exception, actor: Actor | None = None) -> web.Response | None:
    """Return the answer that an error means to who asks; None if it was not foreseen."""
    if isinstance(error, NotSignedInError | NotAcceptedError):
        return refusal(401, str(error), WWW_Authenticate="Bearer")
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            if status != 503:
                return refusal(status, str(error), getattr(error, "reasons", ()))
            told = actor is not None and actor.role in OPERATORS
            return refusal(503, str(error) if told else _AWAY, cause=str(error), Retry_After="5")
    return None


@web.middleware
async def in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in JSON, without a traceback."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {k: v for k, v in error.headers.items() if k in (hdrs.ALLOW, hdrs.RETRY_AFTER)}
        answer = refusal(error.status, _words(error))
        answer.headers.update(kept)
        return answer
    except Exception as error:
        answered = refused(error, request.get(ACTOR))
        if answered is None:
            log.exception("request_failed", method=request.method, route=route_of(request))
            answered = refusal(500, "an unforeseen fault; the log of the service has the cause")
        return answered


def _words(error: web.HTTPException) -> str:
    match error.status:
        case 404:
            return "there is nothing at this path; /openapi.json lists what there is"
        case 405:
            return f"this path takes {error.headers.get(hdrs.ALLOW, 'other methods')}"
        case 413:
            return "the body is too large"
    return error.text or error.reason


async def body_of(request: web.Request) -> bytes:
    """Return the body. Raises HTTPException when it is too large or takes too long."""
    try:
        async with asyncio.timeout(request.app[BODY_TIMEOUT]):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the body did not come in time") from None


async def json_of(request: web.Request) -> Any:
    """Return the decoded body. Raises HTTPException when it is no JSON."""
    if request.content_type not in ("application/json", "application/octet-stream"):
        raise web.HTTPUnsupportedMediaType(text="the body must be application/json")
    try:
        return decoded(await body_of(request))
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"the body is not JSON: {error}") from None


def decoded(content: bytes) -> Any:
    """Return JSON that is nothing but JSON. Raises ValueError in words."""
    try:
        return json.loads(content, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        # Without the text around: it may hold a secret.
        raise ValueError(f"{error.msg}, line {error.lineno} column {error.colno}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")
