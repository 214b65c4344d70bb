"""The rules of a delivery request (contract, section 1), told in a client's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from app.delivery.ingress import DeliveryRequest
from app.delivery.messages import DeliveryRequestDtoEvent, broken_rules
from app.delivery.targets import DEFAULT_TARGET
from app.errors import InvalidRequestError


def parse_request(body: Mapping[str, Any]) -> DeliveryRequest:
    """Check a decoded request.

    Raises InvalidRequestError that names the broken rules (of very many, the first), each as
    `field words`.
    """
    try:
        request = DeliveryRequestDtoEvent.model_validate(body)
    except ValidationError as error:
        raise InvalidRequestError(broken_rules(error)) from None
    target = request.target_delivery
    return DeliveryRequest(
        target=target if target and target.strip() else DEFAULT_TARGET,
        user=request.order.user,
        order=request.order.body(),
    )
