"""Pauses between tries: longer each time, never above the longest."""

from __future__ import annotations

from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st
from tenacity import AsyncRetrying, RetryCallState

from app.waiting.backoff import Backoff

SECONDS = st.floats(min_value=1e-3, max_value=1e5)
FAILURES = st.integers(min_value=0, max_value=1_000_000)


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    """Draw any that a setting could make; also one whose first pause is the longest, or more."""
    return Backoff(first=draw(SECONDS), longest=draw(SECONDS))


def test_pauses_double_up_to_the_longest() -> None:
    assert list(islice(Backoff(first=1, longest=5).pauses(), 5)) == [1, 2, 4, 5, 5]


@given(backoffs())
def test_each_pause_is_twice_the_one_before_until_the_longest(backoff: Backoff) -> None:
    for before, after in pairwise(islice(backoff.pauses(), 40)):
        assert after == min(2 * before, backoff.longest)


@given(backoffs(), FAILURES, FAILURES)
def test_more_failures_never_make_a_shorter_pause(backoff: Backoff, one: int, other: int) -> None:
    fewer, more = sorted((one, other))
    assert backoff.pause(fewer) <= backoff.pause(more) <= backoff.longest


@given(backoffs(), st.integers(min_value=30, max_value=10**30))
def test_any_number_of_failures_has_the_longest_pause(backoff: Backoff, failures: int) -> None:
    assert backoff.pause(failures) == backoff.longest


def test_no_pause_stays_none() -> None:
    assert Backoff(first=0, longest=60).pause(5000) == 0


@given(backoffs(), FAILURES, st.floats(min_value=0, max_value=1e6))
def test_no_other_side_is_asked_before_it_said(
    backoff: Backoff, failures: int, asked: float
) -> None:
    assert backoff.pause(failures, asked) == max(backoff.pause(failures), asked)


@given(backoffs(), FAILURES)
def test_a_jittered_pause_is_half_of_the_pause_at_least(backoff: Backoff, failures: int) -> None:
    whole = backoff.pause(failures)
    assert whole / 2 <= backoff.jittered(failures) <= whole


def test_jittered_pauses_differ() -> None:
    backoff = Backoff(first=1, longest=60)
    assert len({backoff.jittered(3) for _ in range(20)}) > 1


@given(backoffs(), st.integers(min_value=1, max_value=10_000))
def test_tenacity_pauses_as_everything_else_does(backoff: Backoff, attempts: int) -> None:
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = attempts
    assert backoff.between_attempts(state) == backoff.pause(attempts - 1)
