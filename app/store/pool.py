"""Connections to PostgreSQL, and what its driver's errors mean here."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from app.errors import ConfigurationError, NotReachableError, StoreUnavailableError

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.DiskFullError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # used between the server's farewell and its end
)
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    ValueError,
)


@contextlib.contextmanager
def wrap_errors() -> Iterator[None]:
    """Turn a driver's error that will pass into StoreUnavailableError."""
    try:
        yield
    except _AWAY as error:
        raise StoreUnavailableError(
            f"PostgreSQL does not answer ({type(error).__name__}: {error}); it is tried again"
        ) from error


async def _set_up(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


async def _leave_as_it_is(_connection: object) -> None:
    """Save a round trip: no session state is ever set on a connection of the pool."""


@contextlib.asynccontextmanager
async def open_pool(url: str, *, size: int, start_timeout: float) -> AsyncIterator[asyncpg.Pool]:
    """Connect, waiting up to `start_timeout` seconds for the server to come up.

    Raises ConfigurationError when the address or the credentials are wrong.
    """
    pool: asyncpg.Pool | None = None
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailableError),
            stop=stop_after_delay(start_timeout),
            wait=wait_exponential(0.1, max=5),
            reraise=True,
        ):
            with attempt, wrap_errors():
                pool = await asyncpg.create_pool(
                    url,
                    min_size=1,
                    max_size=size,
                    init=_set_up,
                    reset=_leave_as_it_is,
                    command_timeout=60,
                    timeout=10,
                )
    except _REFUSED as error:
        raise ConfigurationError(
            f"PostgreSQL refuses the connection ({error}); correct DELIVERY_DATABASE_URL"
        ) from None
    except StoreUnavailableError as error:
        raise NotReachableError(
            f"no PostgreSQL answers at DELIVERY_DATABASE_URL after {start_timeout:g} s "
            f"({error.__cause__}); start it, or correct the address"
        ) from None
    assert pool is not None  # noqa: S101 - the loop leaves with a pool or an error
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(5):
                await pool.close()
        except TimeoutError:
            pool.terminate()
