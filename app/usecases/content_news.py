"""What is told of a content after its delivery's end: the one place where it is."""

from __future__ import annotations

from functools import partial

from app.delivery.content import Content, ContentNews, in_words
from app.delivery.ports import UnitOfWork
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
        expires = None if content.until is None else in_words(content.until)
        event = news.value.replace(".", "_").replace("-", "_")
        tx.on_commit(partial(log.info, event, **content.log_context, expires=expires))
        tx.on_commit(count)
    return told
