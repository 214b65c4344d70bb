"""A delivered order must not keep its user's place at rs-order.

rs-order takes a suborder for downloaded once each of its files was. It never sees that of files of
2 GiB and more, nor of those at other servers, so it waits for its user until the order expires, and
restores nothing else.

Which orders may do so is noted as their deliveries become done, so that whichever worker runs asks
about them until rs-order answers. Where a file is, is not known; so those of small files are noted
once another order of their user gets no further. A delivery that ends in ERROR needs none of this:
its order is cancelled in the transaction that ends it (`fail`), or as soon as it is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from app.delivery import outgoing
from app.delivery.model import Delivery
from app.delivery.ports import DeliveryStore, OrderSource, UnitOfWork
from app.errors import UNFORESEEN, DeliveryError, OrderNotToldError, PermanentError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

_UNSEEN = 1 << 31  # bytes of the smallest file whose download rs-order does not see
_LATELY = timedelta(days=1)  # an order that is done longer has lost its files, and its place
_SUSPECTS = 20  # orders of one user
_OWN_TURN = timedelta(minutes=1)  # in which the worker that has delivered it asks by itself
_LONGEST_PAUSE = timedelta(hours=1)
# rs-order lets an order live for a week at most: then its place is free.
_LONGEST_LIFE = timedelta(hours=168)
_MOST_FAILURES = 3  # in a row, before the others are left for another look
_LEFT = "it is not asked again: if the order keeps a place, it does so until it expires"


async def may_keep_place(tx: UnitOfWork, delivery: Delivery) -> None:
    """Note, as a delivery becomes done, that its order may keep its user's place, if it may."""
    if may_keep(delivery):
        await tx.record_place(delivery, unseen=_UNSEEN, after=_OWN_TURN)


def may_keep(delivery: Delivery) -> bool:
    """Whether it is to be noted, as a delivery becomes done, that its order may keep a place."""
    return delivery.order_id is not None and _may(delivery)


async def may_lack_place(tx: UnitOfWork, delivery: Delivery) -> None:
    """Note that a delivery's order may wait for a place which one that is delivered keeps."""
    await tx.record_places_of(delivery, within=_LATELY, limit=_SUSPECTS)


def _may(delivery: Delivery) -> bool:
    """Whether it is worth looking: a file has all the bytes of the archive at most."""
    return delivery.plan is not None or delivery.total_bytes >= _UNSEEN


@dataclass(frozen=True, kw_only=True)
class Places:
    """Has the orders of deliveries that are done cancelled that still wait for their user."""

    source: OrderSource
    store: DeliveryStore
    frees: bool = True  # else what was noted before that was forbidden is only forgotten
    limit: int = 100  # orders in one look: the others have their turn at the next one

    async def free_soon(self, delivery: Delivery) -> None:
        """Free the place of what was delivered just now. What fails is left for `look`."""
        if not _may(delivery):
            return
        try:
            if await self.store.holds_place(delivery):
                await self._free(delivery)
        except DeliveryError as error:
            _log_failure(delivery, error, "it is asked again")

    async def look(self) -> None:
        """Free the places that are due. One process does it for all.

        One after the other is taken: those after the last one are due all the same.
        """
        failures = 0  # in a row
        for _ in range(self.limit):
            place = await self.store.due_place(longest=_LONGEST_PAUSE)
            if place is None:
                return
            try:
                await self._free(place.delivery)
                failures = 0
            except Exception as error:  # noqa: BLE001 - it must not hold up the others
                failures += 1
                if place.age < _LONGEST_LIFE:
                    _log_failure(place.delivery, error, "it is asked again")
                else:
                    await self._forget(place.delivery)
                    _log_failure(place.delivery, error, "the order has expired by now")
                if failures == _MOST_FAILURES:
                    return  # nor does it answer for the others now

    async def _free(self, delivery: Delivery) -> None:
        """Cancel an order if rs-order still waits for its user. Raises what passes."""
        if not self.frees:
            await self._forget(delivery)
            return
        try:
            facts = await self.source.order(delivery)
        except PermanentError as error:
            await self._forget(delivery)
            _log_failure(delivery, error, _LEFT)
            return
        waits = None if facts is None else facts.waiting_for_user
        if not await self._forget(delivery, cancel=bool(waits)):
            return
        if waits:
            log.info("place_freed", **delivery.log_context, order_id=delivery.order_id)
        elif waits is None and not (facts is not None and facts.gone):
            untold = f"rs-order does not tell whether order {delivery.order_id} waits for its user"
            _log_failure(delivery, OrderNotToldError(untold), _LEFT)

    async def _forget(self, delivery: Delivery, *, cancel: bool = False) -> bool:
        """Note that nothing is to be done any more; False when another has noted it before."""
        async with self.store.transaction() as tx:
            noted = await tx.forget_place(delivery)
            if noted and cancel:
                assert delivery.order_id is not None  # noqa: S101 - else it has no place
                await tx.enqueue(outgoing.cancel(delivery, delivery.order_id))
        return noted


def _log_failure(delivery: Delivery, error: Exception, consequence: str) -> None:
    foreseen = isinstance(error, DeliveryError)
    log.warning(
        "place_not_freed",
        **delivery.log_context,
        order_id=delivery.order_id,
        cause=str(error) if foreseen else f"{UNFORESEEN}: {error!r}",
        consequence=consequence,
    )
