"""Tries a target before anybody relies on it: step by step, until one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from app.errors import DeliveryError
from app.model import S3Target
from sinks.s3 import S3Sink, open_sink

_TIMEOUT = 10.0  # seconds for each step
_KEY = ".rs-delivery-check/"  # an upload is begun and aborted there; no object appears


async def probe(target: S3Target, *, ca: str = "") -> list[dict[str, Any]]:
    """Return what was found: `check`, `ok` and `message` of each step that was taken.

    Steps: the server answers; it accepts the credentials and has the bucket; an upload can be
    begun, and aborted. No message holds a secret.
    """
    async with open_sink(ca=ca) as sink:
        found: list[dict[str, Any]] = []
        for check, step in _steps(sink, target):
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await step()
            except DeliveryError as error:
                found.append({"check": check, "ok": False, "message": str(error)})
                break
            except TimeoutError:
                sentence = f"no answer from {target} within {_TIMEOUT:g} seconds"
                found.append({"check": check, "ok": False, "message": sentence})
                break
            found.append({"check": check, "ok": True, "message": "yes"})
        return found


def _steps(sink: S3Sink, target: S3Target) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
    async def write() -> None:
        upload = await sink.begin(target, f"{target.prefix}{_KEY}{uuid4()}")
        await sink.abort(target, upload)

    return [
        ("reachable", lambda: sink.reach(target)),
        ("credentials and bucket", lambda: sink.find_bucket(target)),
        ("writable", write),
    ]
