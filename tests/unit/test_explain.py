"""`delivery explain` says what a code means, and why a delivery stands as it does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from app.cli import explain
from app.codes import CATALOGUE, Code
from app.delivery.states import State
from app.errors import UnknownDeliveryError
from app.settings import Settings
from app.views.deliveries import Tracked
from tests.recorded.today.examples import AT, CORRELATION, DELIVERY

FAILED = Tracked(
    delivery=replace(DELIVERY, state=State.ERROR),
    updated_at=AT,
    state_since=AT,
    not_before=AT,
    finished_at=AT,
    worker=None,
    result=None,
    error=("INTERNAL_ERROR", "AccessDenied"),
    error_code="TARGET_REFUSED",
)
RETRYING = replace(
    FAILED,
    delivery=replace(
        DELIVERY,
        state=State.TRANSFERRING,
        last_cause="S3 is away",
        last_code="TARGET_AWAY",
        tries=3,
    ),
    not_before=AT + timedelta(minutes=1),
    finished_at=None,
    error=None,
    error_code=None,
)


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command where there are these deliveries."""

    def run(argument: str, *known: Tracked) -> Result:
        async def of(_tenant: str, _correlation_id: str) -> list[Tracked]:
            return list(known)

        @contextlib.asynccontextmanager
        async def database(_settings: Settings) -> AsyncIterator[SimpleNamespace]:
            yield SimpleNamespace(tracking=SimpleNamespace(of=of))

        monkeypatch.setattr(explain, "load_settings", Settings)
        monkeypatch.setattr(explain, "open_database", database)
        return CliRunner().invoke(explain.explain, [argument])

    return run


@pytest.mark.parametrize("code", Code)
def test_a_code_is_told_whole(explained: Callable[..., Result], code: Code) -> None:
    told = explained(code.value)
    assert told.exit_code == 0
    stanza = CATALOGUE[code]
    for said in (stanza.title, stanza.means, stanza.waiting, stanza.who, stanza.do, stanza.lost):
        assert said in told.output


def test_a_delivery_that_failed_is_told_with_what_to_do(explained: Callable[..., Result]) -> None:
    told = explained(CORRELATION, FAILED).output
    for said in ("ERROR since", "AccessDenied", "TARGET_REFUSED", "retry --force"):
        assert said in told
    assert CATALOGUE[Code.TARGET_REFUSED].do in told


def test_a_delivery_that_is_tried_again_is_told_when(explained: Callable[..., Result]) -> None:
    told = explained(CORRELATION, RETRYING).output
    for said in ("S3 is away", "tried again at 2026-01-02 03:05:05+00:00", "it helps to wait"):
        assert said in told
    assert "--force" not in told


def test_a_delivery_that_is_held_for_bytes_is_told_that_it_goes_on_by_itself(
    explained: Callable[..., Result],
) -> None:
    held = replace(RETRYING, delivery=replace(DELIVERY, state=State.READY, held=True))
    told = explained(CORRELATION, held).output
    assert "QUOTA_AWAITED" in told
    assert "it goes on by itself as deliveries end, or the day of UTC does" in told
    assert "it helps to wait" in told


def test_a_code_of_a_later_version_is_told_as_it_is(explained: Callable[..., Result]) -> None:
    told = explained(CORRELATION, replace(FAILED, error_code="OF_LATER"))
    assert told.exit_code == 0
    assert "OF_LATER" in told.output


def test_what_is_no_code_and_no_delivery_is_named(explained: Callable[..., Result]) -> None:
    told = explained("NONE")
    assert isinstance(told.exception, UnknownDeliveryError)
    assert "'NONE' is no code" in str(told.exception)


def test_what_clients_are_told_over_amqp_is_no_code_and_says_so(
    explained: Callable[..., Result],
) -> None:
    told = explained("ORDER_LIMIT_REACHED")
    assert isinstance(told.exception, UnknownDeliveryError)
    assert "is an error type, as clients are told over AMQP" in str(told.exception)
    assert "its id" in str(told.exception)
