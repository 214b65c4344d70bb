"""How it is today, a function a recording. No other part of the recordings names the code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg

from tests.recorded.today import (
    amqp,
    commands,
    figures,
    http,
    kafka,
    postgres,
    rows,
    settings,
    words,
)

# Made without a process or a network.
RECORDINGS: Mapping[str, Callable[[], Any | Awaitable[Any]]] = {
    "amqp_declared": amqp.declared,
    "amqp_published": amqp.published,
    "amqp_received": amqp.received,
    "amqp_buried": amqp.dead_lettered,
    "kafka_topics": kafka.topics,
    "kafka_appended": kafka.appended,
    "kafka_events": kafka.events,
    "kafka_consumed": kafka.consumed,
    "postgres_migrations": postgres.migrations,
    "http_endpoints": http.endpoints,
    "http_routes": http.routes,
    "http_openapi": http.openapi,
    "commands": commands.commands,
    "exit_codes": commands.exit_codes,
    "settings": settings.settings,
    "tenant_settings": settings.tenant_settings,
    "metrics": figures.metrics,
    "log_events": figures.log_events,
    "spans": figures.spans,
    "words": words.words,
    "objects": words.objects,
    "digests": words.digests,
}
# Made with a migrated database.
STORED: Mapping[str, Callable[[asyncpg.Pool], Awaitable[Any]]] = {
    "postgres_schema": postgres.schema,
    "postgres_locks": postgres.locks,
    "postgres_rows": rows.rows,
}
# Made with one, too; a sealed text differs each time.
SEALED = "sealed"
