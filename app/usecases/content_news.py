"""What is told of a content after its delivery's end: the one place where it is."""

from __future__ import annotations

from functools import partial
from uuid import uuid5

from app.delivery.content import Content, ContentNews, in_words
from app.delivery.manifest import told_url
from app.delivery.ports import UnitOfWork
from app.delivery.webhooks import DeliveryEvent
from app.telemetry import metrics
from app.telemetry.logs import get_logger

log = get_logger(__name__)


async def tell(tx: UnitOfWork, content: Content, news: ContentNews) -> bool:
    """Note what happened to a content, and tell of it once; False when that was told before.

    It is a step of the history of its delivery, as long as that is kept, and so an event of the
    streams. What else is to hear of it is owed in this transaction, here.
    """
    match news:
        case ContentNews.EXPIRES_SOON:
            told = await tx.content_warned(content)
            count = metrics.CONTENT_WARNINGS.labels(content.tenant).inc
        case ContentNews.REMOVED:
            told = await tx.content_removed(content)
            count = metrics.CONTENTS_REMOVED.labels(content.tenant).inc
    if told:
        await tx.tell(_event_of(content, news))
        expires = None if content.until is None else in_words(content.until)
        event = news.value.replace(".", "_").replace("-", "_")
        tx.on_commit(partial(log.info, event, **content.log_context, expires=expires))
        tx.on_commit(count)
    return told


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
