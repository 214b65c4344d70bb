"""What each error is in HTTP."""

from __future__ import annotations

from aiohttp import hdrs, web

from app.audit import Actor
from app.errors import (
    DeliveredGoneError,
    InvalidRequestError,
    NotAcceptedError,
    NotAllowedError,
    NotPossibleError,
    ObjectGoneError,
    RetryableError,
    SettingChangedError,
    SettingError,
    UnknownDeadLetterError,
    UnknownDeliveryError,
    UnknownSettingError,
)
from app.telemetry.logs import get_logger
from web.answers import refusal
from web.endpoint import ACTOR, OPERATORS, Handler
from web.guard.access import route_of
from web.guard.auth import NotSignedInError

log = get_logger(__name__)

_STATUSES: dict[type[Exception], int] = {
    UnknownSettingError: 404,
    SettingChangedError: 412,
    SettingError: 422,
    InvalidRequestError: 422,
    UnknownDeliveryError: 404,
    UnknownDeadLetterError: 404,
    NotPossibleError: 409,
    NotAllowedError: 403,
    DeliveredGoneError: 410,
    ObjectGoneError: 410,
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
