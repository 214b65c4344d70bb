"""`/microservice/…`: a tenant's configuration as a file, and whether the service is ready."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http import HttpProcessingError
from pydantic import RootModel

from app.audit import AuditTrail
from app.tenants import config_file as configuration_file
from app.tenants.config_file import NotAConfigurationError
from app.tenants.configure import Configure
from app.tenants.ports import ConfigurationStore
from app.views.view import View
from web import schemas
from web.answers import decoded, shown
from web.api.health import Health
from web.endpoint import ACTOR, PROJECT_ADMINS, Endpoint

_MAX_FILE_SIZE = 1024 * 1024  # bytes of a file
_TIMEOUT = 30.0  # seconds for a client to send it


class ConfigurationFile(View):
    """The configuration of a tenant."""

    microservice: Literal["rs-delivery"]
    modules: list[Any]


class ImportReportView(View):
    """What came of a module of an imported file."""

    module_information: dict[str, Any]  # as the file has it
    import_errors: list[str]
    only_errors: bool


class ImportReports(RootModel[list[ImportReportView]]):
    """What came of each module of an imported file."""


class Ready(View):
    """Whether the service can work, and what it waits for."""

    ready: bool
    reasons: list[str]
    specifications: dict[str, Any]


class Enabled(RootModel[bool]):
    """Whether there is such a thing here."""


class ConfigurationApi:
    """The handlers."""

    def __init__(
        self,
        configure: Configure,
        store: ConfigurationStore,
        health: Health,
        audit: AuditTrail,
    ) -> None:
        self._configure = configure
        self._store = store
        self._health = health
        self._audit = audit

    async def export(self, request: web.Request) -> web.Response:
        """Return the tenant's configuration as a file."""
        actor = request[ACTOR]
        content = ConfigurationFile(**configuration_file.export(self._configure, actor.tenant))
        if request.method != hdrs.METH_HEAD:
            await self._audit.record(configuration_file.exported(actor))
        attached = f'attachment; filename="{configuration_file.FILE_NAME}"'
        return shown(content, headers={hdrs.CONTENT_DISPOSITION: attached})

    async def take(self, request: web.Request) -> web.Response:
        """Import such a file: all of it 201, a part 206, nothing 409."""
        try:
            content = decoded(await _file(request))
        except ValueError as error:
            raise NotAConfigurationError(f"the file is not JSON: {error}") from None
        reports = await configuration_file.import_file(
            self._configure, self._store, request[ACTOR], content
        )
        if not any(report.errors for report in reports):
            return web.Response(status=201)
        told = [
            ImportReportView(
                module_information=report.module,
                import_errors=report.errors,
                only_errors=report.only_errors,
            )
            for report in reports
        ]
        taken = any(report.taken for report in reports)
        return shown(ImportReports(told), status=206 if taken else 409)

    async def enabled(self, _request: web.Request) -> web.Response:
        """Say that there is an import, an export, and a readiness."""
        return shown(Enabled(True))

    async def ready(self, _request: web.Request) -> web.Response:
        """Say whether the service can work, and what it waits for."""
        reasons = [f"{name}: {error}" for name, error in (await self._health.broken()).items()]
        return shown(Ready(ready=not reasons, reasons=reasons, specifications={}))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        errors = schemas.errors(401, 403, 429, 503)
        form = {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}},
        }
        described = {
            "tag": "microservice",
            "roles": PROJECT_ADMINS,
        }
        return [
            Endpoint(
                method="GET",
                path="/microservice/configuration",
                operation="exportConfiguration",
                handler=self.export,
                summary="Export the tenant's configuration as a file; secrets are masked",
                responses={200: schemas.answer("The file.", ConfigurationFile)} | errors,
                **described,  # type: ignore[arg-type]
            ),
            Endpoint(
                method="POST",
                path="/microservice/configuration",
                operation="importConfiguration",
                handler=self.take,
                summary="Import a configuration file, in the form of REGARDS",
                body={"required": True, "content": {"multipart/form-data": {"schema": form}}},
                responses={
                    201: {"description": "All of it was taken."},
                    206: schemas.answer("A part of it was taken.", ImportReports),
                    409: schemas.answer("Nothing of it could be taken.", ImportReports),
                }
                | schemas.errors(400, 408, 413, 415, 422)
                | errors,
                **described,  # type: ignore[arg-type]
            ),
            Endpoint(
                method="GET",
                path="/microservice/configuration/enabled",
                operation="getConfigurationEnabled",
                handler=self.enabled,
                summary="Whether configurations can be exported and imported",
                responses={200: schemas.answer("They can.", Enabled)} | errors,
                **described,  # type: ignore[arg-type]
            ),
            Endpoint(
                method="GET",
                path="/microservice/ready",
                operation="getServiceReadiness",
                handler=self.ready,
                summary="Whether the service can work",
                responses={200: schemas.answer("Whether, and why not.", Ready)} | errors,
                **described,  # type: ignore[arg-type]
            ),
            Endpoint(
                method="GET",
                path="/microservice/ready/enabled",
                operation="getServiceReadinessEnabled",
                handler=self.enabled,
                summary="Whether readiness is told",
                responses={200: schemas.answer("It is.", Enabled)} | errors,
                **described,  # type: ignore[arg-type]
            ),
        ]


async def _file(request: web.Request) -> bytes:
    """Return the field `file` of a form. Raises HTTPException in words."""
    if request.content_type != "multipart/form-data":
        raise web.HTTPUnsupportedMediaType(
            text="the body must be multipart/form-data with a field named file"
        )
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader = await request.multipart()
            while (part := await reader.next()) is not None:
                if isinstance(part, BodyPartReader) and part.name == "file":
                    return await _content(part)
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the file did not come in time") from None
    except (ValueError, AssertionError, RuntimeError, LookupError, HttpProcessingError):
        # What aiohttp's reader raises on forms that are cut short or not forms at all.
        raise web.HTTPBadRequest(text="the body is not a multipart form") from None
    raise web.HTTPBadRequest(text="the form has no field named file")


async def _content(part: BodyPartReader) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk():
        content += chunk
        if len(content) > _MAX_FILE_SIZE:
            raise web.HTTPRequestEntityTooLarge(_MAX_FILE_SIZE, len(content))
    return bytes(content)
