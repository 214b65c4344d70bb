"""Connections to PostgreSQL, and what its driver's errors mean here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.transaction import Transaction
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
)

from app.errors import ConfigurationError, NotReachableError, StoreUnavailableError
from app.network import tls
from app.store.parameters import DATABASE_FILES, PostgresParameters
from app.telemetry.logs import get_logger
from app.waiting.backoff import Backoff

log = get_logger(__name__)

_BACKOFF = Backoff(first=0.1, longest=5.0)  # between tries to connect

# A connection keeps that many prepared, the driver's own among them; beyond, each use would prepare
# one again, and push out another.
PREPARED_STATEMENTS = 600

# How long PostgreSQL waits for a process that does not go on: its locks are others' then. A relay
# may be idle for as long as a broker has to confirm, twice 30 s; one that is frozen, or whose
# machine is gone, would keep what it sends locked until the kernel gives its connection up, two
# hours later.
_SILENCE = {
    "idle_in_transaction_session_timeout": "120s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60s",
}
# PostgreSQL compiles what it takes for expensive, as a relay's pass while ten thousand messages
# wait: that takes 80 to 250 ms, to be run in one.
_NOT_COMPILED = {"jit": "off"}

# SQLSTATE: a class of two letters, or a code. Read-only is what a failover leaves for a while.
_PASSES = (
    "08",  # connection exceptions
    "25006",  # read_only_sql_transaction
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
    "40",  # rolled back: deadlocks, serialization
    "53",  # insufficient resources: disk, memory, connections
    "55P03",  # lock_not_available
    "57",  # operator intervention: cancelled, shutting down, starting up
    "58",  # the server's own system: its disk, its files
)
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,  # to connect
    ValueError,
)


def _passes(error: Exception) -> bool:
    """Whether the same statement may well succeed later."""
    match error:
        case asyncpg.InvalidCachedStatementError():
            return True  # a migration of the next version; this connection has noticed by now
        case asyncpg.PostgresError():
            return (error.sqlstate or "").startswith(_PASSES)
        case ssl.SSLError():
            return True  # a certificate may be renewed; it is a ValueError, too
        case ValueError():
            return False  # asyncpg's own, too: a value that doesn't fit
        case OSError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return True  # the last one is used between the server's farewell and its end
    return False


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Turn a driver's error that will pass into StoreUnavailableError.

    A right that is missing is granted while the service runs: nothing is given up for it.
    """
    try:
        with _wrap_away():
            yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise StoreUnavailableError(
            f"PostgreSQL refuses a right ({error}); it is tried again: the owner of the tables "
            "grants it by `delivery migrate --grant-to ROLE`"
        ) from error


@contextlib.contextmanager
def _wrap_away() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not _passes(error):
            raise
        if isinstance(error, asyncpg.QueryCanceledError):
            raise StoreUnavailableError(
                f"PostgreSQL ended a statement ({error}): it took too long, or was cancelled; "
                "it is tried again, or less has to be asked for"
            ) from error
        reason = tls.explain(error, DATABASE_FILES) or f"{type(error).__name__}: {error}"
        raise StoreUnavailableError(
            f"PostgreSQL can't do it now ({reason}); it is tried again"
        ) from error


def _report_waiting(state: RetryCallState) -> None:
    cause = state.outcome.exception() if state.outcome else None
    log.info("postgresql_awaited", retry_in_seconds=state.upcoming_sleep, cause=str(cause))


def advice(error: BaseException) -> str:
    """Return what to do about a connection that PostgreSQL refuses."""
    message = str(error)
    if "client certificate" in message:
        return "give one: DELIVERY_DATABASE_CERTIFICATE and DELIVERY_DATABASE_KEY"
    if "no encryption" in message:
        return "set DELIVERY_DATABASE_SSLMODE and DELIVERY_DATABASE_CA: it may want TLS"
    return "correct DELIVERY_DATABASE_URL"


