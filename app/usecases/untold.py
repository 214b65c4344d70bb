"""Questions that an rs-order may not answer: an archive is made without, by the lists of files.

Some versions do not know them, a gateway may keep them from a user's role, and they may be slow or
broken where lists are answered. What fails alone must not hold up what goes on without it.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum, auto
from uuid import UUID

from app.delivery.model import Delivery
from app.delivery.ports import OrderSource
from app.errors import SourceNotReadyError, SourceUnavailableError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

TRIES = 4  # in a row, before it is done without an answer
_MOST = 10_000  # deliveries that are remembered; of one that is forgotten it is counted again


class Question(Enum):
    """What rs-order is asked about an order."""

    ORDER = auto()  # how it stands
    FILES = auto()  # which files it has, those that are not restored yet, too


class Unanswered:
    """How often in a row a question about a delivery's order failed, in this process.

    A delivery's own tries tell nothing of that: it is postponed for many reasons.
    """

    def __init__(self, *, most: int = _MOST) -> None:
        self._most = most
        self._failed: OrderedDict[tuple[UUID, Question], int] = OrderedDict()

    def answered(self, delivery: Delivery, question: Question) -> None:
        """Note that a question was answered: what failed before does not count."""
        self._failed.pop((delivery.id, question), None)

    async def is_untold(
        self,
        delivery: Delivery,
        question: Question,
        source: OrderSource,
        error: SourceUnavailableError,
        *,
        tries: int = TRIES,
    ) -> bool:
        """Whether a question about a delivery's order counts as not told, as it failed once more.

        It failed so many times in a row, and rs-order is not away: it answers for the order's
        files. Raises SourceRefusedError where it refuses those.
        """
        key = delivery.id, question
        failed = self._failed[key] = self._failed.pop(key, 0) + 1
        if len(self._failed) > self._most:
            self._failed.popitem(last=False)
        if failed < tries:
            return False
        try:
            await anext(aiter(source.listing(delivery)), None)
        except SourceNotReadyError:
            pass  # that is an answer
        except SourceUnavailableError:
            return False
        log.info("order_not_told", **delivery.log_context, cause=str(error))
        return True
