"""What rs-order answers over HTTP: orders, their files, and the bytes of those."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import Catalog
from compose.rs_order.downloads import Downloads, Reading, RefusedError
from compose.rs_order.faults import Faults
from compose.rs_order.order import Order, OrderedFile
from compose.rs_order.orders import Orders, RetryRefusedError
from compose.rs_order.pages import Page, Shuffle
from compose.rs_order.states import FileState, OrderStatus, SuborderState
from compose.rs_order.switches import Switches
from compose.rs_order.tokens import claims_of

_CHUNK = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d+)-")


class Rest:
    """Handlers over the orders that were granted."""

    def __init__(
        self,
        orders: Orders,
        downloads: Downloads,
        catalog: Catalog,
        behaviour: Behaviour,
        *,
        secret: str,
    ) -> None:
        self._orders = orders
        self._downloads = downloads
        self._catalog = catalog
        self._behaviour = behaviour
        self._secret = secret
        self._shuffle = Shuffle()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        order = "/orders/{order:\\d+}"
        return [
            web.get(f"{order}/files/available", self.available),
            web.get(f"{order}/filesTask/{{suborder:\\d+}}/files/available", self.available),
            web.get(f"{order}/dataset/{{dataset:\\d+}}/files", self.dataset_files),
            web.get("/orders/files/{file:\\d+}", self.download),
            web.get(f"/user{order}", self.order),
            web.put(f"/user{order}/retry", self.retry),
        ]

    @property
    def _faults(self) -> Faults:
        return self._behaviour.faults

    @property
    def _switches(self) -> Switches:
        return self._behaviour.switches

    # Who asks, and for what

    def _order(self, request: web.Request) -> Order:
        """Return the order that is asked for. Raises 401, 403, 404; 500 when told to."""
        claims = claims_of(request, self._secret)
        order = self._orders.by_id.get(int(request.match_info["order"]))
        if order is None:
            raise web.HTTPNotFound(text="no such order")
        _refuse_stranger(claims, order)
        if self._faults.use("answers_500"):
            raise web.HTTPInternalServerError(text="told to fail")
        return order

    # Orders

    async def order(self, request: web.Request) -> web.Response:
        """`GET /user/orders/{order}`."""
        order = self._order(request)
        if not self._switches.order_facts:
            raise web.HTTPNotFound(text="there is nothing at this path")
        datasets = [
            {"id": dataset.task_id, "filesCount": len(dataset.files), "filesSize": dataset.size}
            for dataset in order.datasets
        ]
        in_error = [FileState.ERROR]
        if self._switches.broken_downloads_count:
            in_error.append(FileState.DOWNLOAD_ERROR)
        return web.json_response(
            self._resource(
                {
                    "id": order.order_id,
                    "owner": order.user,
                    "creationDate": _date(order.created_at),
                    "expirationDate": _date(order.expires_at),
                    "status": order.status,
                    "percentCompleted": order.percent_completed,
                    "waitingForUser": order.waiting_for_user,
                    "availableFilesCount": order.count(FileState.AVAILABLE),
                    "filesInErrorCount": order.count(*in_error),
                    "datasetTasks": datasets,
                }
            )
        )

    async def retry(self, request: web.Request) -> web.Response:
        """`PUT /user/orders/{order}/retry`: refused as rs-order refuses it, by a 401."""
        try:
            self._orders.retry(self._order(request))
        except RetryRefusedError as error:
            return web.json_response({"messages": [str(error)]}, status=401)
        return web.Response()

    # Lists of files

    async def available(self, request: web.Request) -> web.Response:
        """`GET /orders/{order}/files/available`, and the same of one suborder."""
        order = self._order(request)
        if self._faults.use("listing_not_ready"):
            return web.Response(status=206)
        if not order.files and not order.status.gone:
            return web.Response(status=204)
        if "suborder" in request.match_info:
            number = int(request.match_info["suborder"])
            suborder = next((s for s in order.suborders if s.suborder_id == number), None)
            if suborder is None:
                raise web.HTTPNotFound(text=f"order {order.order_id} has no suborder {number}")
            found = list(suborder.available.values())
            finished = suborder.state in (SuborderState.WAITING, SuborderState.ENDED)
        else:
            found = order.available()
            finished = order.status is not OrderStatus.RUNNING
        page = Page.of(request)
        entries = [self._resource(await self._entry(file)) for file in page.chosen(found)]
        partial = self._switches.partial_content and not finished
        body = page.body(entries, total=len(found))
        return web.json_response(body, status=206 if partial else 200)

    async def dataset_files(self, request: web.Request) -> web.Response:
        """`GET /orders/{order}/dataset/{dataset}/files`: every file, whatever its state."""
        order = self._order(request)
        number = int(request.match_info["dataset"])
        dataset = next((found for found in order.datasets if found.task_id == number), None)
        if dataset is None or not self._switches.dataset_files:
            raise web.HTTPNotFound(text=f"order {order.order_id} has no dataset {number}")
        page = Page.of(request)
        shuffled = self._switches.shuffled
        found = self._shuffle.order(dataset.files) if shuffled else dataset.files
        entries = [
            self._resource(await self._entry(file) | await self._state(file))
            for file in page.chosen(found)
        ]
        return web.json_response(page.body(entries, total=len(dataset.files)))

    async def _entry(self, file: OrderedFile) -> dict[str, Any]:
        digests = await asyncio.to_thread(self._catalog.digests, file.file)
        entry = {
            "id": file.file_id,
            "productId": file.file.product_id,
            "version": 1,
            # Never to be followed: it points nowhere.
            "downloadUrl": f"http://192.0.2.1/elsewhere/{file.file_id}",
            "mimeType": file.file.mime_type,
            "checksum": digests.md5,
            "fileSize" if self._switches.flat else "filesize": file.size + self._faults.wrong_sizes,
            "filename": file.file.path.name,
        }
        if self._faults.no_checksum:
            del entry["checksum"]
        if self._faults.no_size:
            del entry["fileSize" if self._switches.flat else "filesize"]
        return entry

    async def _state(self, file: OrderedFile) -> dict[str, Any]:
        state: dict[str, Any] = {
            "state": file.state,
            "filesTaskId": file.suborder.suborder_id,
            "digestAlgorithm": "MD5",
        }
        if self._switches.crc32:
            digests = await asyncio.to_thread(self._catalog.digests, file.file)
            state["crc32"] = f"{digests.crc32:08x}"
        return state

    def _resource(self, content: dict[str, Any]) -> dict[str, Any]:
        return content if self._switches.flat else {"content": content, "links": []}

    # Bytes

    async def download(self, request: web.Request) -> web.StreamResponse:
        """`GET /orders/files/{file}`."""
        claims = claims_of(request, self._secret)
        found = self._orders.file(int(request.match_info["file"]))
        if found is None:
            raise web.HTTPNotFound(text="no such file")
        order, file = found
        _refuse_stranger(claims, order)
        try:
            with self._downloads.reading(order, file) as reading:
                return await self._send(request, file, reading)
        except RefusedError as refused:
            return web.Response(status=refused.status, text=str(refused))

    async def _send(
        self, request: web.Request, file: OrderedFile, reading: Reading
    ) -> web.StreamResponse:
        asked = _RANGE.match(request.headers.get("Range", "")) if self._faults.ranges else None
        offset = int(asked[1]) if asked else 0
        size = file.file.size
        response = web.StreamResponse(status=206 if offset else 200)
        response.content_length = size - offset
        response.content_type = file.file.mime_type
        if self._faults.ranges:
            response.headers["Accept-Ranges"] = "bytes"
        if offset:
            response.headers["Content-Range"] = f"bytes {offset}-{size - 1}/{size}"
        spoil = self._faults.spoils(file.file.path.name)
        drop = self._faults.drop_after if self._faults.use("drops") else None
        await response.prepare(request)
        sent = 0
        if offset == size:
            reading.end()
        with file.file.path.open("rb") as stream:
            stream.seek(offset)
            while chunk := await asyncio.to_thread(stream.read, self._chunk_size()):
                if spoil:
                    chunk, spoil = bytes([chunk[0] ^ 0xFF]) + chunk[1:], False
                if drop is not None and sent + len(chunk) > drop:
                    await response.write(chunk[: drop - sent])
                    if request.transport is not None:
                        request.transport.abort()
                    return response
                sent += len(chunk)
                if offset + sent == size:
                    reading.end()
                await response.write(chunk)
                await self._faults.pace(len(chunk))
        await response.write_eof()
        return response

    def _chunk_size(self) -> int:
        rate = self._faults.bytes_per_second
        return min(_CHUNK, max(1, rate // 10)) if rate else _CHUNK


def _refuse_stranger(claims: dict[str, Any], order: Order) -> None:
    if (claims["tenant"], claims["email"]) != order.owner:
        raise web.HTTPForbidden(text="the order is another user's")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
