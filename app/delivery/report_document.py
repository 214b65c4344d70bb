"""`report.json`: why a delivery failed, file by file (contract, section 6).

Its schema is docs/schemas/report.json.

A line a file, as in `manifest.json`, so that one of a million files is written and read without
being held:

    {"version":"1.0","deliveryId":"…","correlationId":"c","error":{"type":"INTERNAL_ERROR",…},"files":[
    {"path":"a.tif","product":"P","version":1,"size":3,"fileId":12,"state":"verified"},
    {"path":"b.tif",…,"state":"refused","cause":"…","next":"…"}
    ],"complete":true}

The same delivery that fails in the same way has the same document, whichever worker writes it, as
long as they are of one version.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from app import __version__
from app.delivery.manifest import ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.errors import DeliveryError, ErrorType, SourceGoneError, SourceRefusedError, WrongFileError

MEDIA_TYPE = "application/json"


class Fate(StrEnum):
    """What happened to a file of a delivery that failed. None of them is delivered."""

    VERIFIED = "verified"  # its bytes came, and were right
    AVAILABLE = "available"  # rs-order lists it; it was not reached, or the others failed with it
    REFUSED = "refused"  # rs-order lists it, and does not give its bytes
    EXPIRED = "expired"  # rs-order had it, and has it no more
    WRONG = "wrong"  # its bytes are not those that rs-order's list tells of
    MISSING = "missing"  # it was left out before, as what there is was to be delivered
    NEVER_LISTED = "neverListed"  # it is of the order, and rs-order never made it available


_WITHOUT_IT = "with `delivery.partial` the rest is delivered without it"
_NEXT: Mapping[Fate, str] = {
    Fate.REFUSED: f"ask the operator of rs-order why it refuses this file; {_WITHOUT_IT}",
    Fate.EXPIRED: "order it again: it has left the cache of rs-order",
    Fate.WRONG: "tell the operator of the catalogue: what it has of the file is not what the file "
    f"is; {_WITHOUT_IT}",
    Fate.MISSING: "order it again",
    Fate.NEVER_LISTED: "order it again later; if it fails again, ask the operator of rs-order",
}
_WHAT_NEXT: Mapping[ErrorType, str] = {
    ErrorType.INVALID_CONTENT: "correct the request, and ask again",
    ErrorType.FORBIDDEN: "ask for the right to have these products, or ask again without them",
    ErrorType.ORDER_LIMIT_REACHED: "ask for less at once",
    ErrorType.TOO_MANY_SUBORDERS: "ask for less at once, in several deliveries",
    ErrorType.EMPTY_ORDER: "look at the queries and filters: there is no file that they fit",
    ErrorType.EXPIRED: "ask again, for less at once or with more time",
    ErrorType.INTERNAL_ERROR: "ask again; if it fails again, send this report to the operator",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a delivery fails, as its client is told."""

    error_type: ErrorType
    message: str
    position: int | None = None  # of the file in the manifest that it failed for; None: for none
    fate: Fate = Fate.AVAILABLE  # of that one

    @classmethod
    def of(cls, error_type: ErrorType, message: str, error: DeliveryError) -> Failure:
        """Return what an error is; its client is told type and message."""
        match error:
            case SourceGoneError(position=position):
                fate = Fate.EXPIRED
            case SourceRefusedError(position=position):
                fate = Fate.REFUSED
            case WrongFileError(position=position):
                fate = Fate.WRONG
            case _:
                return cls(error_type=error_type, message=message)
        return cls(error_type=error_type, message=message, position=position, fate=fate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A file, what happened to it, and why."""

    file: ManifestFile | MissingFile
    fate: Fate
    cause: str | None = None


def begin(delivery: Delivery, failure: Failure) -> bytes:
    """Return what stands before the first line."""
    head = {
        "version": __version__,
        "deliveryId": str(delivery.id),
        "correlationId": delivery.correlation_id,
        "error": {
            "type": failure.error_type.value,
            "message": failure.message,
            "next": _WHAT_NEXT[failure.error_type],
        },
    }
    return _json(head)[:-1] + b',"files":['


def line(told: Told) -> bytes:
    """Return the line of a file."""
    file = told.file
    unnamed = isinstance(file, MissingFile) and file.file_id is None
    return _json(
        {
            "path": file.member,
            "product": file.product_id,
            "version": file.product_version,
            "size": file.size,
            "fileId": file.file_id,
            "files": file.files if isinstance(file, MissingFile) and unnamed else None,
            "state": told.fate.value,
            "cause": told.cause,
            "next": _NEXT.get(told.fate),
        }
    )


def end(*, complete: bool) -> bytes:
    """Return what closes the document; `complete`: all files of the order are in it."""
    return b"\n]," + _json({"complete": complete})[1:] + b"\n"


async def lines(files: AsyncIterator[Told]) -> AsyncIterator[bytes]:
    """Return the lines of files, with what parts them."""
    between = b"\n"
    async for told in files:
        yield between + line(told)
        between = b",\n"


# Made once: of a million lines, `json.dumps` would make it a million times.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _json(content: Mapping[str, object]) -> bytes:
    known = {name: value for name, value in content.items() if value is not None}
    return _encode(known).encode()
