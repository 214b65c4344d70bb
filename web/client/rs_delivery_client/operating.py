"""What operators and administrators ask: of many deliveries, workers, pauses, letters, settings.

Answers are those of the HTTP API. A role that may not ask raises ForbiddenError.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from rs_delivery_client.errors import NotFoundError
from rs_delivery_client.models import DeliveryFilter
from rs_delivery_client.service import Answer, Service

Body = Mapping[str, Any]
# What of a list of dead letters is meant; see the parameters of `GET /dead-letters`.
LetterFilter = Mapping[str, str]
_PAGE = 500  # letters at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseSubject:
    """What is paused: a target of the caller's tenant, or a worker."""

    kind: Literal["targets", "workers"]
    name: str

    @property
    def path(self) -> str:
        """Where its pause is."""
        return f"/pauses/{self.kind}/{quote(self.name, safe='')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """A dead letter as it was seen."""

    raw: Body
    version: str | None  # as of a `Setting`; None: the service is of a version before


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A setting as it is; secrets in it are masked."""

    name: str
    value: Any
    default: Any
    version: str | None  # for `If-Match`, as the service wrote it
    checks: Mapping[str, Sequence[Body]]  # by target: what trying it found; empty: it was not tried
    raw: Body

    @classmethod
    def of(cls, answer: Answer) -> Setting:
        """Read one."""
        content = answer.content["content"]
        return cls(
            name=str(content["name"]),
            value=content.get("value"),
            default=content.get("defaultValue"),
            version=answer.etag,
            checks=answer.content.get("check") or {},
            raw=content,
        )


