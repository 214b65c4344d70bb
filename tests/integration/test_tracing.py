"""One trace from a client's message to the object at S3, through brokers and database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import aiohttp
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from compose.embedded.stack import Stack
from tests.client import ORDER_REQUESTS, Client, request_for
from tests.servers import serving
from tests.service import running_service

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector:
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = defaultdict(list)  # by trace

    async def take(self, request: web.Request) -> web.Response:
        batch = ExportTraceServiceRequest.FromString(await request.read())
        for resource in batch.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans[span.trace_id.hex()].append(span)
        return web.Response(content_type="application/x-protobuf")


async def test_a_delivery_is_one_trace(
    stack: Stack, apart: dict[str, str], client: Client, make_product: Callable[..., str]
) -> None:
    collector = Collector()
    body = request_for(make_product({"a.bin": b"a" * 1000}))
    name = body["correlationId"]
    async with serving(collector.take) as port:
        extra = apart | {"DELIVERY_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        async with running_service(stack, command="worker", extra=extra) as (_, url):
            parent = f"00-{TRACE}-{PARENT}-01"
            await client.send(body, headers={"traceparent": parent})
            await client.wait_for(name, "DONE")
            await client.wait_for(name, exchange=ORDER_REQUESTS)
            async with aiohttp.ClientSession(url) as http:
                figures = await (await http.get("/metrics")).text()
                assert (await http.get("/health/live")).status == 200
                assert (await http.get("/deliveries")).status == 404  # a worker shows no more
        # Stopped: what was left was sent.
    assert 'delivery_finished_total{error_type="",state="DONE"' in figures
    spans = {span.name: span for span in collector.spans[TRACE]}
    assert {
        "DeliveryRequestEventHandler receive",
        "check",
        "plan",
        "transfer",
        "S3 begin",
        "S3 put part",
        "S3 complete",
        "response publish",
        "order publish",
    } <= spans.keys()
    received = spans["DeliveryRequestEventHandler receive"]
    assert received.parent_span_id.hex() == PARENT
    assert spans["transfer"].parent_span_id == received.span_id
    assert spans["S3 complete"].parent_span_id == spans["transfer"].span_id
    told = {
        attribute.key: attribute.value.string_value for attribute in spans["transfer"].attributes
    }
    assert told["delivery.correlation_id"] == name
    for message in (*client.messages(name), *client.messages(name, ORDER_REQUESTS)):
        assert str(message.headers["traceparent"]).split("-")[1] == TRACE
