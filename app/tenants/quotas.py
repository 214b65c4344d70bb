"""What a tenant's setting `quota` says: how it is written, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.delivery.quotas import Allowance, OverBytes, OverRequests, Quota

_Count = Annotated[int, Field(ge=0, lt=2**31)]
_Bytes = Annotated[int, Field(ge=0, lt=2**63, json_schema_extra={"x-unit": "bytes"})]


class _Value(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class AllowanceValue(_Value):
    """What may be had. 0: any number."""

    active: _Count = Field(0, description="Deliveries at once.")
    requests_per_minute: _Count = Field(0, description="Requests taken in, within any minute.")
    bytes_per_day: _Bytes = Field(0, description="Bytes laid out for transfer, in a day of UTC.")


class QuotaValue(_Value):
    """What a tenant may have, and each of its users."""

    tenant: AllowanceValue = Field(AllowanceValue(), description="Of all users together.")
    user: AllowanceValue = Field(AllowanceValue(), description="Of each user.")
    over_requests: OverRequests = Field(
        "wait", description="What becomes of a request over AMQP that is more."
    )
    over_bytes: OverBytes = Field(
        "wait", description="What becomes of a delivery with bytes that are more."
    )


def quota_of(value: Mapping[str, Any]) -> Quota:
    """Return what a value means. What only a later version knows is passed over."""
    return Quota(
        tenant=_allowance(value["tenant"]),
        user=_allowance(value["user"]),
        over_requests=value["over_requests"],
        over_bytes=value["over_bytes"],
    )


def _allowance(value: Mapping[str, Any]) -> Allowance:
    return Allowance(**{name: value[name] for name in AllowanceValue.model_fields if name in value})
