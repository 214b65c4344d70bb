"""The REST side of the stand-in: listings, files, and the switches of its faults."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import jwt
from aiohttp import web
from pydantic import ValidationError

from compose.rs_order.catalog import Catalog, File
from compose.rs_order.faults import Faults
from compose.rs_order.orders import Order, Orders

_CHUNK = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d+)-")


class Rest:
    """Handlers over the orders that were taken."""

    def __init__(self, orders: Orders, catalog: Catalog, *, secret: str) -> None:
        self._orders = orders
        self._catalog = catalog
        self._secret = secret

    @property
    def _faults(self) -> Faults:
        return self._orders.faults

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        application = web.Application()
        application.router.add_get("/orders/{order:\\d+}/files/available", self.listing)
        application.router.add_get("/orders/files/{file:\\d+}", self.download)
        application.router.add_get("/users/email/{email}", self.user)
        application.router.add_get("/control/faults", self.show_faults)
        application.router.add_put("/control/faults", self.set_faults)
        application.router.add_delete("/control/faults", self.reset_faults)
        application.router.add_get("/control/orders", self.show_orders)
        return application

    def _claims(self, request: web.Request) -> dict[str, Any]:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            raise web.HTTPUnauthorized(text="no bearer token")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=["HS512"],
                options={"require": ["exp", "sub", "tenant", "email", "role"]},
            )
        except jwt.InvalidTokenError as error:
            raise web.HTTPUnauthorized(text=f"the token is not valid: {error}") from None
        return claims

    def _mine(self, request: web.Request, order: Order) -> Order:
        claims = self._claims(request)
        if claims["tenant"] != order.tenant or claims["email"] != order.user:
            raise web.HTTPForbidden(text="the order is somebody else's")
        if self._faults.use("answers_500"):
            raise web.HTTPInternalServerError(text="told to fail")
        return order

    async def listing(self, request: web.Request) -> web.Response:
        """`GET /orders/{order}/files/available`."""
        self._claims(request)  # before anything is answered
        order = self._orders.orders.get(int(request.match_info["order"]))
        if order is None:
            raise web.HTTPNotFound(text="no such order")
        self._mine(request, order)
        if self._faults.use("listing_not_ready"):
            return web.Response(status=206)
        if not order.files:
            return web.Response(status=204)
        page, size = int(request.query.get("page", 0)), int(request.query.get("size", 20))
        ids = sorted(order.files)
        pages = -(-len(ids) // size)
        chosen = ids[page * size : (page + 1) * size]
        entries = [await self._entry(number, order.files[number]) for number in chosen]
        more = [{"rel": "next", "href": f"{request.path}?page={page + 1}&size={size}"}]
        return web.json_response(
            {
                "metadata": {
                    "size": size,
                    "totalElements": len(ids),
                    "totalPages": pages,
                    "number": page,
                },
                "content": [{"content": entry, "links": []} for entry in entries],
                "links": more if page + 1 < pages else [],
            }
        )

    async def _entry(self, number: int, file: File) -> dict[str, Any]:
        entry = {
            "id": number,
            "productId": file.product_id,
            "version": 1,
            # Never to be followed: it points nowhere.
            "downloadUrl": f"http://192.0.2.1/elsewhere/{number}",
            "mimeType": file.mime_type,
            "checksum": await asyncio.to_thread(self._catalog.md5, file),
            "filesize": file.size + self._faults.wrong_sizes,
            "filename": file.path.name,
        }
        if self._faults.no_checksum:
            del entry["checksum"]
        if self._faults.no_size:
            del entry["filesize"]
        return entry

    async def download(self, request: web.Request) -> web.StreamResponse:
        """`GET /orders/files/{file}`, also from an offset on."""
        number = int(request.match_info["file"])
        order = next((o for o in self._orders.orders.values() if number in o.files), None)
        if order is None:
            raise web.HTTPNotFound(text="no such file")
        self._mine(request, order)
        if self._faults.refuse:
            return web.Response(status=self._faults.refuse, text="told to refuse")
        if self._faults.use("not_ready"):
            return web.Response(status=202)
        return await self._send(request, order.files[number])

    async def _send(self, request: web.Request, file: File) -> web.StreamResponse:
        asked = _RANGE.match(request.headers.get("Range", ""))
        offset = int(asked[1]) if asked and not self._faults.no_ranges else 0
        size = file.size
        response = web.StreamResponse(status=206 if offset else 200)
        response.content_length = size - offset
        response.content_type = file.mime_type
        if not self._faults.no_ranges:
            response.headers["Accept-Ranges"] = "bytes"
        if offset:
            response.headers["Content-Range"] = f"bytes {offset}-{size - 1}/{size}"
        spoil = self._faults.use("wrong_checksums")
        drop = self._faults.drop_after if self._faults.use("drops") else None
        await response.prepare(request)
        sent = 0
        with file.path.open("rb") as stream:
            stream.seek(offset)
            while chunk := await asyncio.to_thread(stream.read, self._chunk_size()):
                if spoil:
                    chunk, spoil = bytes([chunk[0] ^ 0xFF]) + chunk[1:], False
                if drop is not None and sent + len(chunk) > drop:
                    await response.write(chunk[: drop - sent])
                    if request.transport is not None:
                        request.transport.abort()
                    return response
                await response.write(chunk)
                await self._faults.pace(len(chunk))
                sent += len(chunk)
        await response.write_eof()
        return response

    def _chunk_size(self) -> int:
        rate = self._faults.bytes_per_second
        return min(_CHUNK, max(1, rate // 10)) if rate else _CHUNK

    async def user(self, request: web.Request) -> web.Response:
        """`GET /users/email/{email}`, as rs-admin answers it."""
        self._claims(request)
        if self._faults.use("admin_answers_500"):
            raise web.HTTPInternalServerError(text="told to fail")
        email = request.match_info["email"]
        if email in self._faults.unknown_users:
            raise web.HTTPNotFound(text="no such user")
        return web.json_response({"content": {"email": email}, "links": []})

    async def show_faults(self, _request: web.Request) -> web.Response:
        """Tell what goes wrong now."""
        return web.json_response(self._faults.model_dump())

    async def set_faults(self, request: web.Request) -> web.Response:
        """Change what goes wrong; a name that is unknown is refused."""
        try:
            self._orders.faults = Faults.model_validate(await request.json())
        except (ValidationError, ValueError) as error:
            return web.Response(status=422, text=str(error))
        return await self.show_faults(request)

    async def reset_faults(self, request: web.Request) -> web.Response:
        """Behave from now on."""
        self._orders.faults = Faults()
        return await self.show_faults(request)

    async def show_orders(self, _request: web.Request) -> web.Response:
        """List the orders that were taken."""
        return web.json_response(
            [
                {
                    "orderId": order.order_id,
                    "tenant": order.tenant,
                    "user": order.user,
                    "correlationId": order.correlation_id,
                    "files": len(order.files),
                    "cancelled": order.cancelled,
                }
                for order in self._orders.orders.values()
            ]
        )
