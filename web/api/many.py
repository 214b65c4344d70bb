"""`/deliveries/cancel` and `/deliveries/retry`: what a filter finds, all together."""

from __future__ import annotations

from functools import partial
from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.delivery.model import Delivery
from app.delivery.states import State
from app.errors import InvalidRequestError
from app.usecases.many import MAX_AT_ONCE, Act, Acted, Left, Looked, Many
from app.views.deliveries import Activity, Filter, Tracked
from app.views.view import Text, View
from app.waiting.slices import in_slices
from web import schemas
from web.answers import body_as, shown
from web.endpoint import ACTOR, OPERATORS, Endpoint
from web.parameters import is_list

_MAX_REASON = 300  # characters
_MAX_WHY = 500  # characters: of a thousand, each may have the whole error of its archive
_NO_IDS = "ids: name those that a dry run showed (dryRun: true); nothing else is acted on"


# By name: whether it is a list.
_FIELDS = {field.alias or name: is_list(field) for name, field in Filter.model_fields.items()}


class ManyFilter(Filter):
    """Which deliveries: as the parameters of `GET /deliveries`, and no others."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_texts(cls, given: object) -> object:
        """Take what a query string could say, for which the checks of the fields are made.

        A value that is empty finds all there. Here, it is more likely one that a script lacked.
        """
        for name, value in given.items() if isinstance(given, dict) else ():
            if name not in _FIELDS:
                raise ValueError(f"{name} is no parameter of GET /deliveries")
            if _FIELDS[name]:
                if not isinstance(value, list) or not value or not all(map(_is_text, value)):
                    raise ValueError(f"{name} must be a list of texts, none of them empty")
            elif not _is_text(value):
                raise ValueError(f"{name} must be a text, and not empty; leave it out to find all")
        return given


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


class ManyWish(BaseModel):
    """What is to be done to many: first with `dryRun`, then with the `ids` that it showed."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    filter: ManyFilter = Field(
        description="As the parameters of `GET /deliveries`; {} is all. What it does not find any "
        "more is left alone."
    )
    ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_AT_ONCE)] | None = Field(
        None, description="Those that a dry run showed: no others are acted on."
    )
    dry_run: bool = Field(False, alias="dryRun", description="Only tell which, and why not others.")


class CancelManyWish(ManyWish):
    """Which deliveries are ended, and why."""

    reason: Text = Field(None, max_length=_MAX_REASON, description="Told to their clients.")

    @property
    def how(self) -> dict[str, str]:
        """What the act takes."""
        return {"reason": self.reason or ""}


class RetryManyWish(ManyWish):
    """Which deliveries are tried again, and whether it is insisted on."""

    force: bool = Field(False, description="Also what would fail again, for a cause that stays.")

    @property
    def how(self) -> dict[str, bool]:
        """What the act takes."""
        return {"force": self.force}


class OneOfManyView(View):
    """A delivery that was acted on, or would be."""

    id: str
    correlation_id: str
    state: State = Field(description="After it; of a dry run, now.")
    activity: Activity | None = Field(None, description="Of a dry run: what goes on with it.")
    code: str | None = Field(None, description="Of a dry run: of why it failed, or waits.")
    again: str | None = Field(
        None, description="The id of the delivery by which it was asked for again."
    )


class LeftView(View):
    """A delivery that is left as it is."""

    id: str
    correlation_id: str | None = None
    state: State | None = None
    why: str


class ManyHandled(View):
    """What was done to each; of a dry run, what would be."""

    content: list[OneOfManyView]
    left: list[LeftView] = Field(description="Those that are left as they are, and why.")
    more: bool | None = Field(
        None,
        description=f"True with a dry run: the filter finds more than these newest {MAX_AT_ONCE}.",
    )


class ManyApi:
    """The handlers."""

    def __init__(self, many: Many) -> None:
        self._many = many

    async def handle(
        self, act: Act, model: type[CancelManyWish | RetryManyWish], request: web.Request
    ) -> web.Response:
        """Tell what would be done, or do it to those that were shown."""
        actor, wish = request[ACTOR], await body_as(model, request)
        if wish.dry_run:
            force = isinstance(wish, RetryManyWish) and wish.force
            looked = await self._many.look(actor, act, wish.filter, force=force)
            return shown(await _looked(looked))
        if wish.ids is None:
            raise InvalidRequestError([_NO_IDS])
        acted = await self._many.act(actor, act, wish.filter, wish.ids, **wish.how)
        return shown(await _acted(acted))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        rows: list[tuple[Act, type[CancelManyWish | RetryManyWish], str]] = [
            (Act.CANCEL, CancelManyWish, "End the deliveries that a filter finds"),
            (Act.RETRY, RetryManyWish, "Try the deliveries again that a filter finds"),
        ]
        return [
            Endpoint(
                method="POST",
                path=f"/deliveries/{act}",
                operation=f"{act}Deliveries",
                handler=partial(self.handle, act, model),
                summary=f"{summary}, up to {MAX_AT_ONCE}: a dry run shows which, and no others are "
                "acted on",
                tag="deliveries",
                roles=OPERATORS,
                body=schemas.json_body(model),
                responses={200: schemas.answer("What became of each.", ManyHandled)}
                | schemas.errors(400, 401, 403, 408, 413, 415, 422, 429, 503),
            )
            for act, model, summary in rows
        ]


async def _looked(looked: Looked) -> ManyHandled:
    return ManyHandled(
        content=await in_slices(_would, looked.would),
        left=await in_slices(_left, looked.left),
        more=looked.more or None,
    )


def _would(tracked: Tracked) -> OneOfManyView:
    return OneOfManyView(
        id=str(tracked.delivery.id),
        correlation_id=tracked.delivery.correlation_id,
        state=tracked.delivery.state,
        activity=tracked.activity,
        code=tracked.code,
    )


async def _acted(acted: Acted) -> ManyHandled:
    return ManyHandled(
        content=await in_slices(_done, acted.done), left=await in_slices(_left, acted.left)
    )


def _done(done: tuple[UUID, Delivery]) -> OneOfManyView:
    named, after = done
    return OneOfManyView(
        id=str(named),
        correlation_id=after.correlation_id,
        state=after.state,
        again=str(after.id) if after.id != named else None,
    )


def _left(left: Left) -> LeftView:
    delivery = left.tracked.delivery if left.tracked is not None else None
    return LeftView(
        id=str(left.id),
        correlation_id=delivery.correlation_id if delivery else None,
        state=delivery.state if delivery else None,
        why=left.why if len(left.why) <= _MAX_WHY else f"{left.why[: _MAX_WHY - 1]}…",
    )
