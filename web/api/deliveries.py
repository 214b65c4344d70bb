"""`/deliveries`: look at deliveries, cancel one, try one again, ask for one."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from aiohttp import web

from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.progress import Progress
from app.delivery.states import State
from app.errors import InvalidRequestError, NotPossibleError, UnknownDeliveryError
from app.tenants.values import Actor
from app.usecases.intervene import Interventions
from app.validation import flaw_of
from app.views.deliveries import Filter, Step, Tracked, Tracking, to_json
from app.views.progress import in_json
from web import parameters
from web.answers import json_of
from web.api.deliveries_schemas import Described, described
from web.endpoint import ACTOR, ONLY_OWN, Endpoint

_PAGE = 50
_LARGEST_PAGE = 500
_LONGEST_ID = 255  # characters of a correlation id
_LONGEST_KEY = 255  # characters of an Idempotency-Key
# Correlation ids that no path can name: they are folded on the way, or name something else.
_UNNAMEABLE = frozenset({".", "..", "events", "by-id"})

Find = Callable[[Delivery], Progress | None]


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
        one = await _by_id(actor.tenant, name, tracking)
        found = [] if one is None else await tracking.of(actor.tenant, one.delivery.correlation_id)
    else:
        name, one, found = request.match_info["correlation_id"], None, []
        if len(name) <= _LONGEST_ID and "\0" not in name:
            found = await tracking.of(actor.tenant, name)
    found = [seen for seen in found if user is None or seen.delivery.user == user]
    if not found or (one is not None and one.delivery.id not in {f.delivery.id for f in found}):
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


class DeliveriesApi:
    """The handlers. `progress` tells how far a transfer is, if that is known."""

    def __init__(self, tracking: Tracking, interventions: Interventions, progress: Find) -> None:
        self._tracking = tracking
        self._interventions = interventions
        self._progress = progress

    async def listing(self, request: web.Request) -> web.Response:
        """Return deliveries, the newest first, page after page."""
        actor = request[ACTOR]
        own = own_only(actor)
        wanted = Filter(
            tenants=[actor.tenant],
            states=_states(request),
            # Not `or`: who has no name owns nothing, which is not the same as everything.
            user=parameters.text(request, "user") if own is None else own,
            since=parameters.time(request, "since"),
            until=parameters.time(request, "until"),
            text=parameters.text(request, "text"),
        )
        size = parameters.number(request, "size", _PAGE, largest=_LARGEST_PAGE)
        found = await self._tracking.browse(wanted, before=_place(request), limit=size + 1)
        links = []
        if len(found) > size:
            last = found[size - 1].delivery
            query = [(name, v) for name, v in request.query.items() if name != "after"]
            query.append(("after", _after(last.requested_at, last.id)))
            links.append({"rel": "next", "href": f"{request.path}?{urlencode(query)}"})
        content = [self._shown(one) for one in found[:size]]
        return web.json_response({"content": content, "links": links})

    def _shown(self, tracked: Tracked) -> dict[str, Any]:
        shown = to_json(tracked)
        progress = None
        if tracked.delivery.state is State.TRANSFERRING:
            progress = self._progress(tracked.delivery)
        if progress is not None and progress.attempt == tracked.delivery.attempt:
            shown["progress"] = in_json(progress)
        return shown

    async def one(self, request: web.Request) -> web.Response:
        """Return all that is known of a delivery."""
        found = await find(request, self._tracking)
        chosen = choose(request, found)
        steps = await self._tracking.steps(chosen.delivery.id)
        shown = self._shown(chosen) | {
            "order": chosen.delivery.order,
            "history": [_step(step) for step in steps],
            "timings": _timings(steps),
            "earlier": [
                {"id": str(other.delivery.id), "state": other.delivery.state.value}
                for other in found
                if other is not chosen
            ],
        }
        return web.json_response({"content": shown, "links": _links(request, chosen)})

    async def files(self, request: web.Request) -> web.Response:
        """Return the files of a delivery, page after page."""
        chosen = choose(request, await find(request, self._tracking))
        size = parameters.number(request, "size", _PAGE, largest=_LARGEST_PAGE)
        after = parameters.number(request, "after", -1, least=-1, largest=2**31 - 1)
        files = await self._tracking.manifest(chosen.delivery.id, after=after, limit=size + 1)
        links = []
        if len(files) > size:
            query = {"id": str(chosen.delivery.id), "size": size, "after": files[size - 1].position}
            href = f"{_address(request, chosen)}/files?{urlencode(query)}"
            links.append({"rel": "next", "href": href})
        return web.json_response({"content": [_file(f) for f in files[:size]], "links": links})

    async def cancel(self, request: web.Request) -> web.Response:
        """End a delivery that has not ended."""
        actor, reason = request[ACTOR], parameters.text(request, "reason") or ""
        await find(request, self._tracking)
        await self._interventions.cancel(
            actor, request.match_info["correlation_id"], user=own_only(actor), reason=reason
        )
        return await self._answer(request, status=200)

    async def retry(self, request: web.Request) -> web.Response:
        """Try a delivery again."""
        actor = request[ACTOR]
        await find(request, self._tracking)
        await self._interventions.retry(
            actor, request.match_info["correlation_id"], user=own_only(actor)
        )
        return await self._answer(request, status=202)

    async def _answer(self, request: web.Request, *, status: int) -> web.Response:
        newest = (await find(request, self._tracking))[0]
        body = {"content": self._shown(newest), "links": _links(request, newest)}
        return web.json_response(body, status=status)

    async def submit(self, request: web.Request) -> web.Response:
        """Take in a request as if it had come over AMQP."""
        actor, body = request[ACTOR], await json_of(request)
        if not isinstance(body, dict):
            raise InvalidRequestError(["the body must be an object: {correlationId, order, …}"])
        flaw = flaw_of(body)
        if flaw is not None:
            raise InvalidRequestError([f"the body {flaw}"])
        delivery = await self._interventions.submit(
            actor,
            body,
            user=own_only(actor),
            priority=parameters.number(request, "priority", 1, largest=255),
            key=_key(request),
        )
        tracked = await self._tracking.one(actor.tenant, delivery)
        if tracked is None:
            raise NotPossibleError(
                "the request was denied, as its client was told over AMQP, or its delivery is no "
                "longer kept; to ask again, take another Idempotency-Key"
            )
        where = _address(request, tracked)
        return web.json_response(
            {"content": self._shown(tracked), "links": [{"rel": "self", "href": where}]},
            status=202,
            headers={"Location": where},
        )

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return described(
            Described(
                listing=self.listing,
                one=self.one,
                files=self.files,
                cancel=self.cancel,
                retry=self.retry,
                submit=self.submit,
                largest_page=_LARGEST_PAGE,
            )
        )


def _key(request: web.Request) -> str | None:
    """Return what the caller calls this request, so that it counts once; None: nothing."""
    given = request.headers.getall("Idempotency-Key", [])
    if not given:
        return None
    if len(given) > 1 or not 0 < len(given[0]) <= _LONGEST_KEY or not given[0].isprintable():
        raise InvalidRequestError(
            [f"Idempotency-Key must be one, printable, of at most {_LONGEST_KEY} characters"]
        )
    return given[0]


def _states(request: web.Request) -> Sequence[State] | None:
    given = request.query.getall("state", [])
    unknown = [name for name in given if name not in State.__members__]
    if unknown:
        raise InvalidRequestError([f"state must be one of {', '.join(State)}"])
    return [State(name) for name in given] or None


def _after(at: datetime, delivery: UUID) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {delivery}".encode()).decode().rstrip("=")


def _place(request: web.Request) -> tuple[datetime, UUID] | None:
    given = request.query.get("after")
    if not given:
        return None
    try:
        padded = given + "=" * (-len(given) % 4)
        at, _, delivery = base64.urlsafe_b64decode(padded.encode()).decode().partition(" ")
        return parameters.moment(at), UUID(delivery)
    except (ValueError, binascii.Error):
        raise InvalidRequestError(["after must be what a link named next has"]) from None


def choose(request: web.Request, found: Sequence[Tracked]) -> Tracked:
    """Return the delivery that the query names, or the newest. Raises UnknownDeliveryError."""
    wanted = request.match_info.get("id") or request.query.get("id")
    if not wanted:
        return found[0]
    for one in found:
        if str(one.delivery.id) == wanted.lower():
            return one
    raise UnknownDeliveryError(f"no {found[0].delivery} has this id")


def _address(request: web.Request, tracked: Tracked) -> str:
    """Return the path of a delivery: by its correlation id, where that can be in one."""
    base = f"{request.path.partition('/deliveries')[0]}/deliveries"
    name = tracked.delivery.correlation_id
    if name in _UNNAMEABLE:
        return f"{base}/by-id/{tracked.delivery.id}"
    return f"{base}/{quote(name, safe='')}"


def _links(request: web.Request, tracked: Tracked) -> list[dict[str, str]]:
    base = _address(request, tracked)
    if tracked.delivery.correlation_id in _UNNAMEABLE:  # looked at here, steered from a shell
        return [{"rel": "self", "href": base}, {"rel": "files", "href": f"{base}/files"}]
    return [
        {"rel": "self", "href": f"{base}?id={tracked.delivery.id}"},
        {"rel": "files", "href": f"{base}/files?id={tracked.delivery.id}"},
        {"rel": "events", "href": f"{base}/events?id={tracked.delivery.id}"},
        *([] if tracked.ended else [{"rel": "cancel", "href": f"{base}/cancel"}]),
        *(
            []
            if tracked.delivery.state is State.DONE
            else [{"rel": "retry", "href": f"{base}/retry"}]
        ),
    ]


def _step(step: Step) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "state": step.state.value,
        "attempt": step.attempt,
        "at": step.at.isoformat(timespec="milliseconds"),
    }
    return shown if step.cause is None else shown | {"cause": step.cause}


def _timings(steps: Sequence[Step]) -> dict[str, float]:
    """Return the seconds spent in each state that was left."""
    spent: dict[str, float] = {}
    for step, following in pairwise(steps):
        seconds = (following.at - step.at).total_seconds()
        spent[step.state.value] = round(spent.get(step.state.value, 0) + seconds, 3)
    return spent


def _file(file: ManifestFile) -> dict[str, Any]:
    shown = {
        "position": file.position,
        "fileId": file.file_id,
        "member": file.member,
        "bytes": file.size,
        "md5": file.md5,
    }
    return {name: value for name, value in shown.items() if value is not None}
