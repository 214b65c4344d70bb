"""What would become of a request: which rules it breaks, and what would be done where."""

from __future__ import annotations

from pydantic import Field

from app.delivery.states import State
from app.errors import ErrorType
from app.views.limits import LimitsView
from app.views.view import Milliseconds, View


class UserSeenView(View):
    """Whether the ordering user may order."""

    name: str
    known: bool | None = Field(description="Null: that could not be told now.")
    message: str | None = None


class TargetStepView(View):
    """What one step of trying a target found."""

    check: str
    ok: bool
    message: str | None = Field(None, description="For those who may set targets.")


class TargetTriedView(View):
    """The target that is chosen, and what trying it found."""

    name: str
    ok: bool | None = Field(description="Null: it was not tried.")
    checks: list[TargetStepView] | None = None
    message: str | None = Field(None, description="Why it was not tried.")


class PlaceSeenView(View):
    """Where the archive would go."""

    key: str = Field(
        description="Behind the container of the target; `{productId}` and `{version}` are known "
        "once the order is."
    )
    key_of_several: str | None = Field(
        None, description="The same, where the order is of several products, if that differs."
    )
    free: bool | None = Field(
        description="Whether no other client's object is there; null: it was not looked, or "
        "the name is not known yet."
    )
    message: str | None = None


class ActiveView(View):
    """The delivery that has the correlation id now."""

    id: str
    state: State


class DryRunView(View):
    """What would become of a request."""

    granted: bool = Field(description="Whether it would be: no rule is broken, as far as is known.")
    error_type: ErrorType | None = Field(None, description="Of the denial.")
    broken: list[str] | None = Field(None, description="Every rule that it breaks.")
    problems: list[str] | None = Field(
        None, description="What would let a delivery that is granted wait, or fail."
    )
    retry_after: int | None = Field(
        None,
        description="Seconds after which it is worth another try: it is over a quota, and would be "
        "refused (429, with this `Retry-After`) for that alone.",
    )
    correlation_id: str | None = None
    user: UserSeenView | None = None
    format: str | None = None
    target: TargetTriedView | None = None
    place: PlaceSeenView | None = None
    expires_at: Milliseconds | None = Field(
        None, description="When it would end in ERROR, were it taken in now and not done by then."
    )
    active: ActiveView | None = None
    limits: LimitsView
