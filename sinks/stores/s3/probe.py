"""Tries a target for a tenant before it relies on it: step by step, until one fails.

The tenant chooses the place itself, inside the operator's network: it is told what an S3 server
said, and of anything else the same words after the same time, or it could look with this service's
eyes which ports are open there. An operator is told everything, by `delivery doctor`
(`sinks/stores/s3/rights.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from botocore.exceptions import ClientError

from app.delivery.targets import TargetCheck
from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.network.hosts import AllowedHosts
from app.telemetry.logs import get_logger
from sinks.stores.s3.clients import S3Clients
from sinks.stores.s3.requests import by_s3, is_of_s3, translate_errors
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from sinks.stores.s3.trial import Trial

log = get_logger(__name__)

_TOTAL_TIMEOUT = 5.0  # seconds of all steps together


@dataclass
class _Tried:
    """What came of trying a target."""

    steps: list[TargetCheck] = field(default_factory=list)
    error: DeliveryError | None = None  # what ended it
    is_s3: bool = False  # whether something was answered that only an S3 server says


class Prober:
    """Tries targets; `hosts` tell which server is the deployment's own, chosen by no tenant."""

    def __init__(
        self,
        clients: S3Clients,
        hosts: AllowedHosts | None = None,
        *,
        seconds: float = _TOTAL_TIMEOUT,
    ) -> None:
        self._clients = clients
        self._hosts = hosts
        self._seconds = seconds

    async def probe(self, target: S3Target) -> list[TargetCheck]:
        """Return what each step found that was taken.

        Steps: the server answers; it accepts the credentials and has the bucket; an upload can be
        begun, and aborted. No message holds a secret.
        """
        await self._clients.prepare()  # which is none of the target's time
        began = time.monotonic()
        tried = await self._try_steps(target, ends=began + self._seconds)
        if tried.error is None or tried.is_s3 or self._may_be_told(target, tried.error):
            return tried.steps
        _tell_operator(target, tried.error)
        await asyncio.sleep(began + self._seconds - time.monotonic())
        return [TargetCheck(check="reachable", flaw=_nothing_there(target))]

    async def look(self, store: S3ObjectStore, target: S3Target) -> None:
        """Raise a DeliveryError unless the bucket is there, and an S3 server says so."""
        ends = time.monotonic() + self._seconds
        await store.find_bucket(target)
        if not self._is_own(target) and not await self._find_bucket(target, ends):
            raise TargetUnavailableError(f"what answers for {target} is no S3 server")

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

    async def _try_steps(self, target: S3Target, *, ends: float) -> _Tried:
        tried = _Tried()
        for check, take in (
            ("reachable", self._reach),
            ("credentials and bucket", self._find_bucket),
            ("writable", partial(self._write, known=lambda: tried.is_s3)),
        ):
            try:
                tried.is_s3 |= await take(target, ends)
            except DeliveryError as error:
                tried.is_s3 |= by_s3(error)
                tried.error = error
                tried.steps.append(TargetCheck(check=check, flaw=str(error)))
                break
            tried.steps.append(TargetCheck(check=check))
        return tried

    # Each step returns whether what answered is known by it as an S3 server; all of its requests
    # together end by a time of the monotonic clock.

    async def _reach(self, target: S3Target, ends: float) -> bool:
        try:
            return await self._find_bucket(target, ends)
        except TargetRefusedError as error:
            if not isinstance(error.__cause__, ClientError):
                raise  # nothing was sent
            return by_s3(error)

    async def _find_bucket(self, target: S3Target, ends: float) -> bool:
        # An answer to HEAD has no body; where no header says what it is, that of a list does.
        try:
            async with (
                self._clients.of(target) as client,
                translate_errors(target, "look", _until(ends)),
            ):
                answer = await client.head_bucket(Bucket=target.bucket)
        except TargetRefusedError as error:
            if isinstance(error.__cause__, ClientError) and not by_s3(error):
                await self._list(target, ends)
            raise
        if is_of_s3(dict(answer)):
            return True
        try:
            return await self._list(target, ends)
        except TargetRefusedError as error:
            return by_s3(error)  # there may be no right to list

    async def _list(self, target: S3Target, ends: float) -> bool:
        action = "list open uploads"  # which a delivery needs, too
        async with (
            self._clients.of(target) as client,
            translate_errors(target, action, _until(ends)),
        ):
            answer = await client.list_multipart_uploads(Bucket=target.bucket, MaxUploads=1)
            return bool(is_of_s3(dict(answer)) or answer.get("Bucket"))

    async def _write(self, target: S3Target, ends: float, *, known: Callable[[], bool]) -> bool:
        async with self._clients.of(target) as client:
            upload = Trial(client, target)
            await upload.check_abort(_until(ends))
            # What is not known as an S3 server gets no more time than the rest.
            await upload.begin(_until(ends), looking=known())
            await upload.abort()
            return True


def _until(ends: float) -> float:
    """Return the seconds until a time; some, as a deadline in the past has no request sent."""
    return max(ends - time.monotonic(), 0.01)


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
