"""What goes out and what comes in as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from app.codes import Code
from app.encoding import flaw_of
from app.errors import InvalidRequestError
from app.views.view import dumped
from web.schemas import ErrorView

M = TypeVar("M", bound=BaseModel)

# Why a request is not done, in the words that are for the log alone where they differ.
CAUSE: web.ResponseKey[str] = web.ResponseKey("cause", str)
MAX_BODY = 2 * 1024 * 1024  # bytes
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
    code: Code,
    cause: str | None = None,
    **headers: str,
) -> web.Response:
    """Return an error: its `code`, `message`, and `messages` when there are several.

    The log has the message, too, or what is given as its `cause`.
    """
    answer = shown(
        ErrorView(
            message=message,
            messages=list(messages) if len(messages) > 1 else None,
            code=code.value,
        ),
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    answer[CAUSE] = cause or "; ".join(messages) or message
    return answer


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


async def body_as(model: type[M], request: web.Request) -> M:
    """Return the body. Raises HTTPException, and InvalidRequestError with all that is wrong.

    What was given is not in the words: it may be a secret.
    """
    given = await json_of(request)
    if flaw := flaw_of(given):
        raise InvalidRequestError([f"the body {flaw}"])
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        raise InvalidRequestError(
            [f"{'.'.join(map(str, flaw['loc'])) or 'the body'}: {flaw['msg']}" for flaw in found]
        ) from None


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
