"""The Kafka topics, made so that nothing is lost with those that are missing."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from app.settings import Settings
from app.store import PostgresArrivals, alone
from streams.kafka.topics import Topics, ensure_topics


async def make_topics(
    settings: Settings, pool: asyncpg.Pool, arrivals: PostgresArrivals
) -> list[str]:
    """Create the topics that are missing, one process at a time; what they held is due again.

    Workers start together, and miss lost topics together; not every broker takes two creations of
    one topic for one (the embedded one then refuses what is appended). Returns the names of those
    that were created. Raises ConfigurationError.
    """
    consumed = Topics(prefix=settings.kafka_topic_prefix).consumed

    async def lost(missing: Sequence[str]) -> None:
        if not set(missing).isdisjoint(consumed):
            await arrivals.all_lost()

    return await ensure_topics(settings, alone=lambda: alone(pool, "topics"), lost=lost)
