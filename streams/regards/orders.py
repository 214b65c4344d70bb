"""rs-order over REST: orders, their listings and their files (contract, section 2)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import aiohttp

from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.delivery.order_facts import OrderFacts, OrderFile
from app.errors import OrderNotToldError, SourceNotReadyError, SourceUnavailableError
from app.network.https import connector_of, trust
from streams.regards.answers import UNREADABLE, Page, read_facts, read_listed, read_of_dataset
from streams.regards.downloads import Downloads
from streams.regards.refusals import detail_of, seen_as, stays
from streams.regards.requests import Requests, breaking_off, refused
from streams.regards.resume import Resumption
from streams.regards.tokens import TokenSigner

# rs-order reads all files of a dataset for each page of them: so let there be few. It is the most
# that Spring gives by default, to who asks for more, too.
DATASET_PAGE_SIZE = 2000
_READINGS = 4  # of a dataset's pages

_NOT_RETRIED = re.compile(r"\b(ORDER_MUST|ORDER_HAS|USER_NOT)_[A-Z_]+")
# Big reads: every hand-over between stages costs the same, whatever its size.
READ_BUFFER = 1024 * 1024


class RsOrder:
    """See `ports.OrderSource`. Addresses are made here; a listing's links are not followed."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        signer: TokenSigner,
        *,
        url: str,
        page_size: int,
        stall_timeout: float,
        resumption: Resumption,
        dataset_page_size: int = DATASET_PAGE_SIZE,
    ) -> None:
        self._requests = Requests(session, signer, url=url, stall_timeout=stall_timeout)
        self._page_size = page_size
        self._dataset_page_size = dataset_page_size
        self._downloads = Downloads(
            self._requests, stall_timeout=stall_timeout, resumption=resumption
        )

    async def listing(
        self, delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        """Iterate over the files of the delivery's order, or of one of its suborders.

        Raises SourceNotReadyError (206: more files come), and what `streams.regards.refusals` makes
        of refusals; of what may be incomplete (`so_far`, or a suborder: that was announced, and it
        is its order that is not done) the pages that a 206 may have are read. Raises
        SourceUnavailableError also when an answer is no page, and when the listing changed while it
        was read, for then a file may have slipped from one page to another unseen.
        """
        listed = f"order {delivery.order_id}"
        path = f"/orders/{delivery.order_id}/files/available"
        if suborder is not None:
            listed = f"suborder {suborder} of {listed}"
            path = f"/orders/{delivery.order_id}/filesTask/{suborder}/files/available"
        number = 0
        announced: int | None = None
        seen: set[int] = set()
        while True:
            page = await self._page_of_listing(
                delivery, path, listed, number, some=so_far or suborder is not None
            )
            if page is None:
                break
            if page.total is not None:
                if announced is not None and page.total != announced:
                    raise _changed(listed, f"it had {announced} files, then {page.total}")
                announced = page.total
            for file in page.entries:
                seen.add(file.file_id)
                yield file
            if page.last or (announced is not None and len(seen) > announced):
                break
            number += 1
        if announced is not None and len(seen) != announced:
            raise _changed(listed, f"it announced {announced} files and listed {len(seen)}")

    async def _page_of_listing(
        self, delivery: Delivery, path: str, listed: str, number: int, *, some: bool
    ) -> Page[ListedFile] | None:
        """Return the page of this number; None: there is no file.

        Where `some` files are of use, a 206 that has them is a page like others.
        """
        what = f"page {number} of the files of {listed}"
        query = {"page": number, "size": self._page_size, "sort": "id,asc"}
        async with self._requests.ask(delivery, path, what, params=query) as response:
            if response.status == 204:
                return None
            unfinished = SourceNotReadyError(f"rs-order has not finished {listed}")
            if response.status == 206 and not some:
                raise unfinished
            with breaking_off(what):
                body = await response.read()
            try:
                page = read_listed(body, number)
            except UNREADABLE as error:
                if response.status == 206:
                    raise unfinished from None
                raise _unreadable(response, what, "not a page of files", error) from None
            if response.status == 206 and not page.entries:
                raise unfinished
            return page

    async def order(self, delivery: Delivery) -> OrderFacts | None:
        """Ask about the order. None: it is not told, for whatever reason that stays.

        A refusal alone does not tell whether the order is refused, or there is no such question
        in this rs-order, or not for this user's role: that is seen by what its listing answers.
        Raises SourceRefusedError when the order is; SourceUnavailableError also when an answer is
        no order.
        """
        what = f"order {delivery.order_id}"
        path = f"/user/orders/{delivery.order_id}"
        async with self._requests.ask(delivery, path, what, judged=_untold) as response:
            if not _untold(response.status):
                _check_answered(response, what)
                with breaking_off(what):
                    body = await response.read()
                try:
                    return read_facts(body)
                except UNREADABLE as error:
                    raise _unreadable(response, what, "no order", error) from None
        await self._check_listing(delivery)
        return None

    async def _check_listing(self, delivery: Delivery) -> None:
        """Raise SourceRefusedError when there is no such order, or not for this user."""
        what = f"the files of order {delivery.order_id}"
        path = f"/orders/{delivery.order_id}/files/available"
        first = {"page": 0, "size": 1, "sort": "id,asc"}
        async with self._requests.ask(delivery, path, what, params=first):
            return

    async def every_file(self, delivery: Delivery, facts: OrderFacts) -> AsyncIterator[OrderFile]:
        """Iterate over all files of the delivery's order, each once, dataset by dataset.

        Raises OrderNotToldError where that is refused for good, or where pages stay short of what
        they announce; SourceUnavailableError also when an answer is no page; what `refusals` makes
        of what passes.
        """
        if facts.files is None:
            raise _not_all_told(delivery, "it does not tell how many they are")
        known: set[int] = set()
        for dataset in facts.datasets:
            async for file in self._files_of(delivery, dataset.dataset_id, facts.files, known):
                if len(known) > facts.files:
                    raise _not_all_told(delivery, f"they are more than the {facts.files} ordered")
                yield file

    async def _files_of(
        self, delivery: Delivery, dataset: int, listed: int, known: set[int]
    ) -> AsyncIterator[OrderFile]:
        """Iterate over a dataset's files that are not `known`; so they become.

        rs-order cuts these pages from a set, whose order may be another one for each of them: so
        there are files that come twice, and others that are on no page until the next reading.
        """
        before = len(known)
        total: int | None = None
        for _ in range(_READINGS):
            number, last = 0, False
            while not last:
                page = await self._page_of_dataset(delivery, dataset, number, listed)
                total = page.total
                if total is None:
                    raise _not_all_told(delivery, f"of dataset {dataset} it names no number")
                for file in page.entries:
                    if file.file.file_id not in known:
                        known.add(file.file.file_id)
                        yield file
                if len(known) - before == total:
                    return
                number, last = number + 1, page.last
        raise _not_all_told(
            delivery,
            f"of the {total} in dataset {dataset}, {_READINGS} readings of its pages gave "
            f"{len(known) - before}",
        )

    async def _page_of_dataset(
        self, delivery: Delivery, dataset: int, number: int, listed: int
    ) -> Page[OrderFile]:
        what = f"page {number} of dataset {dataset} of order {delivery.order_id}"
        path = f"/orders/{delivery.order_id}/dataset/{dataset}/files"
        query = {"page": number, "size": self._dataset_page_size}
        async with self._requests.ask(
            delivery, path, what, params=query, judged=_untold
        ) as response:
            if _untold(response.status):
                raise _not_all_told(delivery, f"it answered {response.status} for {what}")
            _check_answered(response, what)
            with breaking_off(what):
                body = await response.read()
            try:
                # It takes some 20 ms: the loop has leases to renew.
                return await asyncio.to_thread(read_of_dataset, body, number, listed=listed)
            except UNREADABLE as error:
                raise _unreadable(response, what, "not a page of files", error) from None

    async def retry(self, delivery: Delivery) -> bool:
        """Ask for a retry. False: the order does not allow it now, or there are no retries here."""
        what = f"a retry of order {delivery.order_id}"
        path = f"/user/orders/{delivery.order_id}/retry"
        async with self._requests.ask(
            delivery, path, what, method="PUT", judged={401, 405, 501}.__contains__
        ) as response:
            if response.status == 401:
                with breaking_off(what):
                    detail = await detail_of(response)
                # It says 401, too, of what the order as it stands does not allow.
                if not _NOT_RETRIED.search(detail):
                    raise refused(response, what, detail)
            return response.status < 300

    def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a file's bytes; see `Downloads.open`."""
        return self._downloads.open(delivery, file)


def _untold(status: int) -> bool:
    """Whether an answer means that this rs-order does not answer such a question."""
    return stays(status) or status == 501


def _check_answered(response: aiohttp.ClientResponse, what: str) -> None:
    """Raise SourceUnavailableError when there is nothing in an answer without refusal."""
    if response.status != 200:
        raise SourceUnavailableError(f"rs-order answered {response.status} for {what}")


def _unreadable(
    response: aiohttp.ClientResponse, what: str, is_no: str, error: Exception
) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"rs-order's answer for {what} is {is_no} ({error!r}); {seen_as(response)}: is it a page "
        "of a gateway before it? check DELIVERY_RS_ORDER_URL"
    )


def _changed(listed: str, how: str) -> SourceUnavailableError:
    return SourceUnavailableError(f"the listing of {listed} changed while it was read: {how}")


def _not_all_told(delivery: Delivery, why: str) -> OrderNotToldError:
    return OrderNotToldError(
        f"rs-order does not tell all files of order {delivery.order_id}: {why}"
    )


@contextlib.asynccontextmanager
async def open_session(
    *, stall_timeout: float, ca: str = ""
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open an HTTP session for rs-order; `stall_timeout` is in seconds without a byte.

    `ca` is a file of CAs that are trusted beside those of the system; raises ConfigurationError.
    Each transfer, listing and check bounds its own connections: a transfer that waits for its
    target keeps those that it has, and no limit that they share may make others wait for it.
    """
    async with aiohttp.ClientSession(
        connector=connector_of(trust(ca), limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=stall_timeout),
        # The bytes as they are: checksums are of the file, not of what unpacking would give.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
        # One session serves many users: what is set for one must not go along for another.
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER,
    ) as session:
        yield session
