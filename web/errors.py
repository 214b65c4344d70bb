"""What each error is in HTTP."""

from __future__ import annotations

import math

from aiohttp import hdrs, web

from app.audit import Actor
from app.codes import Code
from app.errors import (
    DeadLetterChangedError,
    DeliveredGoneError,
    DeliveryError,
    IdentityUnavailableError,
    InvalidRequestError,
    NotAcceptedError,
    NotAllowedError,
    NotPossibleError,
    ObjectGoneError,
    OverQuotaError,
    RetryableError,
    SettingChangedError,
    SettingError,
    UnknownDeadLetterError,
    UnknownDeliveryError,
    UnknownPauseError,
    UnknownSettingError,
)
from app.telemetry.logs import get_logger
from web.answers import refusal
from web.endpoint import ACTOR, OPERATORS, READERS, Handler
from web.guard.access import route_of
from web.guard.errors import NotSignedInError

log = get_logger(__name__)

_STATUSES: dict[type[DeliveryError], int] = {
    UnknownSettingError: 404,
    SettingChangedError: 412,
    SettingError: 422,
    InvalidRequestError: 422,
    UnknownDeliveryError: 404,
    UnknownDeadLetterError: 404,
    DeadLetterChangedError: 412,
    UnknownPauseError: 404,
    NotPossibleError: 409,
    NotAllowedError: 403,
    DeliveredGoneError: 410,
    ObjectGoneError: 410,
    RetryableError: 503,
}

# Of what is refused without an error of ours.
_CODES = {404: Code.NO_SUCH_PATH, 500: Code.FAULT}

# What an error of a dependency says may name addresses, tenants and drivers.
_AWAY = (
    "something that this needs is away for now; come again in a moment (the log of the service has "
    "the cause, beside the X-Request-ID of this answer)"
)
_NO_PROVIDER = (
    "the identity provider can't be asked for now; that refuses no token and no sign-in: come "
    "again in a moment"
)


def refused(error: Exception, actor: Actor | None = None) -> web.Response | None:
    """Return the answer that an error means to who asks; None if it was not foreseen."""
    if isinstance(error, NotSignedInError | NotAcceptedError):
        return refusal(401, str(error), code=Code.NOT_SIGNED_IN, WWW_Authenticate="Bearer")
    if isinstance(error, IdentityUnavailableError):
        wait = str(math.ceil(error.retry_after or 5))
        return refusal(503, _NO_PROVIDER, code=error.code, cause=str(error), Retry_After=wait)
    if isinstance(error, OverQuotaError):
        wait = str(math.ceil(error.retry_after))
        return refusal(429, str(error), code=error.code, Retry_After=wait)
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            if status != 503:
                reasons = getattr(error, "reasons", ())
                return refusal(status, str(error), reasons, code=error.code)
            told = actor is not None and actor.role in OPERATORS | READERS
            words = str(error) if told else _AWAY
            return refusal(503, words, code=error.code, cause=str(error), Retry_After="5")
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
        answer = refusal(error.status, _words(error), code=_CODES.get(error.status, Code.BAD_CALL))
        answer.headers.update(kept)
        return answer
    except Exception as error:
        answered = refused(error, request.get(ACTOR))
        if answered is None:
            log.exception("request_failed", method=request.method, route=route_of(request))
            words = "an unforeseen fault; the log of the service has the cause"
            answered = refusal(500, words, code=Code.FAULT)
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
