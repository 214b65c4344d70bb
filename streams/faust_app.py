"""The Faust app: made of settings, no module-level state, agents registered in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import faust
from faust.transport.drivers import aiokafka as driver

from app.model import Work
from app.ports import Store, Tenants, Users
from app.settings import Settings
from app.signals import Signal
from streams.agents import agent, order_event_handler, submit_handler, wake_handler
from streams.kafka import EventLog


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's, with the wait of a fetch as a setting: 1.5 s is built in there.

    Some brokers don't cut that wait short when data arrives, so it is paid at each hop.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = cast("DeliveryApp", self.app).fetch_max_wait_ms  # noqa: SLF001 - no other way in
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer


class DeliveryApp(faust.App):
    """A Faust app on that transport."""

    fetch_max_wait_ms: int

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker, self, loop=self.loop)

    def _create_directories(self) -> None:
        """Create none: no table is kept here, and the file system may be read-only."""


def create_app(
    settings: Settings,
    *,
    store: Store,
    tenants: Tenants,
    users: Users,
    events: EventLog,
    wake: Mapping[Work, Signal],
) -> DeliveryApp:
    """Make the app and its agents."""
    brokers = ";".join(
        f"kafka://{address.strip()}" for address in settings.kafka_bootstrap_servers.split(",")
    )
    app = DeliveryApp(
        settings.kafka_group,
        broker=brokers,
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.kafka_session_timeout,
        broker_rebalance_timeout=settings.kafka_rebalance_timeout,
        broker_heartbeat_interval=settings.kafka_heartbeat_interval,
        broker_request_timeout=max(90.0, settings.kafka_session_timeout),
        broker_commit_interval=1.0,
    )
    app.fetch_max_wait_ms = settings.kafka_fetch_max_wait_ms
    topics = events.topics
    for name, topic, handler in (
        (
            "submit",
            topics.requests,
            submit_handler(store=store, tenants=tenants, users=users, checks=wake[Work.CHECK]),
        ),
        ("order-progress", topics.order_events, order_event_handler(store=store)),
        ("fetch-plan", topics.orders_ready, wake_handler(wake[Work.PLAN])),
        ("transfers", topics.transfers, wake_handler(wake[Work.TRANSFER])),
    ):
        channel = app.topic(topic, key_type=bytes, value_type=bytes)
        app.agent(channel, name=name)(agent(handler, events=events))
    return app
