"""Words that are kept or sent, names and marks of objects, and by what things are known again."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any
from unittest.mock import MagicMock

import jwt

from app import errors
from app.audit import INSTANCE, Actor
from app.delivery import ingress, orders, outgoing, progress, states, targets
from app.delivery.manifest import Layout, ListedFile
from app.delivery.marks import marks_of
from app.delivery.naming import object_key
from app.delivery.own_ids import prefix_of
from app.run.worker import make_timers
from app.settings import Settings
from app.usecases.intervene import asked_of
from sinks import formats
from streams.regards.tokens import TokenSigner
from tests.recorded.today.examples import DELIVERY, REQUEST, TENANT, USER

_KINDS: dict[str, type[StrEnum]] = {
    "state of a delivery": states.State,
    "work": states.Work,
    "status of a response": states.Status,
    "error type": errors.ErrorType,
    "kind of an arrival": ingress.ArrivalKind,
    "status of an order": orders.OrderStatus,
    "phase of a transfer": progress.Phase,
    "lane of the outbox": outgoing.Lane,
    "kind of what is owed": outgoing.Kind,
}


def words() -> Any:
    """The words of each kind."""
    return {name: sorted(kind) for name, kind in _KINDS.items()} | {
        "tenant of those who administer all": INSTANCE,
        "jobs of a worker's timers": sorted(
            vars(timer)["_name"]
            for timer in make_timers(MagicMock(settings=Settings()), *[MagicMock()] * 3)
        ),
        "default target": targets.DEFAULT_TARGET,
    }


def _listed(number: int, product: str, name: str) -> ListedFile:
    return ListedFile(
        file_id=number, product_id=product, version=1, filename=name, size=1, md5=None
    )


def objects() -> Any:
    """Key, metadata and member names of an archive."""
    one = [_listed(1, "P", "a.tif"), _listed(2, "P", "A.tif"), _listed(3, "P", "../b:c.tif")]
    several = [*one, _listed(4, "Q", "a.tif"), _listed(5, "q", "a.tif"), _listed(6, "R/S", "")]
    made: dict[str, Any] = {"metadata": marks_of(DELIVERY)}
    for name, files in (("one product", one), ("several products", several)):
        layout = Layout("d/001", files, suffix=formats.FORMATS[0].suffix)
        made[name] = {
            "key": object_key("d/001", layout.archive_name),
            "members": [file.member for file in layout],
        }
    return made


def digests() -> Any:
    """By what a request over HTTP is known again; a user's own ids; what rs-order is told."""
    actor = Actor(name=USER, role="EXPLOIT", tenant=TENANT)
    asked = asked_of(actor, REQUEST, priority=7, key="k-1")
    secret = hashlib.sha512(b"secret").hexdigest()
    token = TokenSigner(secret, ttl=60).token(TENANT, USER)
    claims = jwt.decode(token, secret, algorithms=["HS512"])
    return {
        "request over HTTP": asked.request.hex(),
        "its key": asked.key.hex() if asked.key else None,
        "ids of a user": prefix_of(USER),
        "token for rs-order": {
            "header": jwt.get_unverified_header(token),
            "claims": claims | {"iat": "a time", "exp": "a time"},
        },
    }
