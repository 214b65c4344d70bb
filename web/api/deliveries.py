"""`/deliveries`: look at deliveries, cancel one, try one again, ask for one."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any
from urllib.parse import quote, urlencode
from uuid import UUID

from aiohttp import web
from pydantic import BeforeValidator, Field, WithJsonSchema

from app.audit import Actor
from app.delivery.content import ContentState
from app.delivery.messages import DeliveryRequestDtoEvent
from app.delivery.states import State
from app.encoding import flaw_of
from app.errors import InvalidRequestError, NotPossibleError, UnknownDeliveryError
from app.usecases.intervene import Interventions
from app.views.deliveries import (
    AttemptView,
    DeliveryStepView,
    DeliveryView,
    Filter,
    MissingFileView,
    Step,
    Tracked,
    Tracking,
    missing_of,
)
from app.views.progress import ProgressView
from app.views.segments import SegmentView, shown_segments
from app.views.stalls import Stalls, progress_now
from app.views.view import Link, Query, Text, View, moment
from app.waiting.slices import in_slices
from web import schemas
from web.answers import json_of, shown
from web.endpoint import ACTOR, ONLY_OWN, READERS, USERS, Endpoint
from web.parameters import Whole, read

_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 500
_MAX_ID = 255  # characters of a correlation id
_MAX_KEY = 255  # characters of an Idempotency-Key
# Correlation ids that no path can name: they are folded on the way, or name something else.
_UNNAMEABLE = frozenset({".", "..", "events", "by-id"})


def own_only(actor: Actor) -> str | None:
    """Return the user whose deliveries the caller may see; None: all of the tenant."""
    return actor.name if actor.role in ONLY_OWN else None


async def find(request: web.Request, tracking: Tracking) -> list[Tracked]:
    """Return the deliveries of the path's correlation id that the caller may see, newest first.

    Where the path has the id of one delivery, all that share its correlation id. Raises
    UnknownDeliveryError when there is none.
    """
    actor, user = request[ACTOR], own_only(request[ACTOR])
    if (name := request.match_info.get("id")) is not None:
        by_id = await _by_id(actor.tenant, name, tracking)
        found = (
            [] if by_id is None else await tracking.of(actor.tenant, by_id.delivery.correlation_id)
        )
    else:
        name, by_id, found = request.match_info["correlation_id"], None, []
        if len(name) <= _MAX_ID and "\0" not in name:
            found = await tracking.of(actor.tenant, name)
    found = [seen for seen in found if user is None or seen.delivery.user == user]
    if not found or (by_id is not None and by_id.delivery.id not in {f.delivery.id for f in found}):
        raise UnknownDeliveryError(
            f"tenant {actor.tenant} has no delivery {name[:100]!r}, or it was long ago"
        )
    return found


async def _by_id(tenant: str, name: str, tracking: Tracking) -> Tracked | None:
    try:
        delivery = UUID(name)
    except ValueError:
        return None
    return await tracking.one(tenant, delivery)


class EarlierDeliveryView(View):
    """Another delivery of the same correlation id."""

    id: str
    state: State


class DeliveryDetailView(DeliveryView):
    """All that is known of a delivery."""

    order: dict[str, Any] | None = None
    history: list[DeliveryStepView] | None = None
    timings: dict[str, float] | None = Field(
        None, description="Seconds spent in each state that was left."
    )
    attempts: list[AttemptView] | None = Field(
        None, description="Of its transfer, the newest first: the first ten and the last ninety."
    )
    segments: list[SegmentView] | None = Field(
        None, description="The suborders that rs-order made available, as they are archived."
    )
    missing_files: list[MissingFileView] | None = Field(
        None,
        description="The first of those that it is without, up to now; all are in its list of "
        "files, `missing` is how many.",
    )
    earlier: list[EarlierDeliveryView] | None = Field(
        None, description="Others of the same correlation id, the newest first."
    )


class Deliveries(View):
    """A page of deliveries."""

    content: list[DeliveryView]
    links: list[Link]


class DeliveryFound(View):
    """A delivery; with its order and history where one is asked for."""

    content: DeliveryDetailView
    links: list[Link]


class DeliveryFileView(View):
    """A file of an archive."""

    position: int
    file_id: int
    member: str
    bytes: int | None = None
    md5: str | None = None


class DeliveryFiles(View):
    """A page of a delivery's files."""

    content: list[DeliveryFileView]
    missing: list[MissingFileView] | None = Field(
        None, description="With the last page: what it is without, the first of them."
    )
    links: list[Link]