class _Connection(asyncpg.Connection):
    """A connection whose transactions don't end as if they were committed when they were not.

    A transaction of which a statement has failed is rolled back, though its block went on: so
    PostgreSQL answers the COMMIT, as no error, and the driver does not look at that answer.

    Its BEGIN can take a first statement along (`begun_with`), its COMMIT a last one (`end_with`).
    """

    _first_statement = _last_statement = ""

    def begin_with(self, statement: str) -> None:
        """Send a statement with the next BEGIN."""
        self._first_statement, self._last_statement = statement, ""

    def end_with(self, statement: str) -> None:
        """Send a statement with the next COMMIT."""
        self._last_statement = statement

    async def execute(
        self,
        query: str,
        *args: object,
        timeout: float | None = None,  # noqa: ASYNC109 - as the driver has it
    ) -> str:
        """Return the command tag. Raises RuntimeError for a COMMIT that rolled back."""
        if query.startswith("BEGIN"):
            first, self._first_statement = self._first_statement, ""
            return await super().execute(f"{query.rstrip(';')};{first}", timeout=timeout)
        if query.startswith("COMMIT"):
            return await self._commit(query, timeout)
        return await super().execute(query, *args, timeout=timeout)

    async def _commit(self, query: str, timeout: float | None) -> str:  # noqa: ASYNC109
        last, self._last_statement = self._last_statement, ""
        try:
            tag = await super().execute(f"{last}{query}", timeout=timeout)
        except asyncpg.InFailedSQLTransactionError:  # of the last statement: nothing came behind it
            tag = await super().execute("ROLLBACK;")
        if tag == "ROLLBACK":
            raise RuntimeError("a transaction was rolled back: a statement of it had failed")
        return tag


def begun_with(connection: asyncpg.pool.PoolConnectionProxy, *statements: str) -> Transaction:
    """Return a transaction that is begun with statements: all are one message to PostgreSQL.

    They have no arguments and no results. What comes behind them sees what was committed by then.
    """
    held: Any = connection
    held.begin_with("".join(statements))
    return connection.transaction()


def end_with(connection: asyncpg.pool.PoolConnectionProxy, statement: str) -> None:
    """Send a statement with the COMMIT of a transaction: both are one message to PostgreSQL."""
    held: Any = connection
    held.end_with(statement)


async def _set_up(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


async def _refuse_read_only(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """Give a connection up whose server became read-only: its name may lead to another by now.

    (PostgreSQL reports this setting to its clients, since version 14.)
    """
    settings = connection.get_settings()
    if getattr(settings, "default_transaction_read_only", "off") == "on":
        raise asyncpg.TargetServerAttributeNotMatched("the server is read-only")


async def _leave_as_it_is(_connection: object) -> None:
    """Save a round trip: no session state is ever set on a connection of the pool."""


@contextlib.asynccontextmanager
async def open_pool(
    where: PostgresParameters | str,
    *,
    size: int,
    start_timeout: float,
    command_timeout: float = 60,
    statement_timeout: float = 0,
) -> AsyncIterator[asyncpg.Pool]:
    """Connect, waiting up to `start_timeout` seconds for the server to come up.

    `where` may be a URL alone. A statement that takes longer than `command_timeout` seconds is
    cancelled; PostgreSQL itself ends it after `statement_timeout` seconds, unless that is 0. It
    ends connections that are silent for a minute, or idle in a transaction for two.

    Raises ConfigurationError when the address or the credentials are wrong, NotReachableError when
    nothing answers, or with a certificate that is not good.
    """
    parameters = where if isinstance(where, PostgresParameters) else PostgresParameters(url=where)
    pool: asyncpg.Pool | None = None
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(
                lambda error: (
                    isinstance(error, StoreUnavailableError)
                    and not parameters.stays(error.__cause__ or error)
                )
            ),
            stop=stop_after_delay(start_timeout),
            wait=_BACKOFF.between_attempts,
            before_sleep=_report_waiting,
            reraise=True,
        ):
            with attempt, _wrap_away():
                pool = await asyncpg.create_pool(
                    **parameters.arguments,
                    min_size=1,
                    max_size=size,
                    connection_class=_Connection,
                    init=_set_up,
                    setup=_refuse_read_only,
                    reset=_leave_as_it_is,
                    target_session_attrs=SessionAttribute.read_write,
                    command_timeout=command_timeout,
                    statement_cache_size=PREPARED_STATEMENTS,
                    server_settings=_SILENCE
                    | _NOT_COMPILED
                    | {"statement_timeout": f"{statement_timeout * 1000:.0f}"},
                    timeout=10,
                )
    except _REFUSED as error:
        raise ConfigurationError(
            f"PostgreSQL at {parameters.place} refuses the connection ({error}); {advice(error)}"
        ) from None
    except StoreUnavailableError as error:
        cause = error.__cause__ or error
        if parameters.stays(cause):
            raise NotReachableError(
                f"no connection to PostgreSQL at {parameters.place}: {parameters.explain(cause)}"
            ) from None
        raise NotReachableError(
            f"no PostgreSQL answers at {parameters.place} after {start_timeout:g} s "
            f"({parameters.explain(cause)}); start it, or correct DELIVERY_DATABASE_URL"
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
