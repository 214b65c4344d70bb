"""The rules of a delivery request (contract, section 1), told in a client's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from app.errors import InvalidRequestError
from app.model import DEFAULT_TARGET, DeliveryRequest
from app.wire import DeliveryRequestDtoEvent, in_words


def parse_request(body: Mapping[str, Any]) -> DeliveryRequest:
    """Check a decoded request.

    Raises InvalidRequestError that names every broken rule, each as `field words`.
    """
    try:
        request = DeliveryRequestDtoEvent.model_validate(body)
    except ValidationError as error:
        broken = error.errors(include_input=False, include_url=False)
        raise InvalidRequestError([in_words(item) for item in broken]) from None
    target = request.target_delivery
    return DeliveryRequest(
        target=target if target and target.strip() else DEFAULT_TARGET,
        user=request.order.user,
        order=request.order.body(),
    )