def _read_place(given: object) -> object:
    if not isinstance(given, str):
        return given
    if not given:
        return None
    try:
        padded = given + "=" * (-len(given) % 4)
        at, _, delivery = base64.urlsafe_b64decode(padded.encode()).decode().partition(" ")
        return moment(at), UUID(delivery)
    except (ValueError, binascii.Error):
        raise ValueError("what a link named next has") from None


Size = Annotated[int, Whole(1, _MAX_PAGE_SIZE)]
Place = Annotated[
    tuple[datetime, UUID] | None, BeforeValidator(_read_place), WithJsonSchema({"type": "string"})
]


class ListingQuery(Filter):
    """Which deliveries, and which page of them."""

    size: Size = Field(_PAGE_SIZE, description="Entries at most.")
    after: Place = Field(None, description="Where the page before ended: from its link next.")


class WhichQuery(Query):
    """Which delivery of a correlation id."""

    id: str | None = Field(None, description="Which, where a correlation id was used again.")


class PositionQuery(Query):
    """Which page of files."""

    size: Size = Field(_PAGE_SIZE, description="Entries at most.")
    after: Annotated[int, Whole(-1, 2**31 - 1)] = Field(
        -1, description="Position after which the page begins."
    )


class FilesQuery(PositionQuery, WhichQuery):
    """Which page of which delivery's files."""


class CancelQuery(Query):
    """Why a delivery is ended."""

    reason: Text = Field(None, description="Told to the client.")


class RetryQuery(Query):
    """Whether it is insisted on."""

    force: bool = Field(
        default=False,
        description="Ask again also for what would fail again, for a cause that stays; else that "
        "is answered with 409 and the code FAILS_AGAIN.",
    )


class SubmitQuery(Query):
    """How urgent a delivery is."""

    priority: Annotated[int, Whole(1, 255)] = Field(
        1, description="255 first; 1 for a REGISTERED_USER."
    )


