"""What the stand-in rs-order answers over HTTP: sentences of the contract, section 2.

Its life without a socket is in tests/unit/test_rs_order.py, what it says over AMQP in
test_rs_order_events.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import jwt
import pytest
from aiohttp import web

from compose.embedded.stack import TENANT, USER
from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import Catalog, File
from compose.rs_order.faults import Faults
from compose.rs_order.order import Order
from compose.rs_order.service import Service
from compose.rs_order.switches import Switches
from tests.conftest import noise
from tests.servers import SECRET, SIGNER

MIB = 1024 * 1024
HOUR = 3600


@dataclass(kw_only=True)
class Http:
    """The stand-in over HTTP alone, with a clock that stands still, and one that asks it."""

    service: Service
    behaviour: Behaviour
    session: aiohttp.ClientSession
    folder: Path

    def order(self, files: Mapping[str, bytes], *, user: str = USER, **switches: Any) -> Order:
        """Order files; what is restored at once, is."""
        self.behaviour.switches = Switches().changed(switches)
        folder = self.folder / uuid4().hex
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        order = self.service.orders.grant(
            tenant=TENANT,
            user=user,
            correlation_id="c",
            files=[
                File(product_id=Path(name).parts[0], path=folder / name, data_type="RAWDATA")
                for name in files
            ],
        )
        self.service.clock.run_due()
        return order

    @contextlib.asynccontextmanager
    async def asking(
        self, path: str, *, method: str = "GET", user: str = USER, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        token = options.pop("token", None) or SIGNER.token(options.pop("tenant", TENANT), user)
        headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
        async with self.session.request(method, path, headers=headers, **options) as response:
            yield response

    async def status(self, path: str, **options: Any) -> int:
        async with self.asking(path, **options) as response:
            await response.read()
            return response.status

    async def body(self, path: str, **options: Any) -> Any:
        async with self.asking(path, **options) as response:
            return await response.json()

    async def listed(self, path: str) -> list[str]:
        """Return the names that the first page of a list has."""
        return [entry["content"]["filename"] for entry in (await self.body(path))["content"]]


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    behaviour = Behaviour()
    service = Service(
        Catalog(tmp_path), behaviour, lambda *_: None, secret=SECRET, base=lambda: 0.0
    )
    runner = web.AppRunner(service.application(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(url) as session:
        yield Http(service=service, behaviour=behaviour, session=session, folder=tmp_path)
    await runner.cleanup()


def of(order: Order) -> str:
    return f"/orders/{order.order_id}/files/available"


def of_suborder(order: Order, number: int = 0) -> str:
    suborder = order.suborders[number].suborder_id
    return f"/orders/{order.order_id}/filesTask/{suborder}/files/available"


# Who asks


async def test_everything_is_asked_as_the_ordering_user(http: Http) -> None:
    order = http.order({"P/a": b"a"})
    paths = (
        of(order),
        of_suborder(order),
        f"/orders/{order.order_id}/dataset/{order.datasets[0].task_id}/files",
        f"/user/orders/{order.order_id}",
        "/orders/files/1",
    )
    for path in paths:
        assert await http.status(path, user="other@cnes.fr") == 403
        assert await http.status(path, tenant="swot") == 403
        assert await http.status(path, token="none") == 401
    assert order.count(*order.suborders[0].counts) == 1
    assert await http.status(of(order)) == 200


async def test_a_token_is_signed_by_hs512_and_has_its_claims(http: Http) -> None:
    order = http.order({"P/a": b"a"})
    claims = jwt.decode(SIGNER.token(TENANT, USER), SECRET, algorithms=["HS512"])
    for name in ("tenant", "sub", "email", "role", "exp"):
        without = {key: value for key, value in claims.items() if key != name}
        token = jwt.encode(without, SECRET, algorithm="HS512")
        assert await http.status(of(order), token=token) == 401
    assert await http.status(of(order), token=jwt.encode(claims, SECRET, algorithm="HS256")) == 401


# Lists


async def test_the_files_of_an_order_come_in_pages(http: Http) -> None:
    content = noise(1000)
    order = http.order({"P/a.tif": content, "P/b": b"b", "Q/c": b"c"})
    first = await http.body(of(order), params={"page": 0, "size": 2, "sort": "id,asc"})
    second = await http.body(of(order), params={"page": 1, "size": 2, "sort": "id,asc"})
    assert first["metadata"] == {"size": 2, "totalElements": 3, "totalPages": 2, "number": 0}
    assert [link["rel"] for link in first["links"]] == ["next"]
    assert second["links"] == []
    assert first["content"][0] == {
        "content": {
            "id": 1,
            "productId": "P",
            "version": 1,
            "downloadUrl": "http://192.0.2.1/elsewhere/1",
            "mimeType": "image/tiff",
            "checksum": hashlib.md5(content).hexdigest(),
            "filesize": 1000,
            "filename": "a.tif",
        },
        "links": [],
    }
    assert [entry["content"]["id"] for entry in second["content"]] == [3]


async def test_the_files_of_one_suborder_come_with_the_same_parameters_and_body(
    http: Http,
) -> None:
    order = http.order({"P/a": b"a", "Q/b": b"b", "Q/c": b"c"}, datasets="product")
    assert await http.listed(of_suborder(order, 0)) == ["a"]
    page = await http.body(of_suborder(order, 1), params={"page": 1, "size": 1})
    assert page["metadata"] == {"size": 1, "totalElements": 2, "totalPages": 2, "number": 1}


async def test_the_flat_form_has_no_inner_content_and_another_name_for_the_size(
    http: Http,
) -> None:
    order = http.order({"P/a": b"a"}, flat=True)
    (entry,) = (await http.body(of(order)))["content"]
    assert (entry["filename"], entry["fileSize"]) == ("a", 1)
    assert (await http.body(f"/user/orders/{order.order_id}"))["id"] == order.order_id


async def test_a_list_is_206_while_it_is_not_finished(http: Http) -> None:
    order = http.order({"P/a": b"a", "P/b": b"b"}, suborder_files=1, user_places=1)
    assert await http.status(of(order)) == 206
    assert await http.status(of_suborder(order, 0)) == 200
    assert await http.status(of_suborder(order, 1)) == 206
    assert await http.listed(of(order)) == ["a"]
    http.behaviour.switches = http.behaviour.switches.changed({"partial_content": False})
    assert await http.status(of(order)) == 200


async def test_an_order_or_suborder_that_there_is_not_is_404_and_one_without_files_204(
    http: Http,
) -> None:
    order = http.order({})
    assert await http.status(of(order)) == 204
    assert await http.status("/orders/99/files/available") == 404
    full = http.order({"P/a": b"a"})
    assert await http.status(f"/orders/{full.order_id}/filesTask/99/files/available") == 404


async def test_only_available_files_are_listed(http: Http) -> None:
    order = http.order({"P/a": b"a", "P/b": b"b", "P/lost": b""}, unrestorable="lost")
    assert await http.status("/orders/files/1") == 200
    assert await http.listed(of(order)) == ["b"]


@pytest.mark.parametrize("how", ["expired", "deleted", "downloaded"])
async def test_an_expired_deleted_or_wholly_downloaded_order_is_200_with_an_empty_page(
    http: Http, how: str
) -> None:
    order = http.order({"P/a": b"a"})
    if how == "expired":
        http.service.clock.advance(6 * HOUR)
    elif how == "deleted":
        http.service.orders.cancel(order.order_id)
    else:
        assert await http.status("/orders/files/1") == 200
    assert await http.status(of(order)) == 200
    assert await http.listed(of(order)) == []
    if how != "downloaded":
        assert await http.status("/orders/files/1") == 404


# A file


async def test_a_file_is_200_with_its_bytes_and_no_range(http: Http) -> None:
    content = noise(3 * MIB)
    http.order({"P/a": content})
    async with http.asking("/orders/files/1", headers={"Range": "bytes=10-"}) as response:
        assert await response.read() == content
        assert (response.status, response.content_length) == (200, len(content))
        assert "Accept-Ranges" not in response.headers


async def test_an_empty_file_is_read_to_its_end(http: Http) -> None:
    order = http.order({"P/a": b""})
    assert await http.status("/orders/files/1") == 200
    assert order.available() == []
    assert not order.waiting_for_user


@pytest.mark.parametrize(
    ("switches", "faults", "status"),
    [
        ({"restore_seconds": 60}, {}, 202),
        ({}, {"refuse": 403}, 403),
        ({}, {"refuse": 404}, 404),
        ({"unrestorable": "a"}, {}, 422),
        ({}, {"answers_500": 1}, 500),
    ],
)
async def test_a_file_that_is_not_given_is_answered_by_a_status(
    http: Http, switches: dict[str, Any], faults: dict[str, Any], status: int
) -> None:
    http.order({"P/a": b"a"}, **switches)
    http.behaviour.faults = Faults.model_validate(faults)
    assert await http.status("/orders/files/1") == status
    assert await http.status("/orders/files/99") == 404


async def test_a_file_that_has_left_the_cache_is_410(http: Http) -> None:
    http.order({"P/a": b"a"})
    http.service.clock.advance(2 * HOUR)
    assert await http.status("/orders/files/1") == 410


async def test_a_file_above_the_quota_is_429_and_the_body_says_so(http: Http) -> None:
    http.order({"P/a": b"a", "P/b": b"b"}, quota=1)
    assert await http.status("/orders/files/1") == 200
    async with http.asking("/orders/files/2") as response:
        assert response.status == 429
        assert await response.text() == "the quota of 1 downloads is used up"


async def test_a_stream_that_is_closed_early_is_a_download_error_and_can_be_fetched_again(
    http: Http,
) -> None:
    content = noise(40 * MIB)  # more than the buffers of a connection hold
    order = http.order({"P/a": content})
    async with http.asking("/orders/files/1") as response:
        await response.content.readany()
        response.close()
    async with asyncio.timeout(20):
        while order.files[1].open:
            await asyncio.sleep(0)
    assert order.files[1].state == "DOWNLOAD_ERROR"
    async with http.asking("/orders/files/1") as response:
        assert await response.read() == content
    assert order.files[1].state == "DOWNLOAD_ERROR"


async def test_a_second_get_of_a_file_that_is_being_read_is_refused(http: Http) -> None:
    http.order({"P/a": noise(40 * MIB)})
    async with http.asking("/orders/files/1") as first:
        await first.content.readany()
        assert await http.status("/orders/files/1") == 429
        first.close()


# An order


async def test_an_order_says_how_it_stands(http: Http) -> None:
    order = http.order(
        {"P/a": b"aaaa", "P/b": b"bbbb", "Q/c": b"cc", "R/lost": b""},
        datasets="product",
        unrestorable="lost",
        user_places=1,
    )
    told = await http.body(f"/user/orders/{order.order_id}")
    datasets = [dataset.task_id for dataset in order.datasets]
    assert told["content"] == {
        "id": order.order_id,
        "owner": USER,
        "creationDate": "1970-01-01T00:00:00.000+00:00",
        "expirationDate": "1970-01-01T10:00:00.000+00:00",
        "status": "RUNNING",
        "percentCompleted": 80,
        "waitingForUser": True,
        "availableFilesCount": 2,
        "filesInErrorCount": 0,
        "datasetTasks": [
            {"id": datasets[0], "filesCount": 2, "filesSize": 8},
            {"id": datasets[1], "filesCount": 1, "filesSize": 2},
            {"id": datasets[2], "filesCount": 1, "filesSize": 0},
        ],
    }
    for number in (1, 2, 3):
        assert await http.status(f"/orders/files/{number}") == 200
        http.service.clock.run_due()
    told = (await http.body(f"/user/orders/{order.order_id}"))["content"]
    assert (told["status"], told["percentCompleted"]) == ("DONE_WITH_WARNING", 100)
    assert (told["waitingForUser"], told["availableFilesCount"]) == (False, 0)
    assert told["filesInErrorCount"] == 1


async def test_a_dataset_tells_every_file_also_those_that_are_not_restored_yet(
    http: Http,
) -> None:
    order = http.order({"P/a": b"a", "P/b": b"bb"}, suborder_files=1, user_places=1)
    path = f"/orders/{order.order_id}/dataset/{order.datasets[0].task_id}/files"
    entries = [entry["content"] for entry in (await http.body(path))["content"]]
    assert {entry["id"]: entry["state"] for entry in entries} == {1: "AVAILABLE", 2: "PENDING"}
    pending = next(entry for entry in entries if entry["id"] == 2)
    assert pending == {
        "id": 2,
        "state": "PENDING",
        "filesTaskId": order.suborders[1].suborder_id,
        "checksum": hashlib.md5(b"bb").hexdigest(),
        "digestAlgorithm": "MD5",
        "crc32": f"{zlib.crc32(b'bb'):08x}",
        "filesize": 2,
        "filename": "b",
        "productId": "P",
        "version": 1,
        "mimeType": "application/octet-stream",
        "downloadUrl": pending["downloadUrl"],
    }


async def test_a_version_before_2_4_tells_no_crc32_and_may_tell_no_dataset(http: Http) -> None:
    order = http.order({"P/a": b"a"}, crc32=False)
    path = f"/orders/{order.order_id}/dataset/{order.datasets[0].task_id}/files"
    (entry,) = (await http.body(path))["content"]
    assert "crc32" not in entry["content"]
    http.behaviour.switches = Switches(dataset_files=False)
    assert await http.status(path) == 404


@pytest.mark.parametrize("shuffled", [True, False])
async def test_the_pages_of_a_dataset_are_over_unordered_sets(
    http: Http, *, shuffled: bool
) -> None:
    order = http.order({f"P/f{n}": b"" for n in range(10)}, shuffled=shuffled)
    path = f"/orders/{order.order_id}/dataset/{order.datasets[0].task_id}/files"
    ids: list[int] = []
    for number in range(5):
        page = await http.body(path, params={"page": number, "size": 2})
        assert page["metadata"]["totalElements"] == 10
        ids += [entry["content"]["id"] for entry in page["content"]]
    assert (len(set(ids)) < 10) == shuffled
    for _ in range(40):  # asked again, their union has each file
        page = await http.body(path, params={"page": 0, "size": 2})
        ids += [entry["content"]["id"] for entry in page["content"]]
    assert (len(set(ids)) == 10) or not shuffled


async def test_a_retry_is_refused_unless_files_are_in_error(http: Http) -> None:
    order = http.order({"P/a": b"a"})
    path = f"/user/orders/{order.order_id}/retry"
    assert await http.status(path, method="PUT") == 401
    order = http.order({"P/a": b"a"}, unrestorable="a")
    path = f"/user/orders/{order.order_id}/retry"
    assert await http.status(path, method="PUT", user="other@cnes.fr") == 403
    http.behaviour.switches = Switches()
    assert await http.status(path, method="PUT") == 200
    http.service.clock.run_due()
    assert await http.listed(of(order)) == ["a"]
    assert order.status == "DONE"


# Control


async def test_what_is_told_to_the_stand_in_is_checked(http: Http) -> None:
    for path, method, body, sentence in (
        ("/control/switches", "PUT", {"places": 2}, "there is no switch 'places'"),
        ("/control/switches", "PUT", {"user_places": -2}, "user_places: -2 can't be its value"),
        ("/control/switches", "PUT", [], "give a JSON object"),
        ("/control/faults", "PUT", {"refuse": 200}, "refuse"),
        ("/control/clock", "POST", {"advance": -1}, "advance"),
        ("/control/clock", "POST", {"back": 1}, "back"),
    ):
        async with http.asking(path, method=method, json=body) as response:
            assert response.status == 422
            assert sentence in await response.text()


async def test_switches_that_are_not_named_stay_until_all_are_reset(http: Http) -> None:
    await http.body("/control/switches", method="PUT", json={"quota": 3})
    told = await http.body("/control/switches", method="PUT", json={"user_places": 1})
    assert (told["quota"], told["user_places"]) == (3, 1)
    assert await http.body("/control/switches", method="DELETE") == Switches().model_dump()


async def test_time_can_be_let_pass(http: Http) -> None:
    order = http.order({"P/a": b"a"})
    told = await http.body("/control/clock", method="POST", json={"advance": 6 * HOUR})
    assert told == {"now": 6 * HOUR}
    assert order.status == "EXPIRED"
