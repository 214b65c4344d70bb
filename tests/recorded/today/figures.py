"""What an operator watches: metrics, events in the log, spans."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import web.api.metrics
from tests.recorded.source import Source

_FOLDERS = ("app", "streams", "sinks", "web")
_ROOT = Path(__file__).parents[3]


def metrics() -> Any:
    """Each metric of a process, and of the database."""
    found: dict[str, Any] = {}
    for collector in set(REGISTRY._collector_to_names):
        # Others' are of Python and of the process; tests may have some, too.
        if isinstance(collector, MetricWrapperBase) and collector._name.startswith(
            ("delivery_", "http_")
        ):
            found[collector._name] = {
                "type": collector._type,
                "labels": list(collector._labelnames),
            }
            if collector._type == "histogram":
                found[collector._name]["buckets"] = [
                    str(bound) for bound in vars(collector)["_upper_bounds"]
                ]
    database = web.api.metrics.DatabaseCollector()
    database.up = True
    for family in database.collect():
        found[family.name] = {"type": family.type, "labels": list(vars(family)["_labelnames"])}
    return found


def log_events() -> Any:
    """Each event that is logged, with the levels that it is logged at."""
    return _source().log_events()


def spans() -> Any:
    """The names of spans; {} is what only a run tells: a queue, a topic, a kind of work."""
    return _source().spans()


@cache
def _source() -> Source:
    return Source(_ROOT / folder for folder in _FOLDERS)