class DeliveriesApi:
    """The handlers. `stalls` knows how far transfers are, too, if that is known."""

    def __init__(self, tracking: Tracking, interventions: Interventions, stalls: Stalls) -> None:
        self._tracking = tracking
        self._interventions = interventions
        self._stalls = stalls

    async def listing(self, request: web.Request) -> web.Response:
        """Return deliveries, the newest first, page after page."""
        actor = request[ACTOR]
        own = own_only(actor)
        # Not `or`: who has no name owns nothing, which is not the same as everything.
        if own is None:
            wanted = read(request, ListingQuery)
        else:
            others = read(request, ListingQuery, without={"user"})
            wanted = others.model_copy(update={"user": own})
        size = wanted.size
        found = await self._stalls.browse(actor.tenant, wanted, before=wanted.after, limit=size + 1)
        links = []
        if len(found) > size:
            last = found[size - 1].delivery
            query = [(name, v) for name, v in request.query.items() if name != "after"]
            query.append(("after", _after(last.requested_at, last.id)))
            links.append(Link(rel="next", href=f"{request.path}?{urlencode(query)}"))
        content = await in_slices(self._view, found[:size])
        return shown(Deliveries(content=content, links=links))

    def _view(self, tracked: Tracked) -> DeliveryView:
        return DeliveryView.of(tracked, progress=self._of_now(tracked))

    def _of_now(self, tracked: Tracked) -> ProgressView | None:
        return progress_now(tracked, self._stalls.report_of)

    async def _segments(self, tracked: Tracked) -> list[SegmentView] | None:
        delivery, progress = tracked.delivery, self._of_now(tracked)
        if not delivery.announced:
            return None
        segments = await self._tracking.segments(delivery.id)
        return shown_segments(delivery, segments, files_done=progress.files_done if progress else 0)

    def _found(self, tracked: Tracked, links: list[Link], **more: Any) -> DeliveryFound:
        content = DeliveryDetailView.of(tracked, progress=self._of_now(tracked), **more)
        return DeliveryFound(content=content, links=links)

    async def one(self, request: web.Request) -> web.Response:
        """Return all that is known of a delivery."""
        found = await find(request, self._tracking)
        chosen = choose(request, found)
        steps = await self._tracking.steps(chosen.delivery.id)
        attempts = await self._tracking.attempts(chosen.delivery.id)
        missing = await missing_of(self._tracking, chosen)
        answer = self._found(
            chosen,
            _links(request, chosen),
            order=chosen.delivery.order,
            history=[DeliveryStepView.of(step) for step in steps],
            timings=_timings(steps),
            attempts=[AttemptView.of(attempt) for attempt in attempts] or None,
            segments=await self._segments(chosen),
            missing=missing,
            missing_files=missing and [MissingFileView.of(file) for file in missing.first],
            earlier=[
                EarlierDeliveryView(id=str(other.delivery.id), state=other.delivery.state)
                for other in found
                if other is not chosen
            ],
        )
        return shown(answer)

    async def files(self, request: web.Request) -> web.Response:
        """Return the files of a delivery, page after page."""
        chosen = choose(request, await find(request, self._tracking))
        wanted = read(request, PositionQuery)
        size, after = wanted.size, wanted.after
        files = await self._tracking.manifest(chosen.delivery.id, after=after, limit=size + 1)
        links = []
        if len(files) > size:
            query = {"id": str(chosen.delivery.id), "size": size, "after": files[size - 1].position}
            href = f"{_address(request, chosen)}/files?{urlencode(query)}"
            links.append(Link(rel="next", href=href))
        content = [
            DeliveryFileView(
                position=file.position,
                file_id=file.file_id,
                member=file.member,
                bytes=file.size,
                md5=file.md5,
            )
            for file in files[:size]
        ]
        missing = None
        if chosen.delivery.partial and not links:
            missing = [
                MissingFileView.of(file)
                for file in await self._tracking.missing(chosen.delivery.id, limit=_MAX_PAGE_SIZE)
            ]
        return shown(DeliveryFiles(content=content, missing=missing or None, links=links))

    async def cancel(self, request: web.Request) -> web.Response:
        """End a delivery that has not ended."""
        actor, reason = request[ACTOR], read(request, CancelQuery).reason or ""
        await find(request, self._tracking)
        delivery = await self._interventions.cancel(
            actor, request.match_info["correlation_id"], user=own_only(actor), reason=reason
        )
        return await self._answer(request, status=200 if delivery.state.ended else 202)

    async def retry(self, request: web.Request) -> web.Response:
        """Try a delivery again."""
        actor = request[ACTOR]
        await find(request, self._tracking)
        await self._interventions.retry(
            actor,
            request.match_info["correlation_id"],
            user=own_only(actor),
            force=read(request, RetryQuery).force,
        )
        return await self._answer(request, status=202)

    async def remove(self, request: web.Request) -> web.Response:
        """Let the content of a delivery be removed from its target."""
        actor = request[ACTOR]
        chosen = choose(request, await find(request, self._tracking)).delivery
        removed = await self._interventions.remove(
            actor, chosen.correlation_id, delivery_id=chosen.id, user=own_only(actor)
        )
        if removed.content is not None and removed.content.state is ContentState.REMOVED:
            return web.Response(status=204)
        return shown(self._found(removed, _links(request, removed)), status=202)

    async def _answer(self, request: web.Request, *, status: int) -> web.Response:
        newest = (await find(request, self._tracking))[0]
        return shown(self._found(newest, _links(request, newest)), status=status)

    async def submit(self, request: web.Request) -> web.Response:
        """Take in a request as if it had come over AMQP."""
        actor, body = request[ACTOR], await request_of(request)
        delivery = await self._interventions.submit(
            actor,
            body,
            user=own_only(actor),
            priority=read(request, SubmitQuery).priority,
            key=_key(request),
        )
        tracked = await self._tracking.one(actor.tenant, delivery)
        if tracked is None:
            raise NotPossibleError(
                "the request was denied, as its client was told over AMQP, or its delivery is no "
                "longer kept; to ask again, take another Idempotency-Key"
            )
        where = _address(request, tracked)
        answer = self._found(tracked, [Link(rel="self", href=where)])
        return shown(answer, status=202, headers={"Location": where})

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        always = schemas.errors(401, 403, 429, 503)
        by_name = (schemas.path("correlation_id", "Correlation id of the delivery."),)
        by_id = (schemas.path("id", "Id of the delivery.", {"format": "uuid"}),)
        found = {200: schemas.answer("The delivery.", DeliveryFound)}
        taken = {202: schemas.answer("It is taken in.", DeliveryFound)}
        ends_later = {
            202: schemas.answer(
                "It is being completed: it ends when that has failed, and is done if it has not.",
                DeliveryFound,
            )
        }
        asked = {202: schemas.answer("It is taken in, now or before.", DeliveryFound)}
        return [
            Endpoint(
                method="GET",
                path="/deliveries",
                operation="listDeliveries",
                handler=self.listing,
                summary="Deliveries of the tenant, the newest first; "
                "a REGISTERED_USER sees their own",
                tag="deliveries",
                roles=USERS | READERS,
                query=ListingQuery,
                responses={200: schemas.answer("A page.", Deliveries)}
                | schemas.errors(422)
                | always,
            ),
            Endpoint(
                method="POST",
                path="/deliveries",
                operation="submitDelivery",
                handler=self.submit,
                summary="Ask for a delivery, as over AMQP; responses are sent over AMQP, too, "
                "but what is refused is answered here alone",
                tag="deliveries",
                roles=USERS,
                parameters=(
                    {
                        "name": "Idempotency-Key",
                        "in": "header",
                        "description": "Names this request: sent again with the same key and "
                        "body, it is answered with the same delivery, also after its end. (Without "
                        "one, the same body is, while its delivery is active.)",
                        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                    },
                ),
                query=SubmitQuery,
                body=schemas.json_body("DeliveryRequest"),
                responses=asked | schemas.errors(400, 408, 409, 413, 415, 422) | always,
            ),
            Endpoint(
                method="GET",
                path="/deliveries/{correlation_id}",
                operation="getDelivery",
                handler=self.one,
                summary="All that is known of a delivery: states, times, attempts, cause, result",
                tag="deliveries",
                roles=USERS | READERS,
                parameters=by_name,
                query=WhichQuery,
                responses=found | schemas.errors(404) | always,
            ),
            Endpoint(
                method="GET",
                path="/deliveries/by-id/{id}",
                operation="getDeliveryById",
                handler=self.one,
                summary="The same of the delivery with an id: also where no path can hold its "
                "correlation id, such as `..` and `events`",
                tag="deliveries",
                roles=USERS | READERS,
                parameters=by_id,
                responses=found | schemas.errors(404) | always,
            ),
            *(
                Endpoint(
                    method="GET",
                    path=f"{path}/files",
                    operation=operation,
                    handler=self.files,
                    summary="Its files, as they are in the archive",
                    tag="deliveries",
                    roles=USERS | READERS,
                    parameters=named,
                    query=query,
                    responses={200: schemas.answer("A page.", DeliveryFiles)}
                    | schemas.errors(404, 422)
                    | always,
                )
                for path, operation, named, query in (
                    ("/deliveries/{correlation_id}", "listDeliveryFiles", by_name, FilesQuery),
                    ("/deliveries/by-id/{id}", "listDeliveryFilesById", by_id, PositionQuery),
                )
            ),
            Endpoint(
                method="POST",
                path="/deliveries/{correlation_id}/cancel",
                operation="cancelDelivery",
                handler=self.cancel,
                summary="End it now; its client is told ERROR; a REGISTERED_USER ends their own",
                tag="deliveries",
                roles=USERS,
                parameters=by_name,
                query=CancelQuery,
                responses=found | ends_later | schemas.errors(404, 409, 422) | always,
            ),
            *(
                Endpoint(
                    method="DELETE",
                    path=f"{path}/content",
                    operation=operation,
                    handler=self.remove,
                    summary="Remove what was delivered from its target; a REGISTERED_USER, "
                    "their own",
                    tag="deliveries",
                    roles=USERS,
                    parameters=named,
                    query=query,
                    responses={
                        202: schemas.answer("It is being removed.", DeliveryFound),
                        204: {"description": "It is removed."},
                    }
                    | schemas.errors(404, 409)
                    | always,
                )
                for path, operation, named, query in (
                    ("/deliveries/{correlation_id}", "removeContent", by_name, WhichQuery),
                    ("/deliveries/by-id/{id}", "removeContentById", by_id, None),
                )
            ),
            Endpoint(
                method="POST",
                path="/deliveries/{correlation_id}/retry",
                operation="retryDelivery",
                handler=self.retry,
                summary="Try again: at once what waits for it, by a new request what ended in "
                "ERROR; a REGISTERED_USER their own",
                tag="deliveries",
                roles=USERS,
                parameters=by_name,
                query=RetryQuery,
                responses=taken | schemas.errors(404, 409, 422) | always,
            ),
        ]


