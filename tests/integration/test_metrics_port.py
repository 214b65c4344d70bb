"""Figures on a port of their own: for Prometheus without a token, and for no other client."""

from __future__ import annotations

import aiohttp
import pytest

from app.settings import Settings
from compose.embedded.processes import free_port
from compose.embedded.stack import Stack
from tests.caller import instance_admin
from tests.command import delivery
from tests.service import running_service

TOKEN = "a-token-for-prometheus-that-is-long-enough-0123456789"


@pytest.mark.timeout(120)
async def test_figures_are_open_on_their_port_and_closed_on_the_other(
    stack: Stack, database: str, settings: Settings
) -> None:
    port = free_port()
    extra = {
        "DELIVERY_DATABASE_URL": database,
        "DELIVERY_KAFKA_TOPIC_PREFIX": settings.kafka_topic_prefix,
        "DELIVERY_METRICS_PORT": str(port),
        "DELIVERY_METRICS_HOST": "127.0.0.1",
        "DELIVERY_METRICS_TOKEN": TOKEN,
    }
    async with (
        running_service(stack, command="web", extra=extra) as (child, url),
        aiohttp.ClientSession() as http,
    ):
        own = f"http://127.0.0.1:{port}"
        async with http.get(f"{own}/metrics") as answer:
            assert answer.status == 200
            figures = await answer.text()
        assert "delivery_database_up 1.0" in figures
        assert 'delivery_finished_total{error_type="EXPIRED",state="ERROR",tenant=' in figures
        for path, status in (("/health/live", 200), ("/health/ready", 200), ("/settings", 404)):
            async with http.get(own + path) as answer:
                assert answer.status == status, path
        async with http.get(f"{url}/metrics") as answer:
            assert answer.status == 401
        for headers in (instance_admin(stack), {"Authorization": f"Bearer {TOKEN}"}):
            async with http.get(f"{url}/metrics", headers=headers) as answer:
                assert answer.status == 200
        async with http.get(f"{url}/settings", headers={"X-Request-ID": "of-this-test"}) as answer:
            assert answer.status == 401
        assert '"request_id": "of-this-test"' in child.log.read_text()
        assert TOKEN not in child.log.read_text()
        # A second process has it on a port of its own, or is told which setting to change.
        other = {**stack.environment, **extra, "DELIVERY_WEB_PORT": str(free_port())}
        second = delivery("web", **other)
        assert (second.returncode, "set DELIVERY_METRICS_PORT" in second.stderr) == (2, True)
