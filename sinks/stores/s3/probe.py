"""Tries a target for a tenant before it relies on it: step by step, until one fails.

The tenant chooses the place itself, inside the operator's network: it is told what an S3 server
said, and of anything else the same words after the same time, or it could look with this service's
eyes which ports are open there. An operator is told everything, by `delivery doctor`
(`sinks/stores/s3/rights.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from app.delivery.targets import S3Target
from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.network.hosts import AllowedHosts
from app.telemetry.logs import get_logger
from sinks.stores.s3.clients import S3Clients
from sinks.stores.s3.requests import by_s3, is_of_s3, wrapped
from sinks.stores.s3.store import S3Sink

log = get_logger(__name__)

_ALL = 5.0  # seconds of all steps together
_KEY = ".rs-delivery-check/"  # an upload is begun and aborted there; no object appears


@dataclass
class _Tried:
    """What came of trying a target."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    error: DeliveryError | None = None  # what ended it
    is_s3: bool = False  # whether something was answered that only an S3 server says


class Prober:
    """Tries targets; `hosts` tell which server is the deployment's own, chosen by no tenant."""

    def __init__(
        self, clients: S3Clients, hosts: AllowedHosts | None = None, *, seconds: float = _ALL
    ) -> None:
        self._clients = clients
        self._hosts = hosts
        self._seconds = seconds

    async def probe(self, target: S3Target) -> list[dict[str, Any]]:
        """Return what was found: `check`, `ok` and `message` of each step that was taken.

        Steps: the server answers; it accepts the credentials and has the bucket; an upload can be
        begun, and aborted. No message holds a secret.
        """
        began = time.monotonic()
        tried = await self._try(target, ends=began + self._seconds)
        if tried.error is None or tried.is_s3 or self._may_be_told(target, tried.error):
            return tried.steps
        _tell_operator(target, tried.error)
        await asyncio.sleep(began + self._seconds - time.monotonic())
        return [{"check": "reachable", "ok": False, "message": _nothing_there(target)}]

    def looking(self, sink: S3Sink) -> Callable[[S3Target], Awaitable[None]]:
        """Return what raises unless a target's bucket is there, and an S3 server says so."""

        async def look(target: S3Target) -> None:
            await sink.find_bucket(target)
            if not self._is_own(target) and not await self._look(target, self._seconds):
                raise TargetUnavailableError(f"what answers for {target} is no S3 server")

        return look

    def told(self, target: S3Target, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error of a sink."""
        if self._may_be_told(target, error):
            return error
        _tell_operator(target, error)
        return TargetUnavailableError(_nothing_there(target))

    def _may_be_told(self, target: S3Target, error: DeliveryError) -> bool:
        return self._is_own(target) or isinstance(error, TargetForbiddenError) or by_s3(error)

    def _is_own(self, target: S3Target) -> bool:
        return self._hosts is not None and self._hosts.is_own(target.endpoint)

    async def _try(self, target: S3Target, *, ends: float) -> _Tried:
        tried = _Tried()
        for check, take in (
            ("reachable", self._reach),
            ("credentials and bucket", self._look),
            ("writable", self._write),
        ):
            try:
                tried.is_s3 |= await take(target, max(ends - time.monotonic(), 0.01))
            except DeliveryError as error:
                tried.is_s3 |= by_s3(error)
                tried.error = error
                tried.steps.append({"check": check, "ok": False, "message": str(error)})
                break
            tried.steps.append({"check": check, "ok": True, "message": "yes"})
        return tried

    # Each step returns whether what answered is known by it as an S3 server.

    async def _reach(self, target: S3Target, seconds: float) -> bool:
        try:
            return await self._look(target, seconds)
        except TargetRefusedError as error:
            if not isinstance(error.__cause__, ClientError):
                raise  # nothing was sent
            return by_s3(error)

    async def _look(self, target: S3Target, seconds: float) -> bool:
        # An answer to HEAD has no body; where no header says what it is, that of a list does.
        try:
            async with self._clients.of(target) as client, wrapped(target, "look", seconds):
                answer = await client.head_bucket(Bucket=target.bucket)
        except TargetRefusedError as error:
            if isinstance(error.__cause__, ClientError) and not by_s3(error):
                await self._list(target, seconds)
            raise
        if is_of_s3(dict(answer)):
            return True
        try:
            return await self._list(target, seconds)
        except TargetRefusedError as error:
            return by_s3(error)  # there may be no right to list

    async def _list(self, target: S3Target, seconds: float) -> bool:
        action = "list open uploads"  # which a delivery needs, too
        async with self._clients.of(target) as client, wrapped(target, action, seconds):
            answer = await client.list_multipart_uploads(Bucket=target.bucket, MaxUploads=1)
            return bool(is_of_s3(dict(answer)) or answer.get("Bucket"))

    async def _write(self, target: S3Target, seconds: float) -> bool:
        key = f"{target.prefix}{_KEY}{uuid4()}"
        async with (
            self._clients.of(target) as client,
            wrapped(target, f"begin an upload of {key}", seconds),
        ):
            begun = await client.create_multipart_upload(Bucket=target.bucket, Key=key)
            await client.abort_multipart_upload(
                Bucket=target.bucket, Key=key, UploadId=begun["UploadId"]
            )
            return True


def _tell_operator(target: S3Target, error: DeliveryError) -> None:
    log.warning(
        "target_not_usable",
        endpoint=target.endpoint,
        bucket=target.bucket,
        cause=str(error),
        consequence="the tenant is told that there is no S3 server",
    )


def _nothing_there(target: S3Target) -> str:
    return (
        f"no S3 server can be used for {target}: see that scheme, host and port are right, and "
        "that it can be reached from here; the log of the service has the cause"
    )
