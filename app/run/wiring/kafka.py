"""Kafka: its topics, what is written there, and what is read without taking part in the work."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial

from app.run.wiring.database import PostgresDatabase
from app.settings import Settings
from app.usecases.reconcile import topics_lost
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.progress_table import ProgressTable
from streams.kafka.topics import Topics, ensure_topics


def open_events(settings: Settings) -> AbstractAsyncContextManager[EventLog]:
    """Open what events are appended to. Raises ConfigurationError."""
    return open_event_log(settings)


async def make_topics(database: PostgresDatabase) -> list[str]:
    """Create the topics that are missing, one process at a time; what they held is due again.

    Workers start together, and miss lost topics together; not every broker takes two creations of
    one topic for one (the embedded one then refuses what is appended). Returns the names of those
    that were created. Raises ConfigurationError.
    """
    settings = database.settings
    lost = partial(
        topics_lost,
        consumed=Topics(prefix=settings.kafka_topic_prefix).consumed,
        arrivals=database.arrivals,
    )
    return await ensure_topics(settings, alone=partial(database.alone, "topics"), lost=lost)


def progress_table(settings: Settings) -> ProgressTable:
    """Return what reads how far transfers are. Raises ConfigurationError."""
    return ProgressTable(settings)
