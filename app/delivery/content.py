"""What a delivery that is done has left at its target, and for how long it stays there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from app.delivery.manifest import MANIFEST_NAME, REPORT_NAME
from app.delivery.model import Delivery
from app.delivery.states import State

WARNED_BEFORE = timedelta(days=1)  # the end of a content
WARNED_FROM = timedelta(hours=25)  # that it stays: else DONE itself tells it soon enough
GIVEN_UP_AFTER = timedelta(days=30)  # that its removal was due: its target is gone, or refuses


class ContentState(StrEnum):
    """Where the content of a delivery is."""

    PRESENT = "present"  # at the target, as far as is known here
    REMOVING = "removing"  # its time is over, or its removal was asked for
    REMOVED = "removed"  # by this service, or by another hand before


class ContentNews(StrEnum):
    """What is told of a content: a step of its delivery's history, which has ended long before."""

    EXPIRES_SOON = "content.expires-soon"  # within a day
    REMOVED = "content.removed"


class ContentEnd(StrEnum):
    """How a content came to its end."""

    REMOVED = "removed"  # by this service
    GONE = "gone"  # it was not found where it was put
    REPLACED = "replaced"  # a later delivery of that place has put its own there


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """An archive, a manifest with its files, or a report, as it was told; known by itself."""

    delivery_id: UUID
    tenant: str
    correlation_id: str
    user: str
    target: str  # its name: what it is removed with is set under it now
    archive_name: str
    attempt: int  # that made it
    file_count: int
    url: str  # `Target.url_of` of the object
    namespace: str | None  # `Target.namespace`; None: done by a version that did not keep it
    key: str
    etag: str | None
    size: int  # bytes of the object
    until: datetime | None  # as it was told; None: until its removal is asked for

    @property
    def is_folder(self) -> bool:
        """Whether its files are beside it, each an object."""
        return self.archive_name == MANIFEST_NAME

    @property
    def is_report(self) -> bool:
        """Whether its delivery failed, and this is what tells why."""
        return self.archive_name == REPORT_NAME

    @property
    def log_context(self) -> dict[str, str]:
        """What each line of the log names it by."""
        return {"tenant": self.tenant, "correlation_id": self.correlation_id, "url": self.url}

    def as_delivery(self) -> Delivery:
        """Return the delivery that it is of, as far as its objects tell that."""
        then = datetime.fromtimestamp(0, UTC)
        return Delivery(
            id=self.delivery_id,
            tenant=self.tenant,
            correlation_id=self.correlation_id,
            state=State.DONE,
            user=self.user,
            target=self.target,
            order={},
            origin_app=None,
            priority=1,
            requested_at=then,
            expires_at=then,
            archive_name=self.archive_name,
            file_count=self.file_count,
            attempt=self.attempt,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DueContent:
    """A content that something is due for."""

    content: Content
    removes: bool  # else its client is warned
    overdue: timedelta  # since it was to be removed
    tries: int  # that were given up
    cause: str | None  # why the last one was, or a file of this pass is refused
    position: int  # of its files, those up to this one are removed


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentSeen:
    """A content as it is looked at."""

    state: ContentState
    removed_at: datetime | None
    cause: str | None  # why it is still there, though it should not be; or gone, if not removed

    @property
    def is_there(self) -> bool:
        """Whether a client may still count on it."""
        return self.state is ContentState.PRESENT


def content_gone(delivery: Delivery, seen: ContentSeen | None) -> str | None:
    """Return why the content of a delivery is not to be had any more; None: it is."""
    if seen is None or seen.is_there:
        return None
    if seen.state is ContentState.REMOVING:
        return f"the content of {delivery} is being removed"
    at = seen.removed_at.isoformat(timespec="seconds") if seen.removed_at else "before"
    return f"the content of {delivery} was removed ({at}); ask for it again"


def end_of(now: datetime, stays: timedelta) -> datetime | None:
    """Return until when a content stays that appeared just now: a whole second; None: for ever."""
    if stays <= timedelta():
        return None
    end = (now + stays).astimezone(UTC)
    whole = end.replace(microsecond=0)
    return whole if whole == end else whole + timedelta(seconds=1)


def in_words(moment: datetime) -> str:
    """Return a time as clients are told it: RFC 3339, UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