async def request_of(request: web.Request) -> dict[str, Any]:
    """Return the request for a delivery that a body holds. Raises InvalidRequestError."""
    body = await json_of(request)
    if not isinstance(body, dict):
        raise InvalidRequestError(["the body must be an object: {correlationId, order, …}"])
    flaw = flaw_of(body)
    if flaw is not None:
        raise InvalidRequestError([f"the body {flaw}"])
    return body


def _key(request: web.Request) -> str | None:
    """Return what the caller calls this request, so that it counts once; None: nothing."""
    given = request.headers.getall("Idempotency-Key", [])
    if not given:
        return None
    if len(given) > 1 or not 0 < len(given[0]) <= _MAX_KEY or not given[0].isprintable():
        raise InvalidRequestError(
            [f"Idempotency-Key must be one, printable, of at most {_MAX_KEY} characters"]
        )
    return given[0]


def _after(at: datetime, delivery: UUID) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {delivery}".encode()).decode().rstrip("=")


def choose(request: web.Request, found: Sequence[Tracked]) -> Tracked:
    """Return the delivery that the query names, or the newest. Raises UnknownDeliveryError."""
    wanted = request.match_info.get("id") or read(request, WhichQuery).id
    if not wanted:
        return found[0]
    for tracked in found:
        if str(tracked.delivery.id) == wanted.lower():
            return tracked
    raise UnknownDeliveryError(f"no {found[0].delivery} has this id")


