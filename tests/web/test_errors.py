"""`/errors`: what each code means, told once to those who have it already."""

from __future__ import annotations

import pytest

from app.codes import CATALOGUE, Code
from tests.web.conftest import Api


async def test_every_code_is_told_to_any_token(api: Api) -> None:
    answer = await api.call("GET", "/errors", role="REGISTERED_USER")
    assert answer.status == 200
    told = {stanza["code"]: stanza for stanza in (await answer.json())["content"]}
    assert list(told) == [code.value for code in Code]
    refused = CATALOGUE[Code.TARGET_REFUSED]
    assert told["TARGET_REFUSED"].items() >= {"do": refused.do, "waiting": "no"}.items()
    assert (await api.client.get("/errors")).status == 401


@pytest.mark.parametrize("said", ["{etag}", '"other", {etag}', "*"])
async def test_a_caller_that_has_it_is_told_so(api: Api, said: str) -> None:
    etag = (await api.call("GET", "/errors")).headers["ETag"]
    headers = {"If-None-Match": said.format(etag=etag)}
    answer = await api.call("GET", "/errors", headers=headers)
    assert (answer.status, await answer.read()) == (304, b"")
    assert answer.headers["ETag"] == etag
    other = await api.call("GET", "/errors", headers={"If-None-Match": '"other"'})
    assert other.status == 200
