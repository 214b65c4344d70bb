"""What a delivery has put on its target, found there again: for links to it, and for downloads."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from app.delivery.content import content_gone
from app.delivery.formats import AS_FILES
from app.delivery.manifest import MANIFEST_NAME, REPORT_NAME
from app.delivery.marks import marks_of
from app.delivery.object_store import FoundObject, ObjectStore
from app.delivery.states import State
from app.delivery.targets import Target, TargetTrouble, key_at
from app.errors import (
    DeliveredGoneError,
    DeliveryError,
    NoLinkError,
    NotPossibleError,
    ObjectGoneError,
    TargetRefusedError,
    TargetUnavailableError,
    UnknownDeliveryError,
)
from app.tenants.registry import ConfiguredTenants
from app.views.deliveries import Tracked, Tracking

T = TypeVar("T")

_JSON = "application/json"
_OCTETS = "application/octet-stream"


class DeliveredStore(ObjectStore[Any], Protocol):
    """The stores, with what is known of their servers."""

    def trouble(self, target: Any) -> TargetTrouble | None:
        """Return why a target's server is not asked now; None when nothing speaks against it."""

    def told(self, target: Any, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An object that a delivery has put, as it is there now."""

    target: Target
    key: str
    name: str  # what it is called where it is saved
    size: int
    etag: str
    media_type: str
    md5: str | None  # hex, lower case; None: it is not known


@dataclass(frozen=True, kw_only=True, slots=True)
class _Named:
    """An object that a delivery is taken to have put."""

    url: str  # of what its client was told of
    beside: str | None  # its name beside that; None: that itself
    name: str
    md5: str | None
    media_type: str
    size: int | None = None  # bytes, and
    etag: str | None = None  # its ETag, as far as they were kept when it was put

    def is_(self, found: FoundObject) -> bool:
        """Whether an object that is found is the one that was put."""
        return self.size in (found.size, None) and self.etag in (found.etag, None)


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """Finds what deliveries have put, and nothing else: by what is known of them, and its marks."""

    tracking: Tracking
    tenants: ConfiguredTenants
    objects: DeliveredStore
    # Of archives, by the ends of their names. Of a delivered file no type is told: what a product's
    # file says of itself must not make a page of it in a browser.
    media_types: Mapping[str, str] = field(default_factory=dict)

    def link_ttl(self, tenant: str) -> timedelta:
        """Return for how long links of a tenant hold; none: none are made."""
        return self.tenants.settings(tenant).link_ttl

    def stays(self, tenant: str) -> timedelta:
        """Return for how long what a tenant is delivered stays; none: for ever."""
        return self.tenants.settings(tenant).delivered_ttl

    async def find(self, tracked: Tracked, path: str | None) -> Item:
        """Return what has a path: a file's name in the manifest, that of the archive, of a list.

        Without: the archive, or the manifest of files that are delivered as they are; of a delivery
        that failed, its report. Raises NotPossibleError for a delivery that is not done,
        UnknownDeliveryError for a path that it has not, DeliveredGoneError for what is not there
        any more, or not as it was told: marks alone are no proof of that, for other hands that
        write to a place may keep them.
        """
        named = await self._named(tracked, path)
        target, key = self._place(tracked, named)
        found = await self.asked(target, self.objects.find(target, key))
        ours = found is not None and found.has(marks_of(tracked.delivery)) and named.is_(found)
        if found is None or not ours:
            what = "there is nothing any more" if found is None else "there is another object now"
            raise DeliveredGoneError(
                f"{tracked.delivery} has put {named.name}, and {what}; ask for it again"
            )
        return Item(
            target=target,
            key=key,
            name=named.name,
            size=found.size,
            etag=found.etag,
            media_type=named.media_type,
            md5=named.md5,
        )

    async def _named(self, tracked: Tracked, path: str | None) -> _Named:
        delivery, result = tracked.delivery, tracked.result
        report_url = tracked.told.report_url
        if report_url is not None and path in (None, REPORT_NAME):
            if (gone := content_gone(delivery, tracked.content)) is not None:
                raise DeliveredGoneError(gone)
            return _Named(
                url=report_url,
                beside=None,
                name=f"{delivery.correlation_id}-{REPORT_NAME}",
                md5=None,
                media_type=_JSON,
            )
        if delivery.state is not State.DONE or result is None:
            raise NotPossibleError(
                f"{delivery} is not done ({delivery.state}): there is nothing to be had of it"
            )
        if (gone := content_gone(delivery, tracked.content)) is not None:
            raise DeliveredGoneError(gone)
        archive = delivery.archive_name or ""
        if path is None or path == archive:
            name = archive or result.url.rpartition("/")[2]
            if archive == MANIFEST_NAME:
                name = f"{delivery.correlation_id}-{MANIFEST_NAME}"
            return _Named(
                url=result.url,
                beside=None,
                name=name,
                md5=result.md5,
                media_type=self._type_of(archive),
                size=result.size,
                etag=result.etag,
            )
        md5, size, media_type = None, None, _OCTETS
        file = None
        if delivery.format == AS_FILES and "\0" not in path:
            file = await self.tracking.file(delivery.id, path)
        if file is not None:
            md5, size = file.md5, file.size
        elif path in (MANIFEST_NAME, REPORT_NAME):
            media_type = _JSON
        else:
            raise UnknownDeliveryError(
                f"{delivery} has no {path[:200]!r} that could be had by itself: of an archive "
                f"there is {archive}, and {MANIFEST_NAME} where one was written; of files that are "
                "delivered as they are, each is, by its name in the list of files"
            )
        return _Named(
            url=result.url,
            beside=path,
            name=path.rpartition("/")[2],
            md5=md5,
            media_type=media_type,
            size=size,
        )

    def _place(self, tracked: Tracked, named: _Named) -> tuple[Target, str]:
        """Return where an object is. Raises DeliveredGoneError."""
        delivery = tracked.delivery
        self.tenants.check_secrets(delivery.tenant)
        target = self.tenants.settings(delivery.tenant).target_named(delivery.target)
        key = None if target is None else key_at(target, named.url)
        if target is None or key is None:
            raise DeliveredGoneError(
                f"the target {delivery.target} is not where {delivery} was put any more: the "
                "tenant's settings were changed since"
            )
        if named.beside is not None:
            key = f"{key.rpartition('/')[0]}/{named.beside}"
        trouble = self.objects.trouble(target)
        if trouble is not None:
            error = TargetUnavailableError(f"{trouble.server} does not answer: {trouble.cause}")
            raise self.objects.told(target, error)
        return target, key

    def _type_of(self, archive: str) -> str:
        if archive == MANIFEST_NAME:
            return _JSON
        ends = (end for end in self.media_types if archive.endswith(end))
        return next((self.media_types[end] for end in ends), _OCTETS)

    async def asked(self, target: Target, asked: Awaitable[T]) -> T:
        """Return what a store answers. What it refuses is told as what can't be done."""
        try:
            return await asked
        except (ObjectGoneError, NoLinkError):
            raise
        except TargetRefusedError as error:
            raise NotPossibleError(str(self.objects.told(target, error))) from error
        except TargetUnavailableError as error:
            raise self.objects.told(target, error) from error
