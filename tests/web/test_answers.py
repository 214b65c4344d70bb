"""Each answer is what its model says: no field more, none less."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from tests.web.conftest import Api, check_answer
from web import schemas
from web.api.workers import Workers
from web.endpoint import Endpoint

_WORKER = {
    "id": "w",
    "version": "1",
    "startedAt": "2026-01-31T12:00:00+00:00",
    "seenAt": "2026-01-31T12:00:00+00:00",
    "alive": True,
    "silentFor": 0.5,
    "slots": 2,
    "running": 0,
}


async def _nothing(_request: web.Request) -> web.Response:
    return web.Response()


def _endpoint() -> Endpoint:
    return Endpoint(
        method="GET",
        path="/workers",
        operation="listWorkers",
        handler=_nothing,
        summary="",
        tag="workers",
        responses={200: schemas.answer("The workers.", Workers)},
    )


def test_an_answer_that_its_model_describes_is_good() -> None:
    check_answer(_endpoint(), web.json_response({"content": [_WORKER]}))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"content": [_WORKER | {"unknown": 1}]}, "Extra inputs"),
        ({"content": [], "links": []}, "Extra inputs"),
        ({"content": [{k: v for k, v in _WORKER.items() if k != "slots"}]}, "Field required"),
        ({"content": [_WORKER | {"slots": "2"}]}, "valid integer"),
    ],
)
def test_an_answer_that_its_model_does_not_describe_is_found(body: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        check_answer(_endpoint(), web.json_response(body))


async def test_operations_have_names_of_their_own(api: Api) -> None:
    described = await (await api.client.get("/openapi.json")).json()
    names = [
        operation["operationId"]
        for operations in described["paths"].values()
        for operation in operations.values()
    ]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.isascii() for name in names)
