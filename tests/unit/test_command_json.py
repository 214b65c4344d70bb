"""What commands print for scripts: JSON, word by word, and each is what its view says."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from app.cli import dead_letter_queues, dead_letter_topic, deliveries, doctor, topics
from app.cli import watch as watching
from app.cli.tables import in_json
from app.delivery.attempts import Attempt
from app.delivery.missing import MissingFile
from app.delivery.states import State
from app.errors import ErrorType
from app.settings import Settings
from app.views.deliveries import DeliveryView, Depth, Outcome, Owed, Step, Tracked, WorkerSeen
from app.views.findings import Finding, bad, good
from app.views.segments import SegmentSeen
from app.views.view import View
from streams.amqp.dead_letters import QUEUES, DeadMessage
from streams.kafka.dead_letters import DeadEvent
from streams.kafka.topic_check import Difference
from tests.recorded.today.examples import AT, CORRELATION, DELIVERY, RESULT, TENANT

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DONE = Tracked(
    delivery=replace(
        DELIVERY, state=State.DONE, order_id=42, archive_name="P.zip", file_count=2, attempt=1
    ),
    updated_at=AT,
    state_since=AT,
    not_before=AT,
    finished_at=NOON,
    worker=None,
    result=RESULT,
    error=None,
)
EVENT = DeadEvent(id="1:2", topic=None, reason="bäd", key=b"t/d\xff", value=b"{\xff", at=AT)
MESSAGE = {
    "body": b'{"correlationId": "d-1", "a": [1]}',
    "headers": {"regards.tenant": "t", "x-other": "é", "at": AT, "raw": b"1"},
    "message_id": None,
    "timestamp": AT,
    "content_type": "application/json",
    "content_encoding": None,
    "priority": 0,
    "correlation_id": None,
    "reply_to": None,
    "app_id": None,
    "type": None,
}
DEAD_LETTERS = [
    DeadMessage(id="requests:ab", queue="requests", message=SimpleNamespace(**MESSAGE)),  # type: ignore[arg-type]
    DeadMessage(
        id="global:cd",
        queue="global",
        message=SimpleNamespace(  # type: ignore[arg-type]
            **MESSAGE | {"body": b"\xff", "headers": {}, "message_id": "m", "timestamp": None}
        ),
    ),
]
SHOWN = (
    '{"id": "00000000-0000-4000-8000-000000000001", "tenant": "default", '
    '"correlationId": "d-001", "state": "DONE", "user": "someone@cnes.fr", '
    '"target": "regards-s3-minio", "originApp": "client-app", "priority": 7, '
    '"requestedAt": "2026-01-02T03:04:05.678+00:00", '
    '"expiresAt": "2026-01-02T03:04:05.678+00:00", '
    '"updatedAt": "2026-01-02T03:04:05.678+00:00", '
    '"stateSince": "2026-01-31T12:00:00.000+00:00", '
    '"finishedAt": "2026-01-31T12:00:00.000+00:00", "orderId": 42, "format": "zip", '
    '"archiveName": "P.zip", "files": 2, "bytes": 0, "attempt": 1, '
    '"url": "s3://bucket/archives/d-001/P_v1.zip", '
    '"md5": "900150983cd24fb0d6963f7d28e17f72", "archiveBytes": 1523654}'
)
ORDER = (
    ', "order": {"user": "someone@cnes.fr", "queries": ["providerId:PRODUCT_1"], "filters": '
    '{"dataTypes": ["RAWDATA", "QUICKLOOK"], "filenameRegExp": ".*\\\\.tif"}}, '
    '"history": [{"state": "GRANTED", "attempt": 0, "at": "2026-01-02 03:04:05.678901+00:00"}, '
    '{"state": "TRANSFERRING", "attempt": 1, "at": "2026-01-31 12:00:00+00:00", '
    '"cause": "S3 is away"}], '
    '"attempts": [{"attempt": 4, "worker": "w-é", "target": "regards-s3-minio", '
    '"began": "2026-01-31T12:00:00.000+00:00", "ended": "2026-01-31T12:00:02.000+00:00", '
    '"outcome": "done", "bytes": 20}, {"attempt": 3, "worker": "w", "target": "regards-s3-minio", '
    '"began": "2026-01-31T12:00:00.000+00:00", "ended": "2026-01-31T12:00:02.000+00:00", '
    '"outcome": "postponed", "cause": "S3 is away"}, '
    '{"attempt": 2, "worker": "w", "target": "regards-s3-minio", '
    '"began": "2026-01-31T12:00:00.000+00:00", "ended": "2026-01-31T12:00:02.000+00:00", '
    '"outcome": "postponed", "cause": "S3 is away"}, '
    '{"attempt": 1, "worker": "w", "target": "regards-s3-minio", '
    '"began": "2026-01-31T12:00:00.000+00:00", "ended": "2026-01-31T12:00:02.000+00:00", '
    '"outcome": "postponed", "cause": "S3 is away"}]}'
)
STATS = (
    '{"waiting": [{"tenant": "default", "state": "READY", "deliveries": 3, "oldestSeconds": 13}], '
    '"ended": [{"tenant": "default", "state": "DONE", "errorType": null, "deliveries": 1, '
    '"bytes": 20, "medianSeconds": 61.0}, {"tenant": "default", "state": "ERROR", '
    '"errorType": "EXPIRED", "deliveries": 1, "bytes": 0, "medianSeconds": 7.2}], '
    '"workers": [{"worker": "w-\\u00e9", "version": "1.2.3", "running": "2/8", '
    '"silentForSeconds": 4}], "owed": [{"lane": "orders", "messages": 2, "overdueSeconds": 0}]}'
)
LISTED_EVENT = (
    '{"id": "1:2", "topic": null, "key": "t/d\ufffd", "bytes": 2, '
    '"at": "2026-01-02T03:04:05+00:00", "reason": "bäd"}'
)
LISTED_MESSAGES = [
    (
        '{"id": "requests:ab", "queue": "requests", "tenant": "t", "correlationId": "d-1", '
        '"messageId": null, "timestamp": "2026-01-02T03:04:05.678901+00:00", "bytes": 34, '
        '"reason": "its AMQP properties can\'t be written again"}'
    ),
    (
        '{"id": "global:cd", "queue": "global", "tenant": null, "correlationId": null, '
        '"messageId": "m", "timestamp": null, "bytes": 1, "reason": "not told"}'
    ),
]


class Deliveries:
    """There is one, and figures."""

    async def of(self, _tenant: str, _correlation_id: str) -> list[Tracked]:
        return [DONE]

    async def browse(self, *_: object, **__: object) -> list[Tracked]:
        return [DONE]

    async def segments(self, _delivery: object) -> list[SegmentSeen]:
        listed = SegmentSeen(number=1, suborder=7, announced_at=AT, listed_at=NOON, file_count=2)
        return [listed, replace(listed, number=2, suborder=None, listed_at=None, file_count=0)]

    async def steps(self, _delivery: object) -> list[Step]:
        return [
            Step(id=1, state=State.GRANTED, attempt=0, at=AT),
            Step(id=2, state=State.TRANSFERRING, attempt=1, at=NOON, cause="S3 is away"),
        ]

    async def attempts(self, _delivery: object) -> list[Attempt]:
        failed = Attempt(
            attempt=1,
            worker="w",
            target="regards-s3-minio",
            began=NOON,
            ended=NOON + timedelta(seconds=2),
            outcome="postponed",
            cause="S3 is away",
        )
        done = replace(failed, attempt=4, worker="w-é", outcome="done", cause=None, bytes=20)
        return [done, *(replace(failed, attempt=number) for number in (3, 2, 1))]

    async def depths(self) -> list[Depth]:
        return [Depth(tenant=TENANT, state=State.READY, deliveries=3, oldest=12.6)]

    async def outcomes(self, tenants: Sequence[str], *, since: datetime) -> list[Outcome]:
        assert since < datetime.now(UTC)
        assert tenants == [TENANT]
        expired = Outcome(
            state=State.ERROR,
            error_type=ErrorType.EXPIRED,
            deliveries=1,
            bytes=0,
            median_seconds=7.25,
        )
        done = replace(expired, state=State.DONE, error_type=None, bytes=20, median_seconds=61.0)
        return [done, expired]

    async def workers(self) -> list[WorkerSeen]:
        worker = WorkerSeen(
            id="w-é",
            version="1.2.3",
            started_at=AT,
            seen_at=NOON,
            silent_for=4.4,
            slots=8,
            running=2,
        )
        return [worker]

    async def owed(self) -> list[Owed]:
        return [Owed(lane="orders", messages=2, oldest=0.4)]


class Queues:
    """Have two dead letters."""

    async def look(self, _queues: Sequence[str], *, limit: int) -> list[DeadMessage]:
        return DEAD_LETTERS[:limit]


@contextlib.asynccontextmanager
async def _queues(_settings: Settings) -> AsyncIterator[Queues]:
    yield Queues()


@contextlib.asynccontextmanager
async def _database(_settings: Settings) -> AsyncIterator[SimpleNamespace]:
    yield SimpleNamespace(tracking=Deliveries())


async def _findings(_settings: Settings) -> AsyncIterator[Finding]:
    yield good("postgresql", "version", "it is 16: é")
    yield bad("s3", "bucket", "none", "make it")


async def _differences(_settings: Settings) -> list[Difference]:
    return [Difference(topic="t", what="partitions", found="1", wanted="2", advice="é")]


async def _dead_events(_settings: Settings) -> list[DeadEvent]:
    return [EVENT]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command on what is there, without a process or a network; return what it prints."""
    settings = Settings()
    for module in (deliveries, dead_letter_queues, dead_letter_topic, doctor, topics):
        monkeypatch.setattr(module, "load_settings", lambda: settings)
    for module, name, double in (
        (deliveries, "open_database", _database),
        (doctor, "examine", _findings),
        (topics, "differences", _differences),
        (dead_letter_topic, "look", _dead_events),
        (dead_letter_queues, "looking_alone", contextlib.nullcontext),
        (dead_letter_queues, "open_queues", _queues),
    ):
        monkeypatch.setattr(module, name, double)

    def run(command: click.Command, *arguments: str) -> str:
        ended = CliRunner().invoke(command, arguments)
        # These two end with an error when they find something.
        assert ended.exception is None or command in (doctor.doctor, topics.check)
        return ended.output

    return run


