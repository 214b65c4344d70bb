"""`/settings`: a tenant's settings, shown and changed."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BeforeValidator, Field, RootModel

from app.audit import Actor
from app.codes import Code
from app.delivery.targets import TargetCheck
from app.errors import InvalidSettingError
from app.tenants.configure import Configure
from app.tenants.definitions import Definitions, default_target
from app.tenants.masks import noted
from app.tenants.values import Setting
from app.views.view import Link, Query, View
from web import schemas
from web.answers import json_of, refusal, shown
from web.conditions import versions_of
from web.endpoint import ACTOR, ADMINS, READERS, Endpoint
from web.guard.checks import Checks
from web.parameters import read

_VERSION = re.compile(r"[0-9]{1,18}")
_NO_SETTING = "There is no such setting."


class SettingContentView(View):
    """A setting; secrets are masked."""

    name: str
    description: str
    value: Any = Field(description="As the setting's type says.")
    default_value: Any = Field(description="As the setting's type says.")


class CheckView(View):
    """What one check of a target found."""

    check: str
    ok: bool
    message: str

    @classmethod
    def of(cls, found: TargetCheck) -> CheckView:
        """Show it."""
        return cls(check=found.check, ok=found.ok, message=found.message)


class SettingView(View):
    """A setting, what can be done with it, and what trying it found."""

    content: SettingContentView
    links: list[Link]
    check: dict[str, list[CheckView]] | None = Field(
        None, description="By target: what trying it found."
    )


class Settings(RootModel[list[SettingView]]):
    """The settings of a tenant."""


class SettingsQuery(Query):
    """Which settings."""

    names: list[str] | None = Field(None, description="Only these.")


def _read_check(given: object) -> object:
    if given not in ("true", "false", "only"):
        raise ValueError("true, false or only")
    return given


class CheckQuery(Query):
    """Whether the targets that a setting has a part in are tried."""

    check: Annotated[Literal["true", "false", "only"], BeforeValidator(_read_check)] = Field(
        "false",
        description="Whether to try the S3 server: `true` after saving, `only` without.",
    )


def _view(
    request: web.Request, setting: Setting, found: dict[str, list[TargetCheck]] | None = None
) -> SettingView:
    # Without host and scheme: what the request says of them may be another's word, or a proxy's.
    href = f"{request.path.partition('/settings')[0]}/settings/{setting.name}"
    links = [Link(rel="self", href=href), Link(rel="update", href=href)]
    if setting.is_set:
        links.append(Link(rel="delete", href=href))
    # A URL may hold a secret: those see it whole who may set it.
    told = noted if request[ACTOR].role in READERS else lambda value: value
    content = SettingContentView(
        name=setting.name,
        description=setting.description,
        value=told(setting.value),
        default_value=told(setting.default),
    )
    check = None
    if found is not None:
        check = {name: [CheckView.of(step) for step in said] for name, said in found.items()}
    return SettingView(content=content, links=links, check=check)


def _answer(
    request: web.Request, setting: Setting, found: dict[str, list[TargetCheck]] | None = None
) -> web.Response:
    answer = shown(_view(request, setting, found))
    answer.etag = str(setting.version)
    return answer


def _versions(request: web.Request) -> list[int] | None:
    """Return the versions that If-Match names; None if any will do."""
    tags = versions_of(request)
    return None if tags is None else [int(tag) for tag in tags if _VERSION.fullmatch(tag)]


class SettingsApi:
    """The handlers."""

    def __init__(self, configure: Configure, checks: Checks) -> None:
        self._configure = configure
        self._checks = checks

    @property
    def definitions(self) -> Definitions:
        """What is known of each setting."""
        return self._configure.definitions

    async def read(self, request: web.Request) -> web.Response:
        """Return the settings, or those that are named."""
        names = read(request, SettingsQuery).names or []
        for name in names:
            self.definitions.of(name)
        listing = self._configure.listing(request[ACTOR].tenant, names)
        return shown(Settings([_view(request, setting) for setting in listing]))

    async def read_one(self, request: web.Request) -> web.Response:
        """Return one setting, with its ETag."""
        name = request.match_info["name"]
        return _answer(request, self._configure.setting(request[ACTOR].tenant, name))

    async def put(self, request: web.Request) -> web.Response:
        """Change a setting; with `check`, try the targets, too."""
        name, actor = request.match_info["name"], request[ACTOR]
        self.definitions.of(name)
        value = _value(name, await json_of(request))
        check = read(request, CheckQuery).check
        if check == "false":
            setting = await self._configure.put(actor, name, value, versions=_versions(request))
            return _answer(request, setting)
        with self._checks.turn(actor.tenant) as wait:
            if wait:
                sentence = "too many checks; one at a time, and a few a minute"
                seconds = str(math.ceil(wait))
                return refusal(429, sentence, code=Code.TOO_MANY_CALLS, Retry_After=seconds)
            if check == "only":
                setting = self._configure.setting(actor.tenant, name)
                found = await self._check(actor, name, value)
            else:
                setting = await self._configure.put(actor, name, value, versions=_versions(request))
                found = await self._check(actor, name)
        return _answer(request, setting, found)

    async def _check(self, actor: Actor, name: str, *values: Any) -> dict[str, list[TargetCheck]]:
        """Try every target that the setting has a part in, as it is or with another value."""
        now, tried = await self._configure.trying(actor, name, *values)
        tries = self.definitions.of(name).tries or default_target
        return await self._checks.of(tries(tried), tries(now))

    async def delete(self, request: web.Request) -> web.Response:
        """Put a setting back to its default."""
        setting = await self._configure.reset(
            request[ACTOR], request.match_info["name"], versions=_versions(request)
        )
        return _answer(request, setting)

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        named = (schemas.path("name", "Name of the setting.", {"enum": self.definitions.names}),)
        errors = schemas.errors(401, 403, 429, 503)
        answer = {200: schemas.answer("The setting.", SettingView, etag="Version of the setting.")}
        return [
            Endpoint(
                method="GET",
                path="/settings",
                operation="listSettings",
                handler=self.read,
                summary="The tenant's settings",
                tag="settings",
                roles=ADMINS | READERS,
                query=SettingsQuery,
                responses={200: schemas.answer("The settings.", Settings)}
                | schemas.errors(404, absent=_NO_SETTING)
                | errors,
            ),
            Endpoint(
                method="GET",
                path="/settings/{name}",
                operation="getSetting",
                handler=self.read_one,
                summary="One setting",
                tag="settings",
                roles=ADMINS | READERS,
                parameters=named,
                responses=answer | schemas.errors(404, absent=_NO_SETTING) | errors,
            ),
            Endpoint(
                method="PUT",
                path="/settings/{name}",
                operation="changeSetting",
                handler=self.put,
                summary="Change a setting",
                tag="settings",
                roles=ADMINS,
                parameters=(*named, schemas.IF_MATCH),
                query=CheckQuery,
                body=schemas.json_body("SettingChange"),
                responses=answer
                | schemas.errors(400, 404, 408, 412, 413, 415, 422, absent=_NO_SETTING)
                | errors,
            ),
            Endpoint(
                method="DELETE",
                path="/settings/{name}",
                operation="resetSetting",
                handler=self.delete,
                summary="Put a setting back to its default",
                tag="settings",
                roles=ADMINS,
                parameters=(*named, schemas.IF_MATCH),
                responses=answer | schemas.errors(404, 412, absent=_NO_SETTING) | errors,
            ),
        ]


def _value(name: str, body: Any) -> Any:
    """Return the value that a body sets. Raises InvalidSettingError with every reason."""
    if not isinstance(body, dict):
        raise InvalidSettingError(['the body must be an object: {"name": …, "value": …}'])
    reasons = []
    if body.get("name", name) != name:
        reasons.append(f"name: must be {name}, as in the path, or be left out")
    if "value" not in body:
        reasons.append("value: is missing")
    if reasons:
        raise InvalidSettingError(reasons)
    return body["value"]