def _address(request: web.Request, tracked: Tracked) -> str:
    """Return the path of a delivery: by its correlation id, where that can be in one."""
    base = f"{request.path.partition('/deliveries')[0]}/deliveries"
    name = tracked.delivery.correlation_id
    if name in _UNNAMEABLE:
        return f"{base}/by-id/{tracked.delivery.id}"
    return f"{base}/{quote(name, safe='')}"


def _links(request: web.Request, tracked: Tracked) -> list[Link]:
    base = _address(request, tracked)
    if tracked.delivery.correlation_id in _UNNAMEABLE:  # looked at here, steered from a shell
        return [Link(rel="self", href=base), Link(rel="files", href=f"{base}/files")]
    ends = tracked.delivery.ending is not None  # by itself, and soon
    return [
        Link(rel="self", href=f"{base}?id={tracked.delivery.id}"),
        Link(rel="files", href=f"{base}/files?id={tracked.delivery.id}"),
        Link(rel="events", href=f"{base}/events?id={tracked.delivery.id}"),
        *([] if tracked.ended or ends else [Link(rel="cancel", href=f"{base}/cancel")]),
        *(
            []
            if ends or (tracked.delivery.state is State.DONE and not _is_removed(tracked))
            else [Link(rel="retry", href=f"{base}/retry")]
        ),
        *(
            [Link(rel="remove", href=f"{base}/content?id={tracked.delivery.id}")]
            if tracked.delivery.state is State.DONE and not _is_removed(tracked)
            else []
        ),
    ]


def _is_removed(tracked: Tracked) -> bool:
    return tracked.content is not None and tracked.content.state is ContentState.REMOVED


def _timings(steps: Sequence[Step]) -> dict[str, float]:
    """Return the seconds spent in each state that was left."""
    spent: dict[str, float] = {}
    for step, following in pairwise(step for step in steps if step.news is None):
        seconds = (following.at - step.at).total_seconds()
        spent[step.state.value] = round(spent.get(step.state.value, 0) + seconds, 3)
    return spent


def components() -> dict[str, Any]:
    """Return the schema of a request over HTTP: as over AMQP, but for its correlation id."""
    request = DeliveryRequestDtoEvent.model_json_schema(
        by_alias=True, ref_template="#/components/schemas/{model}"
    )
    inner = request.pop("$defs", {})
    request["required"] = [name for name in request["required"] if name != "correlationId"]
    request["properties"]["correlationId"]["description"] += (
        " Ids of a REGISTERED_USER begin as GET /me tells; left out, they are given one. "
        "Others must choose one."
    )
    return {"DeliveryRequest": request, **inner}
