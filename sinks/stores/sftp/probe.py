"""Tries a target before deliveries rely on it: step by step, until one fails.

A tenant chooses the host itself, inside the operator's network: it is told what an SSH server said,
and of anything else the same words after the same time, or it could look with this service's eyes
which ports are open there. An operator is told everything, by `delivery doctor`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from uuid import uuid4

from app.delivery.object_store import PartBody
from app.delivery.targets import TargetCheck
from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.telemetry.logs import get_logger
from sinks.stores.sftp.requests import answered
from sinks.stores.sftp.store import SftpObjectStore
from sinks.stores.sftp.target import SftpTarget

log = get_logger(__name__)

_TOTAL_TIMEOUT = 5.0  # seconds of all steps together, for a tenant
_STEP_TIMEOUT = 10.0  # seconds of each, for an operator
_FOLDER = ".rs-delivery-check/"

REACHABLE, FOLDER, WRITABLE = "reachable", "credentials and folder", "writable"


class _Nothing:
    """A part of no bytes."""

    md5 = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")

    def __len__(self) -> int:
        return 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        return
        yield b""

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002
        """Return 0."""
        return 0

    def read(self) -> bytes:
        """Return nothing."""
        return b""


async def try_for_tenant(
    store: SftpObjectStore, target: SftpTarget, *, seconds: float = _TOTAL_TIMEOUT
) -> list[TargetCheck]:
    """Return what each step found that was taken. No message holds a secret."""
    began = time.monotonic()
    steps, error = await _take(store, target, each=seconds, ends=began + seconds)
    if error is None or told_as(target, error) is error:
        return steps
    await asyncio.sleep(began + seconds - time.monotonic())
    return [TargetCheck(check=REACHABLE, flaw=str(told_as(target, error, say=False)))]


async def try_for_operator(store: SftpObjectStore, target: SftpTarget) -> list[TargetCheck]:
    """Return what each step found that was taken, in all words."""
    ends = time.monotonic() + 3 * _STEP_TIMEOUT
    return (await _take(store, target, each=_STEP_TIMEOUT, ends=ends))[0]


async def _take(
    store: SftpObjectStore, target: SftpTarget, *, each: float, ends: float
) -> tuple[list[TargetCheck], DeliveryError | None]:
    """Take the steps: the server answers; it lets us in and has the folder; it may be written."""
    steps: list[TargetCheck] = []
    for check, step in ((REACHABLE, _reach), (FOLDER, _find_folder), (WRITABLE, _write)):
        error: DeliveryError | None = None
        seconds = max(0.01, min(each, ends - time.monotonic()))
        try:
            async with asyncio.timeout(seconds):
                await step(store, target)
        except DeliveryError as refused:
            error = refused
        except TimeoutError as late:
            error = TargetUnavailableError(f"no answer from {target} within {seconds:.0f} seconds")
            error.__cause__ = late
        if error is not None:
            return [*steps, TargetCheck(check=check, flaw=str(error))], error
        steps.append(TargetCheck(check=check))
    return steps, None


async def _reach(store: SftpObjectStore, target: SftpTarget) -> None:
    try:
        await store.find_folder(target)
    except TargetRefusedError as error:
        if not answered(error):
            raise


async def _find_folder(store: SftpObjectStore, target: SftpTarget) -> None:
    await store.find_folder(target)


async def _write(store: SftpObjectStore, target: SftpTarget) -> None:
    """Begin an upload, write to it, try how it would appear, and abort it: nothing is left."""
    key = f"{target.prefix}{_FOLDER}{uuid4().hex}"
    upload = await store.create_upload(target, key)
    part: PartBody = _Nothing()
    try:
        await store.put_part(target, upload, 1, part)
        await store.try_to_appear(target, upload)
    except BaseException:
        with contextlib.suppress(DeliveryError):
            await store.abort(target, upload)
        raise
    await store.abort(target, upload)


def told_as(target: SftpTarget, error: DeliveryError, *, say: bool = True) -> DeliveryError:
    """Return what a tenant is told in place of an error; `say` it to the operator, if another."""
    if isinstance(error, TargetForbiddenError) or answered(error):
        return error
    if say:
        log.warning(
            "target_not_usable",
            endpoint=target.endpoint,
            bucket=target.container,  # what the field is called in the log
            cause=str(error),
            consequence="the tenant is told that there is no SFTP server",
        )
    return TargetUnavailableError(
        f"no SFTP server can be used for {target}: see that host and port are right, and that it "
        "can be reached from here; the log of the service has the cause"
    )
