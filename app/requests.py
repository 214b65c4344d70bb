"""The rules of a delivery request (contract, section 1), told in a client's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.errors import InvalidRequestError
from app.model import DeliveryRequest

DEFAULT_TARGET = "regards-s3-minio"

_NotBlank = Annotated[str, StringConstraints(pattern=r"\S")]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Filters(_Part):
    dataTypes: Annotated[list[Literal["RAWDATA", "QUICKLOOK"]], Field(min_length=1)]  # noqa: N815
    filenameRegExp: str | None = None  # noqa: N815 - the wire's names


class _Order(_Part):
    user: Annotated[_NotBlank, Field(max_length=128)]
    queries: Annotated[list[str], Field(min_length=1)]
    filters: _Filters | None = None


class _Request(_Part):
    correlationId: Annotated[_NotBlank, Field(max_length=255)]  # noqa: N815
    targetDelivery: str | None = None  # noqa: N815
    order: _Order


_WORDS = {
    "missing": "is missing",
    "string_type": "must be a text",
    "string_pattern_mismatch": "must not be blank",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be RAWDATA or QUICKLOOK",
}


def _in_words(kind: str, context: Mapping[str, Any]) -> str:
    if kind == "string_too_long":
        return f"must not be longer than {context['max_length']} characters"
    if kind == "too_short":
        return "must have at least one entry"
    return _WORDS.get(kind, "is not valid")


def parse_request(body: Mapping[str, Any]) -> DeliveryRequest:
    """Check a decoded request.

    Raises InvalidRequestError that names every broken rule, each as `field words`.
    """
    try:
        request = _Request.model_validate(body)
    except ValidationError as error:
        violations = [
            f"{'.'.join(map(str, item['loc']))} {_in_words(item['type'], item.get('ctx', {}))}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidRequestError(violations) from None
    target = request.targetDelivery
    # rs-order gets what the client wrote, and nothing that we don't know.
    order = {name: body["order"][name] for name in ("user", "queries")}
    if request.order.filters is not None:
        order["filters"] = request.order.filters.model_dump(exclude_none=True)
    return DeliveryRequest(
        target=target if target and target.strip() else DEFAULT_TARGET,
        user=request.order.user,
        order=order,
    )