class Operating:
    """The part of the service that operators and administrators use."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def look(
        self, act: Literal["retry", "cancel"], wanted: DeliveryFilter, *, force: bool = False
    ) -> Body:
        """Return what an act would do to the deliveries that a filter finds; nothing is done.

        The answer has those in `content`, the newest first, and in `left` the others, each with
        `why`; `more` is true where there are older ones, which were not looked at. `force`: also
        what would fail again. Raises InvalidRequestError, also for a value that is empty.
        """
        wish = {"dryRun": True} | ({"force": True} if force else {})
        return await self._act(act, wanted, wish, again=True)

    async def act(
        self,
        act: Literal["retry", "cancel"],
        wanted: DeliveryFilter,
        ids: Sequence[str],
        *,
        reason: str | None = None,
        force: bool = False,
    ) -> Body:
        """Do it to those of these deliveries that the filter still finds; return what became.

        `ids` are of `look`: no others are acted on. `reason` is for the clients of what is
        cancelled. It is asked for once. Raises InvalidRequestError.
        """
        wish: dict[str, Any] = {"ids": list(ids)} | ({"force": True} if force else {})
        wish |= {} if reason is None else {"reason": reason}
        return await self._act(act, wanted, wish, again=False)

    async def _act(self, act: str, wanted: DeliveryFilter, wish: Body, *, again: bool) -> Body:
        found: Body = await self._service.ask(
            "POST", f"/deliveries/{act}", again=again, body={"filter": wanted.parameters, **wish}
        )
        return found

    async def schema(self) -> Body | None:
        """Return how far the database's schema is, beside what programs know that run.

        None: the service is of a version that does not tell.
        """
        try:
            found = await self._service.ask("GET", "/schema", again=True)
        except NotFoundError:
            return None
        content: Body = found["content"]
        return content

    async def workers(self) -> list[Body]:
        """Return the workers that there are."""
        found = await self._service.ask("GET", "/workers", again=True)
        return list(found["content"])

    async def pauses(self) -> list[Body]:
        """Return the pauses in effect that concern the caller."""
        found = await self._service.ask("GET", "/pauses", again=True)
        return list(found["content"])

    async def pause(
        self,
        subject: PauseSubject,
        *,
        reason: str,
        until: str | None = None,
        seconds: int | None = None,
        running: Literal["finish", "stop"] | None = None,
    ) -> Body:
        """Begin a pause, or change it, and return it.

        It ends at `until` (ISO 8601), or in so many seconds; else when it is resumed. `running` is
        what becomes of what runs. Raises NotFoundError, InvalidRequestError.
        """
        wish = {"reason": reason, "until": until, "forSeconds": seconds, "running": running}
        body = {name: value for name, value in wish.items() if value is not None}
        found = await self._service.ask("PUT", subject.path, again=True, body=body)
        content: Body = found["content"]
        return content

    async def resume(self, subject: PauseSubject) -> Body:
        """End a pause, and return it. It is asked once. Raises NotFoundError."""
        found = await self._service.ask("DELETE", subject.path, again=False)
        content: Body = found["content"]
        return content

    async def maintenance(self) -> Body:
        """Return whether the caller's tenant is in maintenance, and what is said of it.

        `tenant` and `active`; and `lastUpdate`, `reason`, `until` and `enabledBy`, as far as there
        are any.
        """
        tenant = await self._tenant()
        return _maintained(tenant, await self._service.ask("GET", "/maintenance", again=True))

    async def begin_maintenance(
        self, *, reason: str | None = None, until: str | None = None
    ) -> Body:
        """Put the caller's tenant into maintenance, and return it as `maintenance` does.

        Of one that goes on, `reason` and `until` (ISO 8601; it does not end by that) take the place
        of what was said. Raises ForbiddenError, InvalidRequestError.
        """
        wish = {"reason": reason, "until": until}
        said = {name: value for name, value in wish.items() if value is not None}
        return await self._put_maintenance("enable", said)

    async def end_maintenance(self) -> Body:
        """Take the caller's tenant out of it, and return that. Raises ForbiddenError."""
        return await self._put_maintenance("disable", {})

    async def _put_maintenance(self, act: Literal["enable", "disable"], said: Body) -> Body:
        tenant = await self._tenant()
        path = f"/maintenance/{quote(tenant, safe='')}/{act}"
        return _maintained(tenant, await self._service.ask("PUT", path, again=True, body=said))

    async def _tenant(self) -> str:
        found = await self._service.ask("GET", "/me", again=True)
        return str(found["content"]["tenant"])

    async def letters(self, wanted: LetterFilter, *, page: int = _PAGE) -> AsyncIterator[Body]:
        """Yield dead letters, the first buried first, `page` of them asked for at a time."""
        query = {**wanted, "size": min(page, _PAGE)}
        async for letter in self._service.pages("/dead-letters", query):
            yield letter

    async def letter(self, letter_id: str) -> Body:
        """Return a dead letter with its body. Raises NotFoundError."""
        return (await self.letter_seen(letter_id)).raw

    async def letter_seen(self, letter_id: str) -> Letter:
        """Return the same with its version, for `mend_letter`. Raises NotFoundError."""
        found = await self._service.answer("GET", _letter(letter_id), again=True)
        return Letter(raw=found.content, version=found.etag)

    async def mend_letter(
        self,
        letter_id: str,
        *,
        body: bytes | None = None,
        tenant: str | None = None,
        force: bool = False,
        version: str | None = None,
    ) -> Body:
        """Put another body, or tenant, in the place of a letter's own, for when it is put back.

        It is returned as it is then. Raises InvalidRequestError where it would be refused again,
        unless `force`; NotFoundError; ConflictError, also where it has another `version` by now,
        which `letter_seen` tells. With that, it is asked for once: that it was done already would
        be taken for another client's mend.
        """
        wish: dict[str, Any] = {"tenant": tenant, "force": force or None}
        if body is not None:
            try:
                wish["text"] = body.decode()
            except UnicodeDecodeError:
                wish["base64"] = base64.b64encode(body).decode()
        found: Body = await self._service.ask(
            "PUT",
            _letter(letter_id),
            again=version is None,
            body={name: value for name, value in wish.items() if value is not None},
            headers=_unchanged(version),
        )
        return found

    async def handle_letters(
        self,
        act: Literal["requeue", "remove"],
        which: Sequence[str] | LetterFilter,
        *,
        dry_run: bool = False,
    ) -> AsyncIterator[Body]:
        """Put dead letters back, or remove them for good; yield what became of each lot of them.

        They are told by their ids, or by a filter. Each lot is asked for once.
        """
        body: dict[str, Any] = {"dryRun": True} if dry_run else {}
        if not isinstance(which, Mapping):
            for start in range(0, len(which), _PAGE):
                ids = list(which[start : start + _PAGE])
                yield await self._handle(act, {**body, "ids": ids})
            return
        after: int | None = 0
        while after is not None:
            answer = await self._handle(act, {**body, "filter": dict(which), "after": after})
            yield answer
            after = answer.get("last")

    async def _handle(self, act: str, body: Body) -> Body:
        found: Body = await self._service.ask(
            "POST", f"/dead-letters/{act}", again=False, body=dict(body)
        )
        return found

    async def settings(self) -> list[Body]:
        """Return the settings of the tenant."""
        found = await self._service.ask("GET", "/settings", again=True)
        return [setting["content"] for setting in found]

    async def setting(self, name: str) -> Setting:
        """Return one setting. Raises NotFoundError."""
        return Setting.of(await self._service.answer("GET", _setting(name), again=True))

    async def change(
        self, setting: Setting, value: Any, *, check: Literal["false", "true", "only"] = "false"
    ) -> Setting:
        """Give a setting another value, and return it; `check`: try the targets, or try them only.

        Raises ConflictError where it was changed since it was read, InvalidRequestError.
        """
        return Setting.of(
            await self._service.answer(
                "PUT",
                _setting(setting.name),
                again=False,
                body={"name": setting.name, "value": value},
                query={"check": check},
                headers=_unchanged(setting.version),
            )
        )

    async def reset(self, setting: Setting) -> Setting:
        """Put a setting back to its default. Raises ConflictError, see `change`."""
        return Setting.of(
            await self._service.answer(
                "DELETE", _setting(setting.name), again=False, headers=_unchanged(setting.version)
            )
        )


def _maintained(tenant: str, answer: Body) -> Body:
    return {"tenant": tenant, "active": False} | dict(answer["content"].get(tenant) or {})


def _letter(letter_id: str) -> str:
    return f"/dead-letters/{quote(letter_id, safe='')}"


def _setting(name: str) -> str:
    return f"/settings/{quote(name, safe='')}"


def _unchanged(version: str | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": version}
