"""What is known of each request afterwards: its id, its line of the log, its figures."""

from __future__ import annotations

import re
import time
from typing import Literal
from uuid import uuid4

import structlog
from aiohttp import web

from app.telemetry.logs import get_logger
from app.telemetry.metrics import HTTP_REQUESTS, HTTP_SECONDS
from web.answers import CAUSE
from web.endpoint import ACTOR, PREFIX, Handler
from web.guard.address import address_of

log = get_logger("web.access")

Level = Literal["all", "requests", "off"]

HEADER = "X-Request-ID"
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)

UNKNOWN = "unknown"  # the route of all paths that there are not: figures have few labels
_STREAM = "text/event-stream"
_GONE = 499  # as nginx says it: the client went away before there was an answer
_FIRST_ERROR = 400
_GIVEN = re.compile(r"[!-~]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_OF_MACHINES = ("/health/live", "/health/ready", "/metrics", "/console", "/docs.css")


def id_of(request: web.Request) -> str:
    """Return the id that the caller gave the request, if it is fit for a log, or a new one."""
    given = request.headers.getall(HEADER, [])
    if len(given) == 1 and _GIVEN.fullmatch(given[0]):
        return given[0]
    return uuid4().hex


def route_of(request: web.Request) -> str:
    """Return the template of the request's path: the path itself may hold what is not for a log."""
    resource = request.match_info.route.resource
    return UNKNOWN if resource is None else resource.canonical.removeprefix(PREFIX)


class Access:
    """Stands before all else, and sees every request end."""

    def __init__(self, level: Level, *, proxies: int) -> None:
        self._level = level
        self._proxies = proxies

    @web.middleware
    async def watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the request its id, and log how it ended."""
        request[REQUEST_ID] = id_of(request)
        began = time.perf_counter()
        answer: web.StreamResponse | None = None
        with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
            try:
                answer = await handler(request)
            except web.HTTPException as raised:  # a redirect: errors are answers by now
                answer = raised
                raise
            finally:
                self._record(request, answer, time.perf_counter() - began)
        return answer

    def overheard(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Give a request its id, and log how it ended, which aiohttp refused by itself.

        What is expected of a server (`Expect`) it judges before anything of the application runs.
        """
        request[REQUEST_ID] = id_of(request)
        with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
            self._record(request, answer, 0.0)

    def _record(
        self, request: web.Request, answer: web.StreamResponse | None, seconds: float
    ) -> None:
        route, status = route_of(request), _GONE if answer is None else answer.status
        method = request.method if request.method in _METHODS else "other"
        HTTP_REQUESTS.labels(route, method, str(status)).inc()
        if answer is not None and answer.content_type != _STREAM:  # those last as they like
            HTTP_SECONDS.labels(route).observe(seconds)
        if self._level == "off" or (
            self._level == "requests"
            and status < _FIRST_ERROR
            and route.startswith(_OF_MACHINES)
            and method in ("GET", "HEAD")
        ):
            return
        line: dict[str, object] = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "bytes": 0 if answer is None or request.method == "HEAD" else _size(answer),
            "address": address_of(request, proxies=self._proxies),
        }
        actor = request.get(ACTOR)
        if actor is not None:
            line |= {"tenant": actor.tenant, "actor": actor.name, "role": actor.role}
        cause = None if answer is None else answer.get(CAUSE)
        if cause is not None:
            line["cause"] = cause
        log.info("request", **line)


def _size(answer: web.StreamResponse) -> int:
    """Return the bytes of a body: they may not have been sent yet."""
    if isinstance(answer, web.Response):
        return len(answer.body) if isinstance(answer.body, bytes | bytearray) else 0
    return answer.body_length if answer.prepared else 0
