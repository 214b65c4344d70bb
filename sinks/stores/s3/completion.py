"""The completion of an upload: its object appears, verified, and replaces no other client's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.delivery.marks import Whose, whose
from app.delivery.object_store import FoundObject, StoredPart, Upload
from app.errors import (
    DeliveryError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from app.telemetry.logs import get_logger
from sinks.stores.expected import Expected
from sinks.stores.s3.conditions import NO_OTHER, Conditions, condition_on
from sinks.stores.s3.requests import NO_CONDITION, NO_OBJECT, NOT_MET, answered, code_of
from sinks.stores.s3.target import S3Target

if TYPE_CHECKING:
    from sinks.stores.s3.store import S3ObjectStore

log = get_logger(__name__)

_MAX_ROUNDS = 5  # in which an object may come or change while it is looked at
_PROBE_TIMEOUT = 5.0  # seconds that a probe may take
_NO_UPLOAD = "rs-delivery-no-such-upload"  # a probe's: nothing can come of it


class _NotMetError(Exception):
    """The store did not complete: what is there is not what the condition says."""

    def __init__(self, refusal: TargetRefusedError) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class _NoConditionError(Exception):
    """The store completes nothing on a condition."""


@dataclass(frozen=True, kw_only=True)
class S3Completion:
    """One upload whose parts are all there."""

    sink: S3ObjectStore
    target: S3Target
    upload: Upload
    parts: Sequence[StoredPart]
    expected: Expected
    ask_until: float  # by the clock: what is asked for later is not decided when it was said to be
    clock: Callable[[], float] = time.monotonic

    async def run(self, *, again: bool) -> str:
        """Let the object appear; return its ETag. See `S3ObjectStore.complete`."""
        look = again or self.sink.conditions.of(self.target) is not Conditions.KEPT
        named: str | None = None  # the ETag that was asked for last, in vain
        for _ in range(_MAX_ROUNDS):
            found = await self.sink.find(self.target, self.upload.key) if look else None
            if found is not None and self.expected.is_made(found, again=again):
                return await self._made_before(found)
            # Where it is still there, the store compares ETags in a way of its own.
            conditional = found is None or found.etag != named
            if (etag := await self._complete_over(found, conditional=conditional)) is not None:
                if self.sink.conditions.of(self.target) is None:
                    await self._learn_conditions()
                return etag
            look, named = True, None if found is None else found.etag
        raise TargetUnavailableError(
            f"{self.upload.key} in {self.target} is written by others again and again"
        )

    async def _made_before(self, found: FoundObject) -> str:
        # By this upload, or by one before it: then this one is left over. None can tell.
        with contextlib.suppress(DeliveryError):
            await self.sink.abort(self.target, self.upload)
        return found.etag

    async def _complete_over(self, found: FoundObject | None, *, conditional: bool) -> str | None:
        """Complete in the place of what was found; return None if something else is there."""
        if found is not None:
            self.expected.check_replaceable(found, self.target, self.upload.key)
        if self.sink.conditions.of(self.target) is Conditions.REFUSED:
            conditional = False
        try:
            etag = await self._complete(condition_on(found) if conditional else {}, found)
        except _NotMetError as error:
            # Only 412 says that the store looked: 404 is any gateway's word, too.
            if code_of(error.refusal) in NOT_MET:
                self.sink.conditions.learn(self.target, Conditions.KEPT)
            return None
        except _NoConditionError:
            if found is None:
                self.sink.conditions.learn(self.target, Conditions.REFUSED)
                return None
            etag = await self._complete({}, found)  # it was looked at just now
        if found is not None:
            self.expected.tell_replaced(found, self.target, self.upload.key)
        return etag

    async def _complete(self, condition: Mapping[str, str], seen: FoundObject | None) -> str:
        """Ask for the completion once, and look what came of it; `seen` was there before.

        Raises TargetUnavailableError where it is too late to: the caller notes that it may be asked
        for, and asks again.
        """
        if self.clock() > self.ask_until:
            raise TargetUnavailableError(
                f"{self.target} took too long to say what is in the place of {self.upload.key}; "
                "its completion is asked for again"
            )
        expected = self.expected
        doubt: TargetUnavailableError | UploadLostError | None = None
        try:
            told = await self._ask_to_complete(condition)
            expected = replace(expected, etag=expected.etag or told)
        except UploadLostError as error:
            doubt = error
        except TargetUnavailableError as error:
            # Before the look: an upload that is gone by then may have become the object.
            doubt = await self._lost(error) or error
        found = await self.sink.find(self.target, self.upload.key)
        if found is not None and expected.is_met(found):
            return found.etag
        if doubt is not None:
            raise type(doubt)(f"{doubt}; the object is not there") from doubt
        self._check_made(found, seen)
        raise WrongObjectError(expected.flaw_of(found, self.target, self.upload.key))

    def _check_made(self, found: FoundObject | None, seen: FoundObject | None) -> None:
        """Raise RetryableError where what is there is nothing that this upload has become.

        Some stores say that an upload is completed while another request still completes it, and of
        one that is gone, where there is an object (versitygw).
        """
        told = f"{self.target} says that the upload of {self.upload.key} is completed, and has "
        if found is None:
            raise TargetUnavailableError(f"{told}no such object yet")
        owner = whose(found.marks, self.expected.marks)
        if found == seen or owner not in (Whose.ITS_OWN, Whose.UNKNOWN):
            raise UploadLostError(
                f"{told}an object there that it has not become: another client, or another worker, "
                "has aborted it; it begins again"
            )

    async def _lost(self, error: TargetUnavailableError) -> UploadLostError | None:
        """Return that the upload is gone, if the store says so when it is asked for that."""
        if answered(error):
            try:
                await self.sink.check_open(self.target, self.upload)
            except UploadLostError as lost:
                return lost
        return None

    async def _ask_to_complete(self, condition: Mapping[str, str]) -> str:
        try:
            return await self.sink.ask_to_complete(self.target, self.upload, self.parts, condition)
        except TargetRefusedError as error:
            if not condition:
                raise
            code = code_of(error)
            # On `If-Match`, an object that has gone is told like one that was never there.
            if code in NOT_MET or (code in NO_OBJECT and "IfMatch" in condition):
                raise _NotMetError(error) from error
            if code in NO_CONDITION:
                raise _NoConditionError from error
            raise

    async def _learn_conditions(self) -> None:
        """Learn whether the store keeps conditions: ask it for what it must refuse.

        There is an object now, so no completion may happen that asks for none. An upload that never
        was is named: a store that looks for it first, or ignores the condition, finds nothing to
        complete.
        """
        conditions = Conditions.IN_DOUBT
        nothing = replace(self.upload, upload_id=_NO_UPLOAD)
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self.sink.ask_to_complete(self.target, nothing, self.parts[:1], NO_OTHER)
        except TimeoutError:
            return
        except TargetRefusedError as error:
            if code_of(error) in NOT_MET:
                conditions = Conditions.KEPT
        except UploadLostError:
            pass
        except DeliveryError as error:
            # Some stores answer 500 to an upload that they don't know.
            if not answered(error):
                return
        self.sink.conditions.learn(self.target, conditions)
        log.info("target_conditions", target=str(self.target), conditions=conditions.name.lower())
