"""What is said of an order over AMQP: the bodies of `OrderResponseDtoEvent`."""

from __future__ import annotations

from typing import Any

from compose.rs_order.order import Order, Suborder
from compose.rs_order.states import OrderStatus, SuborderState

Body = dict[str, Any]  # what is None is left out


def denied(correlation_id: str, error_type: str, message: str) -> Body:
    """Say that there is no order."""
    return {
        "status": "DENIED",
        "correlationId": correlation_id,
        "errorType": error_type,
        "message": message,
    }


def granted(order: Order) -> Body:
    """Say that it is accepted. How many suborders it has is not told."""
    return _of(order, "GRANTED")


def suborder_done(suborder: Suborder, *, errors: int, count_all: bool) -> Body:
    """Say that a suborder can be downloaded; the number of suborders is a lower bound."""
    order = suborder.order
    begun = [found for found in order.suborders if found.state is not SuborderState.QUEUED]
    return _of(order, "SUBORDER_DONE") | {
        "subOrderId": suborder.suborder_id,
        "totalSubOrders": len(order.suborders if count_all else begun),
        "downloadLink": _link(order),
        "errors": errors or None,
        "errorType": "INTERNAL_ERROR" if errors else None,
    }


def finished(order: Order, *, errors: int, error_type: str | None, message: str | None) -> Body:
    """Say DONE, or FAILED where files are in error: with a link when others can be downloaded."""
    failed = order.status is not OrderStatus.DONE
    return _of(order, "FAILED" if failed else "DONE") | {
        "totalSubOrders": len(order.suborders),
        "downloadLink": None if order.status is OrderStatus.FAILED else _link(order),
        "errors": errors or None,
        "errorType": (error_type or "INTERNAL_ERROR") if failed else None,
        "message": message,
    }


def _of(order: Order, status: str) -> Body:
    return {
        "status": status,
        "correlationId": order.correlation_id,
        "orderId": order.order_id,
    }


def _link(order: Order) -> str:
    # Never to be followed: it points nowhere.
    return f"http://192.0.2.1/api/v1/rs-order/user/orders/{order.order_id}/download"
