"""Who asks: the bearer token of a request."""

from __future__ import annotations

from typing import Any

import jwt
from aiohttp import web


def claims_of(request: web.Request, secret: str) -> dict[str, Any]:
    """Return what the token says. Raises HTTPUnauthorized."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer":
        raise web.HTTPUnauthorized(text="no bearer token")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=["HS512"],
            options={"require": ["exp", "sub", "tenant", "email", "role"]},
        )
    except jwt.InvalidTokenError as error:
        raise web.HTTPUnauthorized(text=f"the token is not valid: {error}") from None
    return claims
