"""What rs-admin answers over HTTP: who is a user."""

from __future__ import annotations

from aiohttp import web

from compose.rs_order.behaviour import Behaviour
from compose.rs_order.tokens import claims_of


class Admin:
    """Everyone is, but those that it is told not to know."""

    def __init__(self, behaviour: Behaviour, *, secret: str) -> None:
        self._behaviour = behaviour
        self._secret = secret

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/users/email/{email}", self.user)]

    async def user(self, request: web.Request) -> web.Response:
        """`GET /users/email/{email}`."""
        claims_of(request, self._secret)
        if self._behaviour.faults.use("admin_answers_500"):
            raise web.HTTPInternalServerError(text="told to fail")
        email = request.match_info["email"]
        if email in self._behaviour.faults.unknown_users:
            raise web.HTTPNotFound(text="no such user")
        return web.json_response({"content": {"email": email}, "links": []})
