"""Questions that an rs-order may not answer: an archive is made without, by the lists of files.

Some versions do not know them, a gateway may keep them from a user's role, and they may be slow or
broken where lists are answered. What fails alone must not hold up what goes on without it.
"""

from __future__ import annotations

from app.delivery.model import Delivery
from app.delivery.ports import OrderSource
from app.errors import SourceNotReadyError, SourceUnavailableError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

TRIES = 4  # in a row, before it is done without an answer


async def is_untold(delivery: Delivery, source: OrderSource, error: SourceUnavailableError) -> bool:
    """Whether a question about a delivery's order counts as not told, as it failed once more.

    It was tried some times, and rs-order is not away: it answers for the order's files. Raises
    SourceRefusedError where it refuses those.
    """
    if delivery.tries < TRIES:
        return False
    try:
        await anext(aiter(source.listing(delivery)), None)
    except SourceNotReadyError:
        pass  # that is an answer
    except SourceUnavailableError:
        return False
    log.info("order_not_told", **delivery.log_context, cause=str(error))
    return True
