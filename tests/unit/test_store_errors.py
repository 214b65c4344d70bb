"""What PostgreSQL says passes, or stays: told by its SQLSTATE."""

from __future__ import annotations

import asyncpg
import pytest

from app.errors import StoreUnavailableError
from app.store.pool import translate_errors


def said(sqlstate: str) -> Exception:
    """Return the driver's error for what a server says."""
    fields = {"S": "ERROR", "V": "ERROR", "C": sqlstate, "M": "told to fail"}
    error: Exception = asyncpg.PostgresError.new(fields)
    return error


@pytest.mark.parametrize(
    "sqlstate",
    [
        "08006",  # connection_failure
        "08P01",  # protocol_violation: of a pooler between, for example
        "25006",  # read_only_sql_transaction: a failover onto a standby
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53100",  # disk_full
        "53200",  # out_of_memory
        "53300",  # too_many_connections
        "55P03",  # lock_not_available
        "57014",  # query_canceled: by statement_timeout, or by an administrator
        "57P01",  # admin_shutdown
        "57P03",  # cannot_connect_now
        "58000",  # system_error
        "58030",  # io_error
    ],
)
def test_a_transient_error_delays(sqlstate: str) -> None:
    with pytest.raises(StoreUnavailableError, match="told to fail"), translate_errors():
        raise said(sqlstate)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("the connection is closed"),
        asyncpg.InternalClientError("got result for unknown protocol state"),
        asyncpg.TargetServerAttributeNotMatched("none of the hosts is read-write"),
        ConnectionResetError("reset"),
        TimeoutError(),
    ],
)
def test_a_connection_that_broke_delays(error: Exception) -> None:
    with pytest.raises(StoreUnavailableError), translate_errors():
        raise error


@pytest.mark.parametrize(
    "sqlstate",
    [
        "22021",  # character_not_in_repertoire: a NUL
        "23505",  # unique_violation
        "25001",  # active_sql_transaction
        "42P01",  # undefined_table
        "55000",  # object_not_in_prerequisite_state
        "XX000",  # internal_error
    ],
)
def test_a_permanent_error_is_no_outage(sqlstate: str) -> None:
    with pytest.raises(asyncpg.PostgresError), translate_errors():
        raise said(sqlstate)


def test_a_value_that_does_not_fit_its_column_is_no_outage() -> None:
    """Waiting makes it no smaller; the event goes to the dead letters."""
    of_client = asyncpg.exceptions._base.DataError  # noqa: SLF001 - `DataError` is the server's
    error = of_client("invalid input for query argument $1")
    with pytest.raises(asyncpg.InterfaceError), translate_errors():
        raise error
