"""An rs-order whose one order holds N files: `python -m tests.bench.listing N`."""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

from tests.bench.processes import until_parent_ends


def _entry(number: int) -> dict[str, object]:
    product = number // 4
    content = {
        "id": number,
        "productId": f"URN:AIP:DATA:sentinel:{product:08x}-4c1e-4f0a-9d3b-{product:012x}:V1",
        "version": 1,
        "checksum": f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}",
        "filesize": 1_000_000 + number % 977,
        "filename": f"S2B_MSIL2A_20260914T105619_{product:08d}_B{number % 4:02d}_60m.tif",
    }
    return {"content": content, "links": []}


async def _main(files: int) -> None:
    async def page(request: web.Request) -> web.Response:
        number, size = int(request.query["page"]), int(request.query["size"])
        listed = range(number * size, min(files, (number + 1) * size))
        metadata = {"size": size, "totalElements": files, "totalPages": -(-files // size)}
        body = {"metadata": metadata | {"number": number}, "content": [_entry(n) for n in listed]}
        return web.Response(text=json.dumps(body), content_type="application/json")

    application = web.Application()
    application.router.add_get("/orders/{order}/files/available", page)
    runner = web.AppRunner(application)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)
    await until_parent_ends(server)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
