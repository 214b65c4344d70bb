"""The rules of a delivery request (contract, section 1), told in a client's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from app.delivery.ingress import DeliveryRequest
from app.delivery.messages import DeliveryRequestDtoEvent, as_property, broken_rules
from app.delivery.targets import DEFAULT_TARGET
from app.errors import InvalidRequestError


def parse_request(
    body: Mapping[str, Any],
    *,
    delivery_id: UUID,
    tenant: str,
    origin_app: str | None = None,
    priority: int = 1,
    trace: str | None = None,
) -> DeliveryRequest:
    """Check a decoded request. Unless an `origin_app` asks, its ordering user does.

    Raises InvalidRequestError that names the broken rules (of very many, the first), each as
    `field words`.
    """
    try:
        request = DeliveryRequestDtoEvent.model_validate(body)
    except ValidationError as error:
        raise InvalidRequestError(broken_rules(error)) from None
    target, options = request.target_delivery, request.delivery
    return DeliveryRequest(
        id=delivery_id,
        tenant=tenant,
        correlation_id=request.correlation_id,
        origin_app=origin_app or as_property(request.order.user),
        priority=priority,
        trace=trace,
        target=target if target and target.strip() else DEFAULT_TARGET,
        format=options.format if options else None,
        archive_template=options.archive_name if options else None,
        prefix_template=options.prefix if options else None,
        partial=bool(options.partial) if options else False,
        labels=tuple(options.labels or ()) if options else (),
        deadline=options.deadline if options else None,
        user=request.order.user,
        order=request.order.body(),
    )
