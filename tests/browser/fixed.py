"""What the pictures of the console show: one night, told by hand, the same each time.

The words are the program's own where it has them; each answer is held against the class that its
endpoint names (`tests/browser/test_pictures.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app.delivery.states import State
from app.run.wiring.kinds import KINDS
from app.tenants.definitions import Definitions
from app.views.attention import AttentionView, Need, Trouble
from compose.embedded.stack import ROOT, TENANT

NOW = datetime(2026, 11, 20, 3, 53, tzinfo=UTC)  # what the browser's clock says, all the time
OPERATOR, SCIENTIST, OTHER = "o.night@example.org", "m.durand@example.org", "a.novak@example.org"
_RECORDED = ROOT / "tests" / "recorded" / "kept" / "tenant_settings.json"


def ago(**time: float) -> str:
    """Return the time so long before the picture is taken, as the API writes times."""
    return (NOW - timedelta(**time)).isoformat(timespec="milliseconds")


def _content(found: Any, **more: Any) -> dict[str, Any]:
    return {"content": found, **more}


def _delivery(number: int, name: str, **told: Any) -> dict[str, Any]:
    asked = told.pop("asked", {"hours": 2})
    return {
        "id": str(UUID(int=number)),
        "tenant": TENANT,
        "correlationId": name,
        "state": State.READY.value,
        "user": SCIENTIST,
        "target": "regards-s3-minio",
        "originApp": "portal",
        "priority": 1,
        "requestedAt": ago(**asked),
        "expiresAt": (NOW + timedelta(hours=12) - timedelta(**asked)).isoformat(
            "T", "milliseconds"
        ),
        "stateSince": ago(**asked),
        "format": "zip",
    } | told


_FIGURES = {"files": 960, "bytes": 48_000_000_000}
_MOVES = {
    "state": State.TRANSFERRING.value,
    "activity": "moving",
    "worker": "worker-2",
    "attempt": 1,
    "orderId": 4711,
    "archiveName": "S2A_MSIL2A_20261003_T31TCJ_v1.zip",
    "stateSince": ago(minutes=5, seconds=44),
    "progress": {
        "phase": "transferring",
        "attempt": 1,
        "bytesDone": 21_000_000_000,
        "bytesTotal": 48_000_000_000,
        "filesDone": 412,
        "filesTotal": 960,
        "bytesPerSecond": 61_000_000,
        "secondsLeft": 442.0,
    },
} | _FIGURES
_REFUSED = "403 AccessDenied: the key may not write to the bucket long-term"
_RETRIES = {
    "state": State.TRANSFERRING.value,
    "activity": "retrying",
    "target": "archive",
    "orderId": 4702,
    "archiveName": "SWOT_L2_LR_20261001_v2.zip",
    "attempt": 12,
    "tries": 12,
    "lastCause": _REFUSED,
    "code": "TARGET_REFUSED",
    "stateSince": ago(hours=1, minutes=12),
    "nextAttemptAt": ago(seconds=-40),
} | _FIGURES
_DONE = {
    "state": State.DONE.value,
    "orderId": 4690,
    "archiveName": "S2B_MSIL2A_20260914_T31TCJ_v1.zip",
    "attempt": 1,
    "stateSince": ago(minutes=31),
    "finishedAt": ago(minutes=31),
    "url": "s3://deliveries/d-2038/S2B_MSIL2A_20260914_T31TCJ_v1.zip",
    "md5": "ba748c0f2ffac79b59e9fdf52d3ab20d",
    "archiveBytes": 47_912_004_112,
    "expires": (NOW + timedelta(days=9)).isoformat(),
} | _FIGURES
_FAILED = {
    "state": State.ERROR.value,
    "user": OTHER,
    "orderId": 4688,
    "stateSince": ago(hours=1),
    "finishedAt": ago(hours=1),
    "errorType": "INTERNAL_ERROR",
    "errorMessage": "rs-order answered 403 for file 3 (B02.tif): the user may not read it",
    "code": "SOURCE_REFUSED",
    "failsAgain": True,
    "archiveName": "S2A_MSIL2A_20260920_T31TCH_v1.zip",
} | _FIGURES
_PARTS = {
    "state": State.TRANSFERRING.value,
    "activity": "waiting",
    "code": "SUBORDER_AWAITED",
    "orderId": 4695,
    "archiveName": "S1A_SLC_2026_v1.zip",
    "attempt": 2,
    "announcedSubOrders": 2,
    "listedSubOrders": 2,
    "totalSubOrders": 3,
    "parkedSince": ago(minutes=48),
    "stateSince": ago(hours=1, minutes=40),
} | _FIGURES

_MOVING = _delivery(5, "d-2057", **_MOVES, asked={"minutes": 25}, labels=["tiles of Toulouse"])
_RETRYING = _delivery(4, "d-2041", **_RETRIES)
_LISTED = [
    _delivery(6, "d-2061", asked={"minutes": 3}, activity="waiting", user=OTHER, **_FIGURES),
    _MOVING,
    _RETRYING,
    _delivery(3, "d-2040", **_PARTS, asked={"hours": 2, "minutes": 5}),
    _delivery(2, "d-2038", **_DONE, asked={"hours": 2, "minutes": 9}, labels=["mosaic"]),
    _delivery(1, "d-2035", **_FAILED, asked={"hours": 2, "minutes": 20}),
]


def _step(state: State, attempt: int = 0, **time: float) -> dict[str, Any]:
    return {"state": state.value, "attempt": attempt, "at": ago(**time)}


_BEFORE = [
    _step(State.GRANTED, minutes=119),
    _step(State.ORDERED, minutes=118),
    _step(State.AVAILABLE, minutes=103),
    _step(State.READY, minutes=102),
]


def _attempt(number: int, **told: Any) -> dict[str, Any]:
    return {
        "attempt": number,
        "worker": "worker-1",
        "target": "regards-s3-minio",
        "began": ago(minutes=102),
    } | told


def _whole(delivery: Mapping[str, Any], **told: Any) -> dict[str, Any]:
    """Return what `GET /deliveries/{correlationId}` says of one."""
    shown = {
        "order": {
            "user": delivery["user"],
            "queries": ["providerId:S2A_*", 'properties.tile:"T31TCJ"'],
            "filters": {"dataTypes": ["RAWDATA"], "filenameRegExp": ".*\\.tif"},
        },
        "history": _BEFORE,
        "timings": {"GRANTED": 60.0, "ORDERED": 900.0, "AVAILABLE": 60.0},
        "attempts": [],
        "segments": [{"number": 1, "announcedAt": ago(minutes=103), "files": 960}],
        "earlier": [],
    }
    return _content(dict(delivery) | shown | told, links=[])


def _refusal(number: int) -> dict[str, Any]:
    ended = {
        "began": ago(minutes=72 - 6 * number),
        "ended": ago(minutes=72 - 6 * number, seconds=-2),
    }
    cause = {"outcome": "postponed", "code": "TARGET_REFUSED", "cause": _REFUSED, "bytes": 0}
    worker = {"worker": "worker-1", "target": "archive"}
    return _attempt(number, **ended, **cause, **worker)


_WHOLE = {
    "d-2057": _whole(
        _MOVING,
        history=[*_BEFORE, _step(State.TRANSFERRING, 1, minutes=5, seconds=44)],
        attempts=[_attempt(1, worker="worker-2", began=ago(minutes=5, seconds=44))],
    ),
    "d-2041": _whole(
        _RETRYING,
        history=[
            *_BEFORE,
            _step(State.TRANSFERRING, 1, minutes=72),
            _step(State.TRANSFERRING, 12, minutes=1)
            | {"cause": _REFUSED, "code": "TARGET_REFUSED"},
        ],
        attempts=[_refusal(number) for number in range(12, 0, -1)],
    ),
    "d-2040": _whole(
        _LISTED[3],
        history=[*_BEFORE, _step(State.TRANSFERRING, 1, minutes=100)],
        attempts=[_attempt(1, ended=ago(minutes=48), outcome="parked", bytes=31_000_000_000)],
        segments=[
            {"number": 1, "subOrderId": 9001, "announcedAt": ago(minutes=103)}
            | {"listedAt": ago(minutes=102), "files": 500, "archived": True},
            {"number": 2, "subOrderId": 9002, "announcedAt": ago(minutes=70)}
            | {"listedAt": ago(minutes=69), "files": 300, "archived": True},
        ],
    ),
    "d-2035": _whole(
        _LISTED[5],
        history=[
            *_BEFORE,
            _step(State.TRANSFERRING, 1, minutes=61),
            _step(State.ERROR, 1, hours=1),
        ],
        attempts=[
            _attempt(1, ended=ago(hours=1), outcome="error", code="SOURCE_REFUSED", bytes=1_400_000)
        ],
    ),
}
_FILES = [
    {
        "position": number,
        "fileId": 100 + number,
        "member": f"T31TCJ_20261003_B{number + 1:02}.tif",
        "bytes": 50_000_000 + 1_234_567 * number,
        "md5": f"{number + 1:02x}" * 16,
    }
    for number in range(12)
]

_TROUBLES = [
    Trouble(
        code=Need.TRANSFERS_FAIL,
        tenant=TENANT,
        subject="archive",
        since=NOW - timedelta(hours=1, minutes=12),
        count=14,
        cause=_REFUSED,
    ),
    Trouble(
        code=Need.DEAD_LETTER,
        tenant=None,
        subject=None,
        since=NOW - timedelta(minutes=20),
        count=2,
        cause=None,
    ),
]


def _worker(number: int, running: int) -> dict[str, Any]:
    return {
        "id": f"worker-{number}",
        "version": "1.0.0",
        "startedAt": "2026-11-18T06:00:00+00:00",
        "seenAt": "2026-11-20T03:52:56+00:00",
        "alive": True,
        "silentFor": 4.0,
        "slots": 4,
        "running": running,
    }


def _migration(number: int, name: str, *, days: int) -> dict[str, Any]:
    return {"number": number, "name": name, "appliedAt": ago(days=days)}


def _active(state: State, deliveries: int, oldest: float) -> dict[str, Any]:
    told = {"state": state.value, "deliveries": deliveries, "oldestSeconds": oldest}
    moving = min(deliveries, 6) if state is State.TRANSFERRING else 0
    retrying = deliveries - moving if state is State.TRANSFERRING else 0
    goes_on = {"moving": moving, "retrying": retrying, "paused": 0}
    told |= goes_on | {"waiting": deliveries - moving - retrying}
    return told | {"parked": 0, "oldestParkedSeconds": 0.0}


def _ended(state: State, error: str | None, deliveries: int, size: int) -> dict[str, Any]:
    told = {"state": state.value, "errorType": error, "deliveries": deliveries, "bytes": size}
    return told | {"medianSeconds": 742.0}


_DONE_BY_HOUR = [18 + number * 7 % 23 for number in range(48)]
_FAILED_BY_HOUR = [2 if number % 11 == 5 else 0 for number in range(46)] + [3, 9]
_TARGET = {
    "tenant": TENANT,
    "name": "regards-s3-minio",
    "type": "s3",
    "place": "https://s3.example.org/deliveries/",
    "state": "works",
    "failures": 0,
    "lastGood": ago(minutes=1),
    "running": 6,
    "waiting": 31,
    "goodLastHour": 22,
    "badLastHour": 0,
}
_FAILING = _TARGET | {
    "name": "archive",
    "place": "https://archive.example.org/long-term/",
    "state": "fails",
    "since": ago(hours=1, minutes=12),
    "failures": 14,
    "lastGood": ago(hours=1, minutes=15),
    "lastBad": {"at": ago(minutes=1), "code": "TARGET_REFUSED", "cause": _REFUSED},
    "running": 0,
    "waiting": 14,
    "goodLastHour": 0,
    "badLastHour": 14,
    "attention": AttentionView.of(_TROUBLES[0]).body(),
}
_PAUSE = {
    "scope": "target",
    "tenant": TENANT,
    "name": "tape-mirror",
    "reason": "disks are exchanged",
    "running": "finish",
    "pausedBy": OPERATOR,
    "since": "2026-11-20T01:00:00+00:00",
    "until": "2026-11-20T06:00:00+00:00",
    "cause": f"transfers to tape-mirror are paused by {OPERATOR}: disks are exchanged",
}
_PAUSED = _TARGET | {
    "name": "tape-mirror",
    "place": "https://mirror.example.org/deliveries/",
    "state": "paused",
    "since": ago(hours=2, minutes=53),
    "lastGood": ago(hours=3),
    "running": 0,
    "waiting": 4,
    "goodLastHour": 0,
    "pause": _PAUSE,
}
_HOOK = {
    "name": "portal",
    "url": "https://portal.example.org/#6f1a22",
    "state": "OK",
    "owed": 0,
    "dead": 0,
    "lastSuccessAt": ago(minutes=2),
}
_DEAF_HOOK = _HOOK | {
    "name": "catalogue",
    "url": "https://catalogue.example.org/#09bd41",
    "state": "FAILING",
    "owed": 112,
    "dead": 3,
    "oldestOwedAt": ago(hours=9),
    "lastSuccessAt": ago(hours=9),
    "failingSince": ago(hours=9),
    "triedAgainAt": ago(minutes=-11),
    "lastError": "it answered 503",
}


def _letter(number: int, reason: str, text: str, **told: Any) -> dict[str, Any]:
    return {
        "id": f"letter-{number}",
        "place": "delivery requests",
        "at": ago(minutes=20 * number),
        "bytes": len(text),
        "reason": reason,
        "text": text,
        "buriedAt": ago(minutes=20 * number),
    } | told


_LETTERS = [
    _letter(1, "the tenant sentinal is unknown", '{"correlationId": "d-2059", "order": …}')
    | {"tenant": "sentinal", "correlationId": "d-2059"},
    _letter(2, "the body is no JSON: it ends at column 18", '{"correlationId":', tenant=TENANT),
]


def _change(number: int, action: str, subject: str, **told: Any) -> dict[str, Any]:
    return {
        "id": 4_000 + number,
        "at": ago(minutes=300 - 20 * number),
        "tenant": TENANT,
        "actor": OPERATOR,
        "role": "PROJECT_ADMIN",
        "action": action,
        "subject": subject,
        "before": None,
        "after": None,
    } | told


def _settings() -> list[dict[str, Any]]:
    """Return each setting with its default, but for one that the tenant has set."""
    kept = json.loads(_RECORDED.read_text("utf-8"))
    found = []
    for setting in Definitions(KINDS):
        default = kept[setting.name]["default"]
        value = 48 if setting.name == "request_ttl" else default
        names = ["self", "update", *(["delete"] if value != default else [])]
        links = [{"rel": name, "href": f"/settings/{setting.name}"} for name in names]
        told = {"name": setting.name, "description": setting.description}
        found.append(_content(told | {"value": value, "defaultValue": default}, links=links))
    return found


_NO_QUOTA = {"active": 0, "requests_per_minute": 0, "bytes_per_day": 0}
_LIMITS = {
    "settings": {
        "request_ttl": 12,
        "order_size_limit_bytes": 1_099_511_627_776,
        "max_suborders": 0,
        "delivery_format": "zip",
        "archive_name": "",
        "prefix": "",
        "manifest": True,
        "report": False,
        "sha256": False,
        "compression_threshold": 0.9,
        "progress_events": False,
        "delivered_ttl": 0,
        "link_ttl": 24,
        "quota": {
            "tenant": _NO_QUOTA,
            "user": _NO_QUOTA,
            "over_requests": "wait",
            "over_bytes": "wait",
        },
    },
    "formats": ["zip", "tar", "tar.zst", "files"],
    "targets": ["regards-s3-minio", "archive", "tape-mirror"],
    "request": {
        "correlationId": 255,
        "targetDelivery": 255,
        "user": 128,
        "queries": 1000,
        "query": 10_000,
        "labels": 10,
        "label": 64,
        "template": 255,
        "archiveNameBytes": 200,
        "prefixBytes": 255,
        "prefixFolders": 8,
        "bodyBytes": 2_097_152,
    },
    "archive": {"files": 1_000_000, "bytes": 5_497_558_138_880},
    "http": {"requestsPerSecond": 50.0, "burst": 100, "atOnce": 3},
}
_UP = {"status": "UP"}

# What each path answers, whatever is asked of it.
ANSWERS: Mapping[str, Any] = {
    "/attention": _content([AttentionView.of(trouble).body() for trouble in _TROUBLES]),
    "/console/options": {"passwords": True},
    "/dead-letters": _content(_LETTERS, truncated=False, total=2, links=[]),
    "/deliveries": _content(_LISTED, links=[]),
    "/health/live": _UP | {"version": "1.0.0", "uptime": 165_180.0},
    "/health/ready": _UP
    | {
        "components": {
            "postgresql": _UP,
            "rabbitmq": _UP
            | {"lastError": {"at": "2026-11-19T22:14:09+00:00", "error": "the connection broke"}},
            "kafka": _UP,
            "rs-order": _UP,
            "events": _UP,
            "secret keys": _UP,
        }
    },
    "/audit": _content(
        [
            _change(7, "pause", "target tape-mirror", after="disks are exchanged"),
            _change(5, "retry", "delivery d-2041", before="ERROR", after="RECEIVED"),
            _change(3, "set", "request_ttl", before=24, after=48),
            _change(
                1,
                "cancel",
                "delivery d-1986",
                actor=SCIENTIST,
                role="REGISTERED_USER",
                before="GRANTED",
                after="ERROR",
            ),
        ],
        links=[],
    ),
    "/health/targets": _content(
        [
            {
                "name": "default",
                "endpoint": "https://s3.example.org",
                "bucket": "deliveries",
                "checkedAt": "2026-11-20T03:52:30+00:00",
            }
            | _UP
        ]
    ),
    "/limits": _content(_LIMITS, links=[]),
    "/maintenance": _content({TENANT: {"active": False, "lastUpdate": ago(days=3)}}, links=[]),
    "/pauses": _content([_PAUSE]),
    "/schema": _content(
        {
            "version": "1.0.0",
            "known": 91,
            "count": 86,
            "newest": 91,
            "standing": "same",
            "sentence": "the database is at migration 91, the newest that this program knows",
            "applied": [
                _migration(91, "0091_maintenance_announced.sql", days=2),
                _migration(89, "0089_narrow_lists.sql", days=2),
                _migration(88, "0088_audit_filters.sql", days=40),
                *(_migration(n, f"{n:04}_earlier.sql", days=200) for n in range(83, 0, -1)),
            ],
            "workers": [
                {
                    "version": "1.0.0",
                    "workers": 3,
                    "known": 91,
                    "standing": "same",
                    "sentence": "3 workers of 1.0.0 know migration 91, as the database",
                }
            ],
        }
    ),
    "/settings": _settings(),
    "/stats": _content(
        {
            "tenant": TENANT,
            "hours": 24,
            "active": [
                _active(State.ORDERED, 12, 1_840.0),
                _active(State.READY, 31, 1_080.0),
                _active(State.TRANSFERRING, 20, 4_320.0),
            ],
            "ended": [
                _ended(State.DONE, None, 682, 31_400_000_000_000),
                _ended(State.ERROR, "INTERNAL_ERROR", 9, 0),
                _ended(State.ERROR, "EMPTY_ORDER", 3, 0),
            ],
        }
    ),
    "/stats/history": _content(
        [
            {
                "tenant": TENANT,
                "begins": "2026-11-18T04:00:00+00:00",
                "step": 3600,
                "done": _DONE_BY_HOUR,
                "failed": _FAILED_BY_HOUR,
                "cancelled": [0] * 48,
                "bytes": [done * 46_000_000_000 for done in _DONE_BY_HOUR],
                "active": [22 + number * 5 % 31 for number in range(47)] + [63],
            }
        ]
    ),
    "/targets": _content([_TARGET, _FAILING, _PAUSED]),
    "/webhooks": _content([_HOOK, _DEAF_HOOK]),
    "/workers": _content([_worker(1, 2), _worker(2, 4), _worker(3, 0)]),
    **{f"/deliveries/{name}": whole for name, whole in _WHOLE.items()},
    **{f"/deliveries/{name}/files": _content(_FILES, links=[]) for name in _WHOLE},
}
