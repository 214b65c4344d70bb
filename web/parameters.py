"""Reading what a request's query says. What is wrong raises InvalidRequestError in words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, get_args, get_origin

from aiohttp import web
from annotated_types import GroupedMetadata, Interval
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from app.views.view import Query

Q = TypeVar("Q", bound=Query)

LAST = 2**63 - 1  # largest id
_WHOLE = re.compile(r"-?[0-9]{1,19}")


def read(request: web.Request, model: type[Q], *, without: Collection[str] = ()) -> Q:
    """Return what the query says. Parameters that are named in `without` are not looked at.

    Of one that is given more than once the first counts, where the model has no list of them.
    """
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    return model.read(
        {
            name: request.query.getall(name) if is_list(field) else request.query[name]
            for name, field in fields.items()
            if name in request.query and name not in without
        }
    )


def is_list(field: FieldInfo) -> bool:
    """Whether a parameter may be given several times."""
    return any(get_origin(kind) is list for kind in (field.annotation, *get_args(field.annotation)))


@dataclass(frozen=True)
class Whole(GroupedMetadata):
    """Marks a whole number that a query string has; both bounds are good."""

    least: int
    largest: int = LAST

    def __iter__(self) -> Iterator[object]:
        yield Interval(ge=self.least, le=self.largest)
        yield BeforeValidator(partial(_read_whole, self.least, self.largest))


def _read_whole(least: int, largest: int, given: object) -> object:
    if not isinstance(given, str):
        return given
    if not _WHOLE.fullmatch(given) or not least <= int(given) <= largest:
        raise ValueError(f"a number from {least} to {largest}")
    return int(given)
