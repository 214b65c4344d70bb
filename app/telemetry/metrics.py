"""What this process counts, for Prometheus. Names and units by its conventions.

Labels have few values: tenants are the configured ones; correlation ids and users are in logs only.
What is in the database is the same for all processes, and counted where it is scraped
(`web.api.metrics`).
"""

from __future__ import annotations

import platform
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram, Info

from app import __version__

REQUESTS = Counter(
    "delivery_requests",
    "Delivery requests, by what became of them: granted, denied, ignored (the correlation id was "
    "in use), repeated (the same message again).",
    ("tenant", "outcome"),
)
FINISHED = Counter(
    "delivery_finished",
    "Deliveries that ended in this process; error_type is empty for DONE.",
    ("tenant", "state", "error_type"),
)
FINISHED_LABELLED = Counter(
    "delivery_labelled_finished",
    "Deliveries that ended in this process, for each label of theirs that an operator has named.",
    ("tenant", "label", "state"),
)
COUNTED_LABELS: set[str] = set()  # that series were made for (`app.run.series`)
SOURCE_BYTES = Counter(
    "delivery_source_bytes", "Bytes of files read from rs-order and verified.", ("tenant",)
)
TARGET_BYTES = Counter(
    "delivery_target_bytes",
    "Bytes of parts that an object store has confirmed.",
    ("tenant", "target"),
)
TRANSFER_SECONDS = Histogram(
    "delivery_transfer_seconds",
    "How long transfers took that ended well.",
    ("tenant", "target"),
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 43200),
)
TRANSFER_RATE = Histogram(
    "delivery_transfer_bytes_per_second",
    "Bytes of files a second, of transfers that ended well.",
    ("tenant", "target"),
    buckets=(1e5, 1e6, 5e6, 1e7, 2.5e7, 5e7, 1e8, 2e8, 4e8, 8e8),
)
RUNNING = Gauge("delivery_running", "What this process works on now, in its slots.", ("work",))
SLOTS = Gauge("delivery_slots", "What this process works on at once, at most.", ("work",))
TAKEOVERS = Counter(
    "delivery_lease_takeovers", "Work taken over from a worker whose lease had run out.", ("work",)
)
LEASES_LOST = Counter(
    "delivery_leases_lost",
    "Work given up because its lease was gone: it was taken over, cancelled, or expired.",
    ("work",),
)
POSTPONED = Counter(
    "delivery_work_postponed", "Work given up for a later attempt.", ("tenant", "target", "state")
)
SOURCE_RETRIES = Counter(
    "delivery_source_retries", "Downloads from rs-order that were resumed or begun again."
)
TARGET_RETRIES = Counter("delivery_s3_retries", "Requests to object stores that were sent again.")
TARGET_UP = Gauge(
    "delivery_target_up",
    "Whether a place of targets (a server, a container, a file system) answers this process; 0: no "
    "transfer to it begins here.",
    ("server",),
)
TRANSFERS_RESUMED = Counter(
    "delivery_transfers_resumed",
    "Attempts that went on with what an earlier one had sent, instead of beginning again.",
    ("tenant",),
)
BYTES_KEPT = Counter(
    "delivery_bytes_kept",
    "Bytes of archives, and of files delivered as they are, that were not to be sent again.",
    ("tenant",),
)
SOURCE_BYTES_AGAIN = Counter(
    "delivery_source_bytes_again",
    "Bytes of files that such attempts read, and an earlier one had read: behind what is kept, as "
    "far as its parts have come, to within a part.",
    ("tenant",),
)
SOURCE_FILES_AGAIN = Counter(
    "delivery_source_files_again",
    "Files that such attempts fetched, and an earlier one had: the user's quota at rs-order counts "
    "them twice.",
    ("tenant",),
)
OBJECTS_REMOVED = Counter(
    "delivery_objects_removed",
    "Objects removed from a target: wrong ones, those of deliveries that had ended, and what was "
    "delivered and has expired.",
    ("tenant",),
)
FILES_LEFT_OUT = Counter(
    "delivery_files_left_out",
    "Files that partial deliveries were made without: `refused` by rs-order, `expired` from its "
    "cache, `wrong` each time that they were read, or `never-listed` by it.",
    ("tenant", "cause"),
)
REPORTS = Counter(
    "delivery_reports",
    "Reports of deliveries that failed: `written`, or `not-written`, for whatever cause: the event "
    "`report_not_written` tells it.",
    ("tenant", "outcome"),
)
CONTENTS_REMOVED = Counter(
    "delivery_contents_removed",
    "Deliveries whose content was removed from its target: as it had expired, or was asked to be.",
    ("tenant",),
)
CONTENTS_GONE = Counter(
    "delivery_contents_gone",
    "Deliveries whose content was to be removed from its target, and was not there any more: "
    "another hand removed it, or its place was emptied.",
    ("tenant",),
)
CONTENT_WARNINGS = Counter(
    "delivery_content_warnings", "Contents of which it was told that they expire soon.", ("tenant",)
)
ASIDE = Gauge(
    "delivery_aside",
    "Work that waits without a slot, for its object store, for memory, or for a slot.",
    ("work",),
)
MESSAGES_DEAD_LETTERED = Counter(
    "delivery_messages_buried", "AMQP messages moved to dead letters.", ("queue",)
)
DEAD_LETTERS = Gauge(
    "delivery_dead_letters",
    "Messages that wait in a dead-letter queue. Of RabbitMQ: take max, not sum, over processes. "
    "regards.DLQ is that of all of REGARDS.",
    ("queue",),
)
EVENTS_DEAD_LETTERED = Counter(
    "delivery_events_dead_lettered", "Events moved to dead letters.", ("topic",)
)
HINTS_LOST = Counter(
    "delivery_hints_lost",
    "Events of topics that only tell of work, which Kafka did not take; workers hear of it anyway.",
    ("topic",),
)
WEBHOOK_EVENTS = Counter(
    "delivery_webhook_events",
    "Events that were sent to webhooks: taken, failed (they are sent again), dead (given up).",
    ("tenant", "outcome"),
)
SIGN_INS = Counter(
    "delivery_sign_ins",
    "Tries to sign in at the console, by a password or a code of the identity provider: accepted, "
    "refused, limited (too many), busy, unavailable (REGARDS, or the provider, did not answer).",
    ("outcome",),
)
IDENTITY_READS = Counter(
    "delivery_identity_reads",
    "Looks at the identity provider and its keys: good, failed (the last keys stay good).",
    ("outcome",),
)
IDENTITY_KEYS_READ = Gauge(
    "delivery_identity_keys_read_timestamp_seconds",
    "When the identity provider's keys were read last; 0: they were not.",
)
CONSUMER_LAG = Gauge(
    "delivery_consumer_lag_events", "Events that the consumer group has not handled.", ("topic",)
)
CONSUMER_RESTARTS = Counter(
    "delivery_consumer_restarts", "Kafka consumers replaced because they were stuck or crashed."
)
LOOP_LAG = Gauge(
    "delivery_event_loop_lag_seconds", "How late the event loop was, at the last look."
)
LOOP_HELD = Histogram(
    "delivery_loop_held_seconds",
    "How long a callback waited for its turn on the event loop, asked ten times a second.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
LOOP_HOLDERS = Histogram(
    "delivery_loop_holder_seconds",
    "The same where it was more than 20 ms, by the function that was seen to hold the loop then; "
    "none: another thread or program had the processor.",
    ("function",),
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
RELOADS = Counter(
    "delivery_reloads",
    "Times that this process has read its files again. failed: something stayed as it was.",
    ("outcome",),
)
RELOAD_FAILED_PARTS = Gauge(
    "delivery_reload_failed_parts",
    "Parts of this process that its last reload left as they were.",
)
WEB_CERTIFICATE_EXPIRES = Gauge(
    "delivery_web_certificate_expires_seconds",
    "Until when the certificate of the HTTP server is good, in seconds since 1970.",
    ("file",),
)
HTTP_REQUESTS = Counter(
    "http_requests",
    "Requests over HTTP. route is a template, or `unknown`; status 499: the client went away.",
    ("route", "method", "status"),
)
HTTP_SECONDS = Histogram(
    "http_request_duration_seconds",
    "How long requests took until their answer was there; streams of events are left out.",
    ("route",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
CONTENT_DOWNLOADS = Gauge(
    "delivery_content_downloads", "Downloads of delivered files through this process."
)
CONTENT_BYTES = Counter(
    "delivery_content_bytes", "Bytes of delivered files that clients downloaded here.", ("tenant",)
)
HTTP_UNDER_WAY = Gauge("http_requests_under_way", "Requests that handlers are busy with.")
HTTP_REFUSED_CONNECTIONS = Counter(
    "http_connections_refused", "Connections closed because too many were open."
)
BUILD = Info("delivery_build", "What runs here.")
BUILD.info({"version": __version__, "python": platform.python_version()})


def ended(tenant: str, state: str, error_type: str = "", *, labels: Iterable[str] = ()) -> None:
    """Count a delivery that has ended; by its labels only where there is a series for them."""
    FINISHED.labels(tenant, state, error_type).inc()
    for label in COUNTED_LABELS.intersection(labels):
        FINISHED_LABELLED.labels(tenant, label, state).inc()
