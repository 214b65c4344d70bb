"""What is one statement of a transaction in memory."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from app.store.memory.database import MemoryDatabase
from app.store.memory.session import Session

P = ParamSpec("P")
T = TypeVar("T")


class Statements:
    """A part of a transaction."""

    def __init__(self, database: MemoryDatabase, session: Session) -> None:
        self._database = database
        self._session = session

    async def _begin_statement(self) -> None:
        """Take a statement there. Raises RuntimeError after one that failed."""
        if self._session.failed:
            raise RuntimeError("a statement of this transaction has failed; it can only be left")
        await self._database.trip()

    def _fail(self) -> None:
        self._session.failed = True


S = TypeVar("S", bound=Statements)


def statement(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Mark what is one statement. After one that failed, a transaction takes no other."""

    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self._begin_statement()
        try:
            return await method(self, *args, **kwargs)
        except BaseException:
            self._fail()
            raise

    run.__doc__ = method.__doc__
    return run
