"""The Faust app: made of settings, no module-level state, agents registered in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import faust
from faust.auth import Credentials, SASLCredentials, SSLCredentials

from app.delivery.ports import Arrivals, DeliveryStore, Users
from app.delivery.states import Work
from app.settings import Settings
from app.tenants.registry import ConfiguredTenants
from app.usecases.bury import Keep, keep_nowhere
from app.waiting.wakeup import Wakeup
from streams.channels import KAFKA
from streams.kafka.agents import Dependencies, agent, handler_of
from streams.kafka.brokers import client_arguments
from streams.kafka.dispatch import Dispatcher
from streams.kafka.faust_transport import Transport
from streams.kafka.log import EventLog

_METADATA_MAX_AGE = 30_000  # milliseconds until topics that were made again are seen


class DeliveryApp(faust.App):
    """A Faust app on that transport."""

    fetch_max_wait_ms: int  # read by the transport
    dispatchers: list[Dispatcher]  # of the agents that run

    def _new_transport(self) -> Any:
        return Transport(self.conf.broker, self, loop=self.loop)

    def _create_directories(self) -> None:
        """Create none: no table is kept here, and the file system may be read-only."""


def credentials_of(settings: Settings) -> Credentials | None:
    """Return what Faust gives to aiokafka's clients: what ours are given. None: nothing."""
    arguments = client_arguments(settings)
    context = arguments.get("ssl_context")
    if "sasl_mechanism" in arguments:
        return SASLCredentials(
            username=arguments["sasl_plain_username"],
            password=arguments["sasl_plain_password"],
            mechanism=arguments["sasl_mechanism"],
            ssl_context=context,
        )
    return SSLCredentials(context) if context is not None else None


def create_app(
    settings: Settings,
    *,
    store: DeliveryStore,
    arrivals: Arrivals,
    tenants: ConfiguredTenants,
    users: Users,
    events: EventLog,
    wake: Mapping[Work, Wakeup],
    keep: Keep = keep_nowhere,
) -> DeliveryApp:
    """Make the app and its agents."""
    brokers = ";".join(
        f"kafka://{address.strip()}" for address in settings.kafka_bootstrap_servers.split(",")
    )
    app = DeliveryApp(
        settings.kafka_group,
        broker=brokers,
        broker_credentials=credentials_of(settings),
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=_METADATA_MAX_AGE,
        broker_session_timeout=settings.kafka_session_timeout,
        broker_rebalance_timeout=settings.kafka_rebalance_timeout,
        broker_heartbeat_interval=settings.kafka_heartbeat_interval,
        broker_request_timeout=max(90.0, settings.kafka_session_timeout),
        broker_commit_interval=1.0,
    )
    app.fetch_max_wait_ms = settings.kafka_fetch_max_wait_ms
    app.dispatchers = []
    dependencies = Dependencies(store=store, tenants=tenants, users=users, wake=wake)
    for channel in KAFKA:
        if channel.agent is None:
            continue
        run = agent(
            handler_of(channel, dependencies),
            events=events,
            arrivals=arrivals,
            register=app.dispatchers.append,
            crash=app.crash,
            concurrency=channel.agent.concurrency,
            batch=channel.agent.batch,
            keep=keep,
        )
        topic = app.topic(events.topics.of(channel), key_type=bytes, value_type=bytes)
        app.agent(topic, name=channel.agent.name)(run)
    return app
