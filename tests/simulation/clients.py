"""Clients: they ask, ask twice, cancel, use ids again, and write down what they hear."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from aio_pika import DeliveryMode, Message

from app.delivery.formats import AS_FILES
from streams.amqp import names
from streams.channels import CANCELS, REQUESTS, RESPONSES
from tests.simulation.rabbitmq import Broker, Stored
from tests.simulation.weather import Weather, by_no_process

_FORMATS = ("zip", "tar", "tar.zst", "files", "files", "files")
# The same ones often, so that keys of some meet: also those of an id and of a folder.
_PREFIXES = ("", "", "p", "{user}/{date}", "p/{productId}", "{correlationId}")
_ARCHIVE_NAMES = ("", "", "x", "{productId}-{version}")
TERMINAL = ("DENIED", "DONE", "ERROR")
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A request that is planned."""

    at: float  # seconds after the beginning
    tenant: str
    correlation_id: str
    user: str
    again: int = 0  # how often the id is used again, each time the answer is there
    twice_after: float | None = None  # seconds until the same message is sent once more
    cancelled_after: float | None = None  # seconds
    spoilt_after: float | None = None  # seconds until its client sends what can't be read


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A response."""

    at: float
    tenant: str
    message_id: str
    body: dict[str, Any]

    @property
    def status(self) -> str:
        """How the delivery goes."""
        return str(self.body["status"])


@dataclass
class Clients:
    """All clients of all tenants."""

    weather: Weather
    broker: Broker
    formats: bool = False  # each request asks for one
    names: bool = False  # and for a place of its archive
    parts: bool = False  # and most take what there is
    heard: list[Heard] = field(default_factory=list)
    asked: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    # Requests that came when no other of the id was under way: each has an answer of its own.
    alone: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    spoilt: set[str] = field(default_factory=set)  # ids of messages that can't be read
    on_response: Callable[[Heard], None] = lambda _heard: None
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _again: defaultdict[tuple[str, str], list[Wish]] = field(
        default_factory=lambda: defaultdict(list)
    )
    # Message ids of what ended a delivery: a repeat has the same.
    answers: defaultdict[tuple[str, str], set[str]] = field(
        default_factory=lambda: defaultdict(set)
    )
    # Those of them that no request is counted for: see `copies`.
    excused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.broker.hear(RESPONSES.exchange.name, self._hear)

    def plan(self, wish: Wish) -> None:
        """Ask in time."""
        by_no_process(wish.at, partial(self._ask, wish))

    def counted(self, key: tuple[str, str]) -> int:
        """Return how many answers there are, each to a request."""
        return len(self.answers[key] - self.excused)

    def miscounted(self) -> Iterator[str]:
        """Tell of which ids there are fewer answers than requests by themselves, or too many.

        One that is excused stands for no request: else it would hide that another is lost.
        """
        for key, asked in self.asked.items():
            counted, alone = self.counted(key), self.alone[key]
            if not alone <= counted <= asked:
                excused = len(self.answers[key]) - counted
                yield (
                    f"{'/'.join(key)} was asked for {asked} times, {alone} of them by itself, and "
                    f"answered {counted} times; {excused} answers more are excused"
                )

    def _ask(self, wish: Wish) -> None:
        key = wish.tenant, wish.correlation_id
        draws = self.weather.draws.of("clients")
        if self.asked[key] == self.counted(key):
            self.alone[key] += 1
        self.asked[key] += 1
        number = next(self._numbers)
        body: dict[str, Any] = {
            "correlationId": wish.correlation_id,
            "order": {"user": wish.user, "queries": [f"q{number}"]},
        }
        if self.formats:
            chosen = self.weather.draws.of("formats").choice(_FORMATS)
            body["delivery"] = {"format": chosen}
            if self.names:
                places = self.weather.draws.of("names")
                body["delivery"]["prefix"] = places.choice(_PREFIXES)
                if chosen != AS_FILES:
                    body["delivery"]["archiveName"] = places.choice(_ARCHIVE_NAMES)
        if self.parts and self.weather.draws.of("parts").random() < 0.8:
            body.setdefault("delivery", {})["partial"] = True
        message = self._message(wish.tenant, body, named=draws.random() < 0.6)
        self.weather.note(f"{wish.user} asks for {wish.correlation_id} of {wish.tenant}")
        self.broker.publish(REQUESTS.exchange.name, message)
        if wish.again:
            self._again[key].append(wish)
        if wish.twice_after is not None and message.message_id is not None:
            by_no_process(
                wish.twice_after, partial(self.broker.publish, REQUESTS.exchange.name, message)
            )
        if wish.cancelled_after is not None:
            by_no_process(
                wish.cancelled_after, partial(self.cancel, wish.tenant, wish.correlation_id)
            )
        if wish.spoilt_after is not None:
            by_no_process(wish.spoilt_after, partial(self._spoil, wish.tenant))

    def _spoil(self, tenant: str) -> None:
        message = self._message(tenant, {"correlationId": ""}, named=True)
        assert message.message_id is not None
        self.weather.note(f"a client of {tenant} sends what can't be read")
        self.spoilt.add(message.message_id)
        self.broker.publish(REQUESTS.exchange.name, message)

    def cancel(self, tenant: str, correlation_id: str) -> None:
        """Ask for a delivery to end."""
        self.weather.note(f"a client cancels {correlation_id} of {tenant}")
        body = {"correlationId": correlation_id}
        self.broker.publish(CANCELS.exchange.name, self._message(tenant, body, named=True))

    def _message(self, tenant: str, body: dict[str, Any], *, named: bool) -> Message:
        draws = self.weather.draws.of("clients")
        now = asyncio.get_running_loop().time()
        return Message(
            json.dumps(body).encode(),
            headers={names.HEADER_TENANT: tenant},
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            app_id="client",
            message_id=str(UUID(int=draws.getrandbits(128))) if named else None,
            timestamp=_EPOCH + timedelta(seconds=int(now)),
        )

    def _hear(self, stored: Stored) -> None:
        message = stored.message
        assert message.message_id is not None
        heard = Heard(
            at=asyncio.get_running_loop().time(),
            tenant=str(message.headers[names.HEADER_TENANT]),
            message_id=message.message_id,
            body=json.loads(message.body),
        )
        key = heard.tenant, heard.body["correlationId"]
        first = message.message_id not in self.answers[key]
        self.heard.append(heard)
        self.on_response(heard)
        if heard.status not in TERMINAL or not first:
            return
        self.answers[key].add(message.message_id)
        self.weather.note(
            f"{heard.tenant} hears {heard.status} of {heard.body['correlationId']}"
            + (f" ({heard.body['errorType']})" if "errorType" in heard.body else "")
        )
        if self._again[key]:
            wish = self._again[key].pop(0)
            later = self.weather.draws.of("clients").choice((0.01, 1.0, 30.0))
            by_no_process(
                later,
                partial(
                    self._ask,
                    Wish(
                        at=0,
                        tenant=wish.tenant,
                        correlation_id=wish.correlation_id,
                        user=wish.user,
                        again=wish.again - 1,
                    ),
                ),
            )
