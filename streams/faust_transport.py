"""Faust's transport over aiokafka, where two of its constants cost too much."""

from __future__ import annotations

import asyncio
import types
from typing import Any, cast

from faust.transport.drivers import aiokafka as driver


class QuickHandOver:
    """Hands a message to its stream without a task, as long as the stream has room."""

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109 - mode's
        """Faust's, but only when there is something to wait for.

        It is called for each message, with what hands it to its stream: four tasks and some
        turns of the loop, to wait for what is done at once unless the stream's buffer is full.
        Under load, a turn of the loop is long.
        """
        if timeout is None and len(coros) == 2 and all(map(asyncio.iscoroutine, coros)):
            handing_over, suspended = coros
            try:
                future = handing_over.send(None)
            except StopIteration:
                suspended.close()
                return None
            except BaseException:
                suspended.close()
                raise
            coros = (_go_on(handing_over, future), suspended)
        return await super().wait_first(*coros, timeout=timeout)  # type: ignore[misc]


async def _go_on(coroutine: Any, future: Any) -> Any:
    return await _resumed(coroutine, future)


@types.coroutine
def _resumed(coroutine: Any, future: Any) -> Any:
    """Go on with a coroutine that has begun, and waits for this future (or for its next turn)."""
    try:
        yield future
    except BaseException as error:
        coroutine.throw(error)
        raise
    return (yield from coroutine)


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's, with the wait of a fetch as a setting: 1.5 s is built in there.

    Some brokers don't cut that wait short when data arrives, so it is paid at each hop.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = cast("Any", self.app).fetch_max_wait_ms  # noqa: SLF001 - no other way in
        return consumer


class _Consumer(QuickHandOver, driver.Consumer):
    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class Transport(driver.Transport):
    """Faust's, with those two changes."""

    Consumer = _Consumer
