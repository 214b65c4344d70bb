"""One example of each thing that is sent or kept; every field has a value of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.delivery import outgoing
from app.delivery.ingress import ArrivalKind, Cancel, DeliveryRequest, IncomingMessage, Ingress
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject, Upload
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.outgoing import Kind, OutgoingMessage
from app.delivery.progress import Phase, Progress
from app.delivery.states import State
from app.delivery.told import Told
from app.errors import ErrorType
from sinks.stores.s3.target import S3Target

ID = UUID("00000000-0000-4000-8000-000000000001")
EVENT = UUID("00000000-0000-4000-8000-000000000002")
TENANT, CORRELATION, USER, APP = "default", "d-001", "someone@cnes.fr", "client-app"
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
DIGEST = bytes(range(32))
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ORDER: dict[str, Any] = {
    "user": USER,
    "queries": ["providerId:PRODUCT_1"],
    "filters": {"dataTypes": ["RAWDATA", "QUICKLOOK"], "filenameRegExp": ".*\\.tif"},
}
REQUEST: dict[str, Any] = {
    "correlationId": CORRELATION,
    "targetDelivery": "regards-s3-minio",
    "order": ORDER,
}
TARGET = S3Target(
    endpoint="https://s3.example.org:9000",
    region="fr-regards-1",
    key="access",
    secret="secret",
    bucket="bucket",
    prefix="archives/",
    addressing_style="virtual",
    storage_class="STANDARD_IA",
    encryption="aws:kms",
    encryption_key="key-1",
)
UPLOAD = Upload(container="bucket", key="archives/d-001/P_v1.zip", upload_id="upload-1")
RESULT = StoredObject(
    url="s3://bucket/archives/d-001/P_v1.zip",
    md5="900150983cd24fb0d6963f7d28e17f72",
    size=1523654,
    etag='"900150983cd24fb0d6963f7d28e17f72-1"',
    files=3,
)


def _ingress(arrival: UUID, kind: ArrivalKind) -> Ingress:
    return Ingress(id=arrival, kind=kind, digest=DIGEST, redelivered=True, received_at=AT)


MESSAGE = IncomingMessage(
    ingress=_ingress(ID, ArrivalKind.REQUEST),
    tenant=TENANT,
    correlation_id=CORRELATION,
    origin_app=APP,
    priority=7,
    trace=TRACE,
    body=REQUEST,
)
ASKED_FOR = DeliveryRequest(
    id=ID,
    tenant=TENANT,
    correlation_id=CORRELATION,
    origin_app=APP,
    priority=7,
    trace=TRACE,
    target="regards-s3-minio",
    user=USER,
    order=ORDER,
)
DELIVERY = Delivery(
    id=ID,
    tenant=TENANT,
    correlation_id=CORRELATION,
    state=State.GRANTED,
    user=USER,
    target="regards-s3-minio",
    order=ORDER,
    origin_app=APP,
    priority=7,
    requested_at=AT,
    expires_at=AT,
)
TRACED = Delivery(
    **{name: getattr(DELIVERY, name) for name in Delivery.__slots__} | {"trace": TRACE}
)
CANCEL = Cancel(
    ingress=_ingress(EVENT, ArrivalKind.CANCEL),
    tenant=TENANT,
    correlation_id=CORRELATION,
    origin_app=APP,
    reason="no more use",
)
ORDER_EVENT = OrderEvent(
    tenant=TENANT,
    correlation_id=CORRELATION,
    status=OrderStatus.DONE,
    order_id=42,
    message="a message",
    error_type="EMPTY_ORDER",
    errors=3,
    total_suborders=2,
    suborder_id=1,
    ingress=_ingress(EVENT, ArrivalKind.ORDER_EVENT),
)
PROGRESS = Progress(
    tenant=TENANT,
    correlation_id=CORRELATION,
    attempt=2,
    phase=Phase.TRANSFERRING,
    bytes_done=10,
    bytes_total=20,
    files_done=1,
    files_total=2,
    elapsed=1.5,
    delivery=ID,
)
# By what each says.
OWED: dict[str, OutgoingMessage] = {
    "response GRANTED": outgoing.granted(DELIVERY),
    "response GRANTED, traced": outgoing.granted(TRACED),
    "response DENIED": outgoing.denied(MESSAGE, ErrorType.INVALID_CONTENT, "order is missing"),
    "response DONE": outgoing.done(DELIVERY, RESULT, Told.of(RESULT)),
    "response ERROR": outgoing.error(DELIVERY, ErrorType.EXPIRED, "its time is over"),
    "order": outgoing.order(DELIVERY, size_limit=5368709120),
    "cancel of the order": outgoing.cancel(DELIVERY, 42),
    "order ready": outgoing.wake(DELIVERY, Kind.ORDER_READY),
    "transfer": outgoing.wake(DELIVERY, Kind.TRANSFER),
}
# Incoming AMQP messages, as a service in Java sends them: kind and body.
ARRIVING: dict[str, tuple[ArrivalKind, dict[str, Any]]] = {
    "request": (ArrivalKind.REQUEST, REQUEST),
    "cancel": (
        ArrivalKind.CANCEL,
        {"correlationId": CORRELATION, "reason": "no more use"},
    ),
    "order response": (
        ArrivalKind.ORDER_EVENT,
        {
            "status": "FAILED",
            "correlationId": CORRELATION,
            "orderId": 42,
            "message": "a message",
            "downloadLink": "http://rs-order/orders/42",
            "errorType": "EMPTY_ORDER",
            "errors": 3,
            "totalSubOrders": 2,
            "subOrderId": 1,
        },
    ),
    "order response of an older version": (
        ArrivalKind.ORDER_EVENT,
        {
            "status": "FAILED",
            "correlationId": CORRELATION,
            "errorCode": "FORBIDDEN",
            "errors": None,
        },
    ),
}
