"""The console's files."""

from __future__ import annotations

import re

import pytest
from multidict import CIMultiDictProxy

from tests.web.conftest import Api
from web.endpoint import PREFIX


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_the_page_and_all_that_it_names_are_served(api: Api, prefix: str) -> None:
    answer = await api.client.get(f"{prefix}/console")
    assert (answer.status, answer.content_type) == (200, "text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    pending = set(re.findall(r'(?:src|href)="(console/[^"]+)"', await answer.text()))
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        answer = await api.client.get(f"{prefix}/{name}")
        assert answer.status == 200, name
        text = await answer.text()
        if name.endswith(".js"):
            assert answer.content_type == "text/javascript"
            assert "innerHTML =" not in text  # what strangers sent stays text
            found = {
                f"console/{other}"
                for other in re.findall(r'(?:from |import\()"\./([\w.-]+)"', text)
            }
            pending |= found - seen
    assert {"console/app.js", "console/api.js", "console/letters.js"} <= seen


async def test_a_file_that_has_not_changed_is_not_sent_again(api: Api) -> None:
    answer = await api.client.get("/console/app.js")
    again = await api.client.get(
        "/console/app.js", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert (again.status, await again.read()) == (304, b"")


async def test_a_file_is_sent_compressed_to_those_who_take_that(api: Api) -> None:
    async def asked(encodings: str, **headers: str) -> tuple[int, CIMultiDictProxy[str], str]:
        answer = await api.client.get(
            "/console/app.js", headers={"Accept-Encoding": encodings, **headers}
        )
        return answer.status, answer.headers, await answer.text()

    _, plain, text = await asked("identity")
    _, packed, unpacked = await asked("deflate, gzip")
    assert "Content-Encoding" not in plain
    assert packed["Content-Encoding"] == "gzip"
    assert plain["Vary"] == packed["Vary"] == "Accept-Encoding"
    assert unpacked == text
    assert int(packed["Content-Length"]) < int(plain["Content-Length"]) / 2
    # Other bytes have another tag: what is kept of one is none of the other.
    assert packed["ETag"] != plain["ETag"]
    for headers in (plain, packed):
        again, kept, _ = await asked("gzip", **{"If-None-Match": headers["ETag"]})
        assert again == (304 if headers is packed else 200)
        assert kept["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("encodings", "packed"),
    [
        ("gzip;q=0", False),
        ("GZIP ; Q=0.000, br", False),
        ("gzip;q=0.001", True),
        ("br;q=0, gzip;q=1.0", True),
    ],
)
async def test_a_file_is_not_compressed_for_those_who_refuse_that(
    api: Api, encodings: str, *, packed: bool
) -> None:
    answer = await api.client.get("/console/app.js", headers={"Accept-Encoding": encodings})
    assert ("Content-Encoding" in answer.headers) is packed


@pytest.mark.parametrize("name", ["..%2fdocs.css", "nothing.js", ""])
async def test_nothing_else_is_served(api: Api, name: str) -> None:
    assert (await api.client.get(f"/console/{name}")).status == 404
