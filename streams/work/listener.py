"""Workers are woken by what was committed, whichever of them it was: PostgreSQL tells each at once.

Each of Kafka's events goes to one worker alone, which may have no room while another one sleeps.
While the line to PostgreSQL is cut, a worker is still woken by its own commits; for those of others
it looks by the clock, and at once when the line is there again.
"""

from __future__ import annotations

from collections.abc import Mapping

from mode import Service

from app.delivery.ports import WorkNews
from app.delivery.states import Work
from app.errors import StoreUnavailableError
from app.telemetry.logs import get_logger
from app.waiting.own_news import OwnNews
from app.waiting.wakeup import Wakeup

log = get_logger(__name__)

_RETRY_INTERVAL = 1.0  # seconds before listening again


class WorkListener(Service):
    """Notifies `wake` of work that there may be; where none is heard of, slots look anyway.

    `own` tells what this process commits, which the line tells, too, while there is one.
    """

    def __init__(
        self,
        news: WorkNews,
        *,
        own: OwnNews[Work],
        wake: Mapping[Work, Wakeup],
        retry_interval: float = _RETRY_INTERVAL,
    ) -> None:
        super().__init__()
        self._news = news
        self._own = own
        self._wake = wake
        self._retry_interval = retry_interval

    @Service.task
    async def _listen(self) -> None:
        self._own.listen(self._tell)
        while not self.should_stop:
            try:
                async with self._news.listening() as due:
                    self._own.stop_listening()
                    self._tell(frozenset(Work))  # what was told before, or while the line was cut
                    while not self.should_stop:
                        self._tell(await due())
            except StoreUnavailableError as error:
                self._own.listen(self._tell)
                log.warning("work_news_wait", cause=str(error))
                await self.sleep(self._retry_interval)

    def _tell(self, works: frozenset[Work]) -> None:
        for work in works:
            self._wake[work].notify()
