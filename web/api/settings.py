"""`/settings`: a tenant's settings, shown and changed."""

from __future__ import annotations

import math
import re
from typing import Any

from aiohttp import web

from app.errors import InvalidSettingError
from app.tenants import definitions
from app.tenants.configure import Configure
from app.tenants.values import Actor, Setting
from web import schemas
from web.answers import json_of, refusal
from web.endpoint import ACTOR, ADMINS, Endpoint
from web.guard.checks import Checks

_VERSION = re.compile(r"[0-9]{1,18}")


def _shown(request: web.Request, setting: Setting) -> dict[str, Any]:
    # Without host and scheme: what the request says of them may be another's word, or a proxy's.
    href = f"{request.path.partition('/settings')[0]}/settings/{setting.name}"
    links = [{"rel": "self", "href": href}, {"rel": "update", "href": href}]
    if setting.is_set:
        links.append({"rel": "delete", "href": href})
    return {
        "content": {
            "name": setting.name,
            "description": setting.description,
            "value": setting.value,
            "defaultValue": setting.default,
        },
        "links": links,
    }


def _answer(request: web.Request, setting: Setting, **more: Any) -> web.Response:
    answer = web.json_response(_shown(request, setting) | more)
    answer.etag = str(setting.version)
    return answer


def _versions(request: web.Request) -> list[int] | None:
    """Return the versions that If-Match names; None if any will do."""
    try:
        tags = request.if_match
    except ValueError:
        tags = ()
    if tags is None or any(tag.value == "*" for tag in tags):
        return None
    return [int(tag.value) for tag in tags if _VERSION.fullmatch(tag.value) and not tag.is_weak]


class SettingsApi:
    """The handlers."""

    def __init__(self, configure: Configure, checks: Checks) -> None:
        self._configure = configure
        self._checks = checks

    async def read(self, request: web.Request) -> web.Response:
        """Return the settings, or those that are named."""
        names = request.query.getall("names", [])
        for name in names:
            definitions.definition_of(name)
        listing = self._configure.listing(request[ACTOR].tenant, names)
        return web.json_response([_shown(request, setting) for setting in listing])

    async def read_one(self, request: web.Request) -> web.Response:
        """Return one setting, with its ETag."""
        name = request.match_info["name"]
        return _answer(request, self._configure.setting(request[ACTOR].tenant, name))

    async def put(self, request: web.Request) -> web.Response:
        """Change a setting; with `check`, try the S3 server, too."""
        name, actor = request.match_info["name"], request[ACTOR]
        definitions.definition_of(name)
        value = _value(name, await json_of(request))
        check = request.query.get("check", "false")
        if check not in ("true", "false", "only"):
            raise InvalidSettingError(["check must be true, false or only"])
        if check == "false":
            setting = await self._configure.put(actor, name, value, versions=_versions(request))
            return _answer(request, setting)
        with self._checks.turn(actor.tenant) as wait:
            if wait:
                sentence = "too many checks; one at a time, and a few a minute"
                return refusal(429, sentence, Retry_After=str(math.ceil(wait)))
            if check == "only":
                setting = self._configure.setting(actor.tenant, name)
                found = await self._check(actor, name, value)
            else:
                setting = await self._configure.put(actor, name, value, versions=_versions(request))
                found = await self._check(actor, name)
        return _answer(request, setting, check=found)

    async def _check(self, actor: Actor, name: str, *values: Any) -> dict[str, Any]:
        """Try every target that the setting has a part in, as it is or with another value."""
        now, tried = await self._configure.trying(actor, name, *values)
        if name == "delivery_targets":
            return await self._checks.of(tried.targets, now.targets)
        return await self._checks.of({"default": tried.target}, {})

    async def delete(self, request: web.Request) -> web.Response:
        """Put a setting back to its default."""
        setting = await self._configure.reset(
            request[ACTOR], request.match_info["name"], versions=_versions(request)
        )
        return _answer(request, setting)

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        named = (
            schemas.path("name", "Name of the setting.", {"enum": [*definitions.DEFINITIONS]}),
        )
        errors = schemas.errors(401, 403, 429, 503)
        one = {200: schemas.answer("The setting.", "Setting", etag=True)}
        return [
            Endpoint(
                method="GET",
                path="/settings",
                operation="listSettings",
                handler=self.read,
                summary="The tenant's settings",
                tag="settings",
                roles=ADMINS,
                parameters=(schemas.query("names", "Only these.", schemas.TEXTS),),
                responses={200: schemas.answer("The settings.", "Settings")}
                | schemas.errors(404)
                | errors,
            ),
            Endpoint(
                method="GET",
                path="/settings/{name}",
                operation="getSetting",
                handler=self.read_one,
                summary="One setting",
                tag="settings",
                roles=ADMINS,
                parameters=named,
                responses=one | schemas.errors(404) | errors,
            ),
            Endpoint(
                method="PUT",
                path="/settings/{name}",
                operation="changeSetting",
                handler=self.put,
                summary="Change a setting",
                tag="settings",
                roles=ADMINS,
                parameters=(
                    *named,
                    schemas.IF_MATCH,
                    schemas.query(
                        "check",
                        "Whether to try the S3 server: `true` after saving, `only` without.",
                        {"enum": ["true", "false", "only"]},
                    ),
                ),
                body=schemas.json_body("SettingChange"),
                responses=one | schemas.errors(400, 404, 408, 412, 413, 415, 422) | errors,
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
                responses=one | schemas.errors(404, 412) | errors,
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
