"""An object that is put at once: it replaces no other client's, as no completion does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.delivery.object_store import FoundObject, May
from app.errors import (
    DeliveryError,
    TargetRefusedError,
    TargetUnavailableError,
    WrongObjectError,
)
from sinks.stores.expected import Expected
from sinks.stores.s3.conditions import NO_OTHER, Conditions, condition_on
from sinks.stores.s3.requests import NO_CONDITION, NO_OBJECT, NOT_MET, code_of
from sinks.stores.s3.target import S3Target

if TYPE_CHECKING:
    from sinks.stores.s3.store import S3ObjectStore

_MAX_ROUNDS = 5  # in which an object may come or change while it is looked at

Put = Callable[[Mapping[str, str]], Awaitable[str]]  # on a condition; returns the ETag


@dataclass(frozen=True, kw_only=True)
class S3Put:
    """One object whose bytes are at hand.

    Where a store is known to keep conditions of a PUT, an object that nothing stands in the way of
    takes one request; else there is a look before.
    """

    sink: S3ObjectStore
    target: S3Target
    key: str
    put: Put
    expected: Expected
    may: May

    async def run(self) -> str:
        """Let the object appear; return its ETag. See `ObjectStore.put_object`."""
        look = self._conditions is not Conditions.KEPT
        named: str | None = None  # the ETag that was asked for last, in vain
        for _ in range(_MAX_ROUNDS):
            found = await self.sink.find(self.target, self.key) if look else None
            if found is not None:
                self.expected.check_replaceable(found, self.target, self.key)
            # Where it is still there, the store compares ETags in a way of its own.
            conditional = found is None or found.etag != named
            if (etag := await self._put_over(found, conditional=conditional)) is not None:
                if self._conditions is None:
                    await self._learn()
                return etag
            look, named = True, None if found is None else found.etag
        raise TargetUnavailableError(
            f"{self.key} in {self.target} is written by others again and again"
        )

    @property
    def _conditions(self) -> Conditions | None:
        return self.sink.put_conditions.of(self.target)

    async def _put_over(self, found: FoundObject | None, *, conditional: bool) -> str | None:
        """Put it in the place of what was found; return None if something else is there."""
        if self._conditions is Conditions.REFUSED:
            conditional = False
        condition = condition_on(found) if conditional else {}
        try:
            etag = await self._ask(condition)
        except TargetRefusedError as error:
            if not condition:
                raise
            code = code_of(error)
            if code in NOT_MET:
                self.sink.put_conditions.learn(self.target, Conditions.KEPT)
                return None
            if code in NO_OBJECT and found is not None:  # on `If-Match`: it has gone
                return None
            if code not in NO_CONDITION:
                raise
            if found is None:
                self.sink.put_conditions.learn(self.target, Conditions.REFUSED)
                return None
            etag = await self._ask({})  # it was looked at just now
        if found is not None:
            self.expected.tell_others_replaced(found, self.target, self.key)
        return etag

    async def _ask(self, condition: Mapping[str, str]) -> str:
        await self.may()
        return await self.put(condition)

    async def _learn(self) -> None:
        """Learn whether the store keeps conditions: the object is there, and put once more.

        A store that ignores them puts the same in its place.
        """
        conditions = Conditions.IN_DOUBT
        try:
            await self._ask(NO_OTHER)
        except DeliveryError as error:
            if isinstance(error, WrongObjectError):
                raise  # the store ignores them, and has put other bytes there
            if not isinstance(error, TargetRefusedError):
                return
            if code_of(error) in NOT_MET:
                conditions = Conditions.KEPT
            elif code_of(error) in NO_CONDITION:
                conditions = Conditions.REFUSED
        self.sink.put_conditions.learn(self.target, conditions)