@pytest.mark.parametrize(
    ("command", "arguments", "lines"),
    [
        pytest.param(deliveries.list_, ["--json"], [SHOWN], id="list"),
        pytest.param(deliveries.show, [CORRELATION, "--json"], [SHOWN[:-1] + ORDER], id="show"),
        pytest.param(deliveries.stats, ["--json"], [STATS], id="stats"),
        pytest.param(dead_letter_topic.list_, ["--json"], [LISTED_EVENT], id="dlt list"),
        pytest.param(dead_letter_queues.list_, ["--json"], LISTED_MESSAGES, id="dlq list"),
        pytest.param(
            doctor.doctor,
            ["--json"],
            [
                (
                    '{"part": "postgresql", "check": "version", "ok": true, '
                    '"message": "it is 16: é", '
                    '"advice": ""}'
                ),
                (
                    '{"part": "s3", "check": "bucket", "ok": false, "message": "none", '
                    '"advice": "make it"}'
                ),
            ],
            id="doctor",
        ),
        pytest.param(
            topics.check,
            ["--json"],
            [
                '{"topic": "t", "what": "partitions", "found": "1", "wanted": "2", "advice": "é"}',
            ],
            id="topics check",
        ),
    ],
)
def test_json_is_one_object_a_line(
    printed: Callable[..., str], command: click.Command, arguments: list[str], lines: list[str]
) -> None:
    assert printed(command, *arguments).splitlines() == lines


