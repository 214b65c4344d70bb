"""How the endpoints of `/deliveries` are described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.delivery.messages import DeliveryRequestDtoEvent
from app.delivery.states import State
from web import schemas
from web.endpoint import USERS, Endpoint, Handler

_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer"}


@dataclass(frozen=True, kw_only=True)
class Described:
    """The handlers, and their limits."""

    listing: Handler
    one: Handler
    files: Handler
    cancel: Handler
    retry: Handler
    submit: Handler
    largest_page: int


def components() -> dict[str, Any]:
    """Return the schemas of what these endpoints take and answer."""
    state = {"enum": [one.value for one in State]}
    delivery = {
        "type": "object",
        "required": ["id", "tenant", "correlationId", "state", "user", "target", "requestedAt"],
        "properties": {
            **dict.fromkeys(
                ("id", "tenant", "correlationId", "user", "target", "originApp", "archiveName"),
                _TEXT,
            ),
            **dict.fromkeys(("worker", "url", "md5", "errorType", "errorMessage"), _TEXT),
            "lastCause": {
                "type": "string",
                "description": "Why the last attempt was given up, or why none begins.",
            },
            "state": state,
            **dict.fromkeys(("requestedAt", "expiresAt", "updatedAt", "finishedAt"), _TIME),
            "stateSince": _TIME | {"description": "However often it was tried there."},
            "nextAttemptAt": _TIME,
            **dict.fromkeys(("priority", "orderId", "totalSubOrders", "files", "attempt"), _COUNT),
            "bytes": {"type": "integer", "description": "Of the files together."},
            "archiveBytes": _COUNT,
            "progress": {"$ref": "#/components/schemas/Progress"},
        },
    }
    links = {"type": "array", "items": {"type": "object"}}
    request = DeliveryRequestDtoEvent.model_json_schema(
        by_alias=True, ref_template="#/components/schemas/{model}"
    )
    inner = request.pop("$defs", {})
    request["required"] = [name for name in request["required"] if name != "correlationId"]
    request["properties"]["correlationId"]["description"] += (
        " Ids of a REGISTERED_USER begin as GET /me tells; left out, they are given one. "
        "Others must choose one."
    )
    return {
        "Delivery": delivery,
        "Deliveries": {
            "type": "object",
            "required": ["content", "links"],
            "properties": {
                "content": {"type": "array", "items": {"$ref": "#/components/schemas/Delivery"}},
                "links": links,
            },
        },
        "DeliveryFound": {
            "type": "object",
            "required": ["content", "links"],
            "properties": {"content": {"$ref": "#/components/schemas/Delivery"}, "links": links},
        },
        "DeliveryFiles": {
            "type": "object",
            "required": ["content", "links"],
            "properties": {
                "content": {"type": "array", "items": {"type": "object"}},
                "links": links,
            },
        },
        "Progress": {
            "type": "object",
            "required": ["phase", "attempt", "bytesDone", "bytesTotal", "filesDone", "filesTotal"],
            "properties": {
                "phase": _TEXT,
                **dict.fromkeys(("attempt", "bytesDone", "bytesTotal"), _COUNT),
                **dict.fromkeys(("filesDone", "filesTotal"), _COUNT),
                "bytesPerSecond": {"type": "number"},
                "secondsLeft": {"type": "number", "description": "Estimated, at that rate."},
            },
        },
        "DeliveryRequest": request,
        **inner,
    }


def described(handlers: Described) -> list[Endpoint]:
    """Return the endpoints."""
    always = schemas.errors(401, 403, 429, 503)
    one = (schemas.path("correlation_id", "Correlation id of the delivery."),)
    which = schemas.query("id", "Which, where a correlation id was used again.", _TEXT)
    size = schemas.query(
        "size",
        "Entries at most.",
        {"type": "integer", "minimum": 1, "maximum": handlers.largest_page},
    )
    after = schemas.query(
        "after",
        "Position after which the page begins.",
        {"type": "integer", "minimum": -1, "maximum": 2**31 - 1},
    )
    by_id = (schemas.path("id", "Id of the delivery.", {"format": "uuid"}),)
    found = {200: schemas.answer("The delivery.", "DeliveryFound")}
    taken = {202: schemas.answer("It is taken in.", "DeliveryFound")}
    asked = {202: schemas.answer("It is taken in, now or before.", "DeliveryFound")}
    return [
        Endpoint(
            method="GET",
            path="/deliveries",
            handler=handlers.listing,
            summary="Deliveries of the tenant, the newest first; a REGISTERED_USER sees their own",
            tag="deliveries",
            roles=USERS,
            parameters=(
                schemas.query(
                    "state",
                    "Only these.",
                    {"type": "array", "items": {"enum": [one.value for one in State]}},
                ),
                schemas.query("user", "Only of this ordering user.", _TEXT),
                schemas.query("since", "Requested then or later.", _TIME),
                schemas.query("until", "Requested earlier.", _TIME),
                schemas.query("text", "In correlation id, archive name or cause.", _TEXT),
                size,
                schemas.query("after", "Where the page before ended: from its link next.", _TEXT),
            ),
            responses={200: schemas.answer("A page.", "Deliveries")} | schemas.errors(422) | always,
        ),
        Endpoint(
            method="POST",
            path="/deliveries",
            handler=handlers.submit,
            summary="Ask for a delivery, as over AMQP; responses are sent over AMQP, too, "
            "but what is refused is answered here alone",
            tag="deliveries",
            roles=USERS,
            parameters=(
                schemas.query(
                    "priority",
                    "255 first; 1 for a REGISTERED_USER.",
                    {"type": "integer", "minimum": 1, "maximum": 255},
                ),
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "description": "Names this request: sent again with the same key and body, it "
                    "is answered with the same delivery, also after its end. (Without one, the "
                    "same body is, while its delivery is active.)",
                    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                },
            ),
            body=schemas.json_body("DeliveryRequest"),
            responses=asked | schemas.errors(400, 408, 409, 413, 415, 422) | always,
        ),
        Endpoint(
            method="GET",
            path="/deliveries/{correlation_id}",
            handler=handlers.one,
            summary="All that is known of a delivery: states, times, attempts, cause, result",
            tag="deliveries",
            roles=USERS,
            parameters=(*one, which),
            responses=found | schemas.errors(404) | always,
        ),
        Endpoint(
            method="GET",
            path="/deliveries/by-id/{id}",
            handler=handlers.one,
            summary="The same of the delivery with an id: also where no path can hold its "
            "correlation id, such as `..` and `events`",
            tag="deliveries",
            roles=USERS,
            parameters=by_id,
            responses=found | schemas.errors(404) | always,
        ),
        *(
            Endpoint(
                method="GET",
                path=f"{path}/files",
                handler=handlers.files,
                summary="Its files, as they are in the archive",
                tag="deliveries",
                roles=USERS,
                parameters=(*parameters, size, after),
                responses={200: schemas.answer("A page.", "DeliveryFiles")}
                | schemas.errors(404, 422)
                | always,
            )
            for path, parameters in (
                ("/deliveries/{correlation_id}", (*one, which)),
                ("/deliveries/by-id/{id}", by_id),
            )
        ),
        Endpoint(
            method="POST",
            path="/deliveries/{correlation_id}/cancel",
            handler=handlers.cancel,
            summary="End it now; its client is told ERROR; a REGISTERED_USER ends their own",
            tag="deliveries",
            roles=USERS,
            parameters=(*one, schemas.query("reason", "Told to the client.", _TEXT)),
            responses=found | schemas.errors(404, 409, 422) | always,
        ),
        Endpoint(
            method="POST",
            path="/deliveries/{correlation_id}/retry",
            handler=handlers.retry,
            summary="Try again: at once what waits for it, by a new request what ended in ERROR; "
            "a REGISTERED_USER their own",
            tag="deliveries",
            roles=USERS,
            parameters=one,
            responses=taken | schemas.errors(404, 409) | always,
        ),
    ]
