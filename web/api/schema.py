"""`/schema`: how far the database's schema is, beside what programs know that run."""

from __future__ import annotations

from aiohttp import web

from app import __version__
from app.views.deliveries import Overview
from app.views.schema import LookAtSchema, SchemaView
from app.views.view import View
from web import schemas
from web.answers import shown
from web.endpoint import OPERATORS, READERS, Endpoint


class SchemaAnswer(View):
    """How far the schema of the database is."""

    content: SchemaView


class SchemaApi:
    """The handler."""

    def __init__(self, look: LookAtSchema, overview: Overview) -> None:
        self._look = look
        self._overview = overview

    async def schema(self, _request: web.Request) -> web.Response:
        """Return it; the database and the workers serve all tenants."""
        seen, workers = await self._look(), await self._overview.workers()
        return shown(SchemaAnswer(content=SchemaView.of(seen, workers, version=__version__)))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/schema",
                operation="getSchema",
                handler=self.schema,
                summary="Which migrations of the database are applied, and whether it is older or "
                "newer than this process and the workers that there are",
                tag="workers",
                roles=OPERATORS | READERS,
                in_maintenance=True,
                whole_instance=True,
                responses={200: schemas.answer("How far it is.", SchemaAnswer)}
                | schemas.errors(401, 403, 429, 503),
            )
        ]