SUBORDERS = [
    (
        '{"number": 1, "subOrderId": 7, "announcedAt": "2026-01-02T03:04:05.678+00:00", '
        '"listedAt": "2026-01-31T12:00:00.000+00:00", "files": 2, "archived": true}'
    ),
    '{"number": 2, "announcedAt": "2026-01-02T03:04:05.678+00:00"}',
]
PARKED = replace(
    DONE,
    delivery=replace(
        DONE.delivery, state=State.TRANSFERRING, announced=2, total_suborders=3, parked=True
    ),
    updated_at=NOON,
    finished_at=None,
    listed=1,
)


def test_a_delivery_of_several_suborders_is_shown_with_them(
    printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def of(*_: object, **__: object) -> list[Tracked]:
        return [PARKED]

    monkeypatch.setattr(Deliveries, "of", of)
    monkeypatch.setattr(Deliveries, "browse", of)
    shown = json.loads(printed(deliveries.show, CORRELATION, "--json"))
    assert shown["segments"] == [json.loads(line) for line in SUBORDERS]
    told = printed(deliveries.show, CORRELATION)
    words = "1 of at least 3 suborders is in the archive; waits for the next one since"
    assert words in told
    assert "1: 7, available since 2026-01-02 03:04:05Z, 2 files listed" in told
    assert "2: the rest of the order, available since" in told
    assert "waits for" in printed(deliveries.list_)


def test_attempts_that_ended_alike_are_shown_as_one(printed: Callable[..., str]) -> None:
    told = " ".join(re.sub("[│├└─]", " ", printed(deliveries.show, CORRELATION)).split())
    assert (
        "attempts, the newest first 4: 2026-01-31 12:00:00Z on w-é, done after 2.0 s, 20 B "
        "3: 2026-01-31 12:00:00Z on w, postponed after 2.0 s: S3 is away "
        "2 more alike, the first of them 2026-01-31 12:00:00Z"
    ) in told


def test_parked_deliveries_are_counted_in_the_table(
    printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = Depth(tenant=TENANT, state=State.READY, deliveries=3, oldest=12.6)
    transferring = replace(ready, state=State.TRANSFERRING, parked=2, oldest_parked=7.6)

    async def depths(_self: object) -> list[Depth]:
        return [ready, transferring]

    monkeypatch.setattr(Deliveries, "depths", depths)
    told = json.loads(printed(deliveries.stats, "--json"))["waiting"]
    assert "parked" not in told[0]
    assert (told[1]["parked"], told[1]["oldestParkedSeconds"]) == (2, 8)
    assert "parked" in printed(deliveries.stats)


async def test_those_that_wait_for_a_suborder_are_told_beside_the_transfers() -> None:
    class Waiting(Deliveries):
        async def depths(self) -> list[Depth]:
            ready = Depth(tenant=TENANT, state=State.READY, deliveries=3, oldest=12.6)
            transferring = replace(ready, state=State.TRANSFERRING, parked=2, oldest_parked=7.6)
            return [ready, transferring, replace(transferring, tenant="other", parked=9)]

    overview: Any = Waiting()
    told = await watching.told(overview, [TENANT])
    assert told == "3 READY, 3 TRANSFERRING, of them 2 for a suborder, the longest for 8 s"


def test_an_event_is_shown_with_its_content(printed: Callable[..., str]) -> None:
    shown = json.loads(LISTED_EVENT) | {"value": "{\ufffd"}
    written = json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
    assert printed(dead_letter_topic.show, "1:2") == written


def test_a_message_is_shown_with_all_that_came_with_it(printed: Callable[..., str]) -> None:
    shown = json.loads(LISTED_MESSAGES[0]) | {
        "origin": QUEUES["requests"].removesuffix(".DLQ"),
        "properties": {"content_type": "application/json", "priority": 0},
        "headers": {
            "regards.tenant": "t",
            "x-other": "é",
            "at": "2026-01-02 03:04:05.678901+00:00",
            "raw": "b'1'",
        },
        "body": {"correlationId": "d-1", "a": [1]},
    }
    written = json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
    assert printed(dead_letter_queues.show, "requests:ab") == written


def test_what_others_nested_deeper_than_a_view_may_be_is_shown(
    printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = b'{"a":' * 400 + b"1" + b"}" * 400
    sent = SimpleNamespace(**MESSAGE | {"body": deep, "headers": {"x": json.loads(deep)}})
    dead_letter = DeadMessage(id="global:ef", queue="global", message=sent)  # type: ignore[arg-type]

    async def look(*_: Any, **__: Any) -> list[DeadMessage]:
        return [dead_letter]

    monkeypatch.setattr(Queues, "look", look)
    shown = json.loads(printed(dead_letter_queues.show, "global:ef"))
    assert shown["body"] == shown["headers"]["x"] == json.loads(deep)


def test_a_body_that_is_no_text_is_shown_in_base64(printed: Callable[..., str]) -> None:
    shown = json.loads(printed(dead_letter_queues.show, "global:cd"))
    assert shown["body"] == {"base64": "/w=="}
    assert shown["origin"] is None


@pytest.mark.parametrize(
    "command",
    [
        deliveries.list_,
        deliveries.stats,
        dead_letter_queues.list_,
        dead_letter_topic.list_,
        topics.check,
    ],
)
def test_a_table_shows_what_there_is(printed: Callable[..., str], command: click.Command) -> None:
    told = printed(command)
    assert any(name in told for name in ("d-001", "w-é", "requests:ab", "1:2", "partitions"))


@pytest.mark.parametrize(
    ("view", "example"),
    [
        (DeliveryView, SHOWN),
        (deliveries.WholeDeliveryView, SHOWN[:-1] + ORDER),
        (deliveries.StatsView, STATS),
        (dead_letter_topic.DeadEventView, LISTED_EVENT),
        (dead_letter_queues.DeadMessageView, LISTED_MESSAGES[0]),
    ],
)
def test_a_field_that_its_view_has_not_is_found(view: type[View], example: str) -> None:
    known: dict[str, Any] = json.loads(example)
    assert in_json(view.model_validate_json(example)) == json.dumps(known, ensure_ascii=False)
    with pytest.raises(ValidationError, match="Extra inputs"):
        view.model_validate_json(json.dumps(known | {"unknown": 1}))


class Partial(Deliveries):
    """The one is without twelve files."""

    async def of(self, _tenant: str, _correlation_id: str) -> list[Tracked]:
        return [replace(DONE, delivery=replace(DONE.delivery, partial=True))]

    async def missing(self, _delivery: object, *, limit: int) -> list[MissingFile]:
        named = MissingFile(cause="rs-order answered 404", file_id=7, member="P/a.tif", size=3)
        return [named, MissingFile.unnamed(9, "rs-order does not tell which")][:limit]

    async def missing_count(self, _delivery: object) -> int:
        return 12


@pytest.fixture
def partial_delivery(monkeypatch: pytest.MonkeyPatch, printed: object) -> None:
    """Let the one delivery be one that is without some files."""
    assert printed

    @contextlib.asynccontextmanager
    async def database(_settings: Settings) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(tracking=Partial())

    monkeypatch.setattr(deliveries, "open_database", database)


@pytest.mark.usefixtures("partial_delivery")
def test_a_delivery_names_the_first_files_that_it_is_without(
    printed: Callable[..., str],
) -> None:
    shown = json.loads(printed(deliveries.show, CORRELATION, "--json"))
    assert shown["missing"] == 12
    assert shown["missingFiles"] == [
        {
            "fileId": 7,
            "member": "P/a.tif",
            "bytes": 3,
            "files": 1,
            "cause": "rs-order answered 404",
        },
        {"files": 9, "cause": "rs-order does not tell which"},
    ]
    words = printed(deliveries.show, CORRELATION)
    assert "missing: 12" in words
    assert "P/a.tif: rs-order answered 404" in words
    assert "9 files: rs-order does not tell which" in words
    assert "and 2 more" in words
