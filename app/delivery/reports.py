"""The report of a delivery that failed: `report.json`, where its archive would have been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from app.delivery.manifest import REPORT_NAME
from app.delivery.marks import Whose, marks_of, whose
from app.delivery.model import Delivery
from app.delivery.naming import object_key
from app.delivery.object_store import FoundObject
from app.delivery.targets import Noted, Target
from app.delivery.templates import place_of

# Beside the marks of its delivery: so a report replaces reports, and nothing else.
_REPORT: Mapping[str, str] = {"rs-delivery-kind": "report"}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredReport(Noted):
    """Where a report is, or may come."""

    key: str
    url: str  # `Target.url_of`
    namespace: str  # `Target.namespace`
    size: int | None = None  # bytes; None: it is not known that it is there
    etag: str | None = None  # likewise

    @property
    def is_there(self) -> bool:
        """Whether it was put, and its client is told of it."""
        return self.etag is not None

    def noted(self) -> dict[str, Any]:
        """Return it as JSON; what is not known is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def report_of(delivery: Delivery, target: Target) -> StoredReport:
    """Return where the report of a delivery comes: beside its archive, or where that would be.

    Of one that was never laid out, the folders are those of an archive of several products.
    """
    prefix = delivery.prefix
    if delivery.archive_name is None:
        prefix, _ = place_of(delivery, None, suffix="", default=REPORT_NAME)
    key = target.prefix + object_key(delivery.correlation_id, REPORT_NAME, prefix=prefix)
    return StoredReport(key=key, url=target.url_of(key), namespace=target.namespace)


def report_key_of(archive_key: str) -> str:
    """Return the key of a report beside an archive."""
    folder, slash, _ = archive_key.rpartition("/")
    return f"{folder}{slash}{REPORT_NAME}"


def report_marks(delivery: Delivery) -> dict[str, str]:
    """Return the marks of a delivery's report."""
    return {**marks_of(delivery), **_REPORT}


def is_own_report(found: FoundObject, delivery: Delivery) -> bool:
    """Whether an object is the report of this delivery."""
    return found.has(report_marks(delivery))


def is_replaceable_report(found: FoundObject, delivery: Delivery) -> bool:
    """Whether an object is a report of the same client, as this delivery sees it."""
    owner = whose(found.marks, marks_of(delivery))
    return found.has(_REPORT) and owner in (Whose.ITS_OWN, Whose.ITS_USERS)
