"""What is told of a content after its delivery's end: the one place where it is.

Nothing is told of one that a later delivery has replaced: its place is that one's by now, and who
hears of it goes by correlation id and URL, which are the same.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from uuid import uuid5

from app.delivery.content import Content, ContentEnd, ContentNews, in_words
from app.delivery.manifest import told_url
from app.delivery.ports import UnitOfWork
from app.delivery.webhooks import DeliveryEvent
from app.telemetry import metrics
from app.telemetry.logs import get_logger

log = get_logger(__name__)

REPLACED = "a later delivery has put its own in this place"
_GONE = "it was not there any more: another hand has removed it, or has emptied its place"


async def tell_expires_soon(tx: UnitOfWork, content: Content) -> bool:
    """Tell of a content, once, that it expires within a day; False: not, or before."""
    if await tx.is_replaced(content):
        await tx.content_warned(content, told=False)
        return False
    told = await tx.content_warned(content)
    if told:
        await _tell(tx, content, ContentNews.EXPIRES_SOON)
        tx.on_commit(metrics.CONTENT_WARNINGS.labels(content.tenant).inc)
    return told


async def tell_end(tx: UnitOfWork, content: Content, end: ContentEnd, *, within: timedelta) -> bool:
    """Note how a content ended, and tell of it once; False when it was noted before.

    What was asked for of its store has happened `within` that time, or never will.

    It is a step of the history of its delivery, as long as that is kept, and so an event of the
    streams. What else is to hear of it is owed in this transaction, here.
    """
    if await tx.is_replaced(content):  # whatever became of its own: who hears of it has that one's
        end = ContentEnd.REPLACED
    match end:
        case ContentEnd.REMOVED:
            ended = await tx.content_removed(content, within=within)
            count = metrics.CONTENTS_REMOVED.labels(content.tenant).inc
        case ContentEnd.GONE:
            ended = await tx.content_removed(content, within=within, cause=_GONE)
            count = metrics.CONTENTS_GONE.labels(content.tenant).inc
            if ended:
                tx.on_commit(partial(_warn, content))
        case ContentEnd.REPLACED:
            ended = await tx.content_removed(content, within=within, told=False, cause=REPLACED)
            if ended:
                tx.on_commit(partial(_log_replaced, content))
            return ended
    if ended:
        await _tell(tx, content, ContentNews.REMOVED)
        tx.on_commit(count)
    return ended


def _log_replaced(content: Content) -> None:
    log.info("content_replaced", **content.log_context)


def _warn(content: Content) -> None:
    log.warning(
        "content_gone",
        **content.log_context,
        cause=_GONE,
        consequence="it counts as gone, and is not looked for again: where its place was renamed, "
        "remove it there by hand",
    )


async def _tell(tx: UnitOfWork, content: Content, news: ContentNews) -> None:
    await tx.tell(_event_of(content, news))
    expires = None if content.until is None else in_words(content.until)
    event = news.value.replace(".", "_").replace("-", "_")
    tx.on_commit(partial(log.info, event, **content.log_context, expires=expires))


def _event_of(content: Content, news: ContentNews) -> DeliveryEvent:
    """Return what webhooks hear of it: the words of `ContentNews` are among theirs."""
    data = {
        "correlationId": content.correlation_id,
        "url": told_url(content.url, content.archive_name),
    }
    if content.until is not None:
        data["expires"] = in_words(content.until)
    return DeliveryEvent(
        id=uuid5(content.delivery_id, news.value),
        type=news.value,
        tenant=content.tenant,
        delivery_id=content.delivery_id,
        correlation_id=content.correlation_id,
        data=data,
    )
