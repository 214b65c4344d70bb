"""What is shown, and what is asked for: one class gives JSON, schema and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from app.encoding import is_plain
from app.errors import InvalidRequestError

_MAX_TEXT = 300  # characters of a text that is looked for
_TIME = WithJsonSchema({"type": "string", "format": "date-time"})


def _to_milliseconds(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


def _to_seconds(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


Milliseconds = Annotated[datetime, PlainSerializer(_to_milliseconds, return_type=str), _TIME]
Seconds = Annotated[datetime, PlainSerializer(_to_seconds, return_type=str), _TIME]
Moment = Annotated[datetime, PlainSerializer(datetime.isoformat, return_type=str), _TIME]


def dumped(model: BaseModel) -> Any:
    """Return a model in the types of JSON.

    Not pydantic's mode "json": what others sent is shown as it is, and may hold halves of
    surrogate pairs, which that mode refuses to pass on.
    """
    return model.model_dump(by_alias=True, exclude_defaults=True)


class View(BaseModel):
    """What is shown of something. Names are in camel case; there is no field but those named here.

    A field with the default None is left out where it is None; one without a default is always
    there, and null where its type says so. There are no other defaults.
    """

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    def body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        shown: dict[str, Any] = dumped(self)
        return shown


class Link(View):
    """Where to go from here; paths, without scheme and host."""

    rel: str
    href: str


def moment(given: str) -> datetime:
    """Return a time in UTC; one without a zone is UTC. Raises ValueError for what is no time."""
    try:
        at = datetime.fromisoformat(given)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:  # in its zone it is a year that there is, in UTC it is not
        raise ValueError("before the year 1, or after 9999") from None


def _read_text(given: object) -> object:
    if given is not None and not isinstance(given, str):  # in a body; its type refuses it
        return given
    if not given:
        return None
    if len(given) > _MAX_TEXT or not is_plain(given):
        raise ValueError(f"without control characters, of at most {_MAX_TEXT} characters")
    return given


def _read_texts(given: Sequence[object] | None) -> list[object] | None:
    return [text for text in map(_read_text, given or ()) if text is not None] or None


def _read_time(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        return moment(given) if given else None
    except ValueError:
        raise ValueError("a time such as 2026-01-31T12:00:00Z") from None


# What a query string may have, and fields of a body: None where it is missing or empty.
Text = Annotated[str | None, BeforeValidator(_read_text)]
Texts = Annotated[list[str] | None, BeforeValidator(_read_texts)]
Time = Annotated[datetime | None, BeforeValidator(_read_time)]


class Query(BaseModel):
    """What is asked for, with the names that a query string has; unknown ones are ignored.

    A subclass that is a body refuses them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Check what is given. Raises InvalidRequestError with the first rule that is broken."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            broken = error.errors(include_input=False, include_url=False)[0]
            name, context = broken["loc"][0], broken.get("ctx", {})
            if broken["type"] == "extra_forbidden":
                raise InvalidRequestError([f"{name}: {broken['msg']}"]) from None
            # Validators say what a value must be; of enums pydantic does.
            choices = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
            what = context.get("error", f"one of {choices}")
            raise InvalidRequestError([f"{name} must be {what}"]) from None
