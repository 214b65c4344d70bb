"""How rs-order is asked: as the ordering user, and watched; what goes wrong is told in words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp

from app.delivery.model import Delivery
from app.errors import DeliveryError, SourceUnavailableError
from app.network.https import said
from app.telemetry import tracing
from streams.regards.refusals import detail_of, refusal
from streams.regards.tokens import TokenSigner


def _none(_status: int) -> bool:
    return False


class Requests:
    """Makes the requests of one rs-order. Redirects are not followed."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        signer: TokenSigner,
        *,
        url: str,
        stall_timeout: float,
    ) -> None:
        self._session = session
        self._signer = signer
        self._url = url.rstrip("/")
        self._stall_timeout = stall_timeout

    @contextlib.asynccontextmanager
    async def ask(
        self,
        delivery: Delivery,
        path: str,
        what: str,
        *,
        method: str = "GET",
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - that of the session's
        judged: Callable[[int], bool] = _none,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask for something of a delivery's order; `what` is named by each error.

        Raises what `refusals` makes of an answer without success, but for a status that the caller
        judges.
        """
        asked = self.begin(
            delivery, path, method=method, params=params, headers=headers, timeout=timeout
        )
        async with contextlib.AsyncExitStack() as stack:
            with breaking_off(what):
                async with asyncio.timeout(self._stall_timeout):
                    response = await stack.enter_async_context(asked)
                    await check_success(response, what, judged=judged)
            yield response

    def begin(
        self,
        delivery: Delivery,
        path: str,
        *,
        method: str = "GET",
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Return a request as aiohttp has it: neither its time nor its answer is looked at."""
        token = self._signer.token(delivery.tenant, delivery.user)
        headers = {"Authorization": f"Bearer {token}"} | dict(headers or {})
        trace = tracing.current()
        if trace is not None:
            headers[tracing.HEADER] = trace
        return self._session.request(
            method,
            self._url + path,
            params=params,
            headers=headers,
            allow_redirects=False,
            timeout=timeout or self._session.timeout,
        )


async def check_success(
    response: aiohttp.ClientResponse, what: str, *, judged: Callable[[int], bool] = _none
) -> None:
    """Raise what `refusals` makes of an answer without success; see `Requests.ask`."""
    if not (200 <= response.status < 300 or judged(response.status)):
        raise refused(response, what, await detail_of(response))


def refused(response: aiohttp.ClientResponse, what: str, detail: str) -> DeliveryError:
    """Return the error that rs-order's answer is; `detail` is what its body says."""
    return refusal("rs-order", response, what, detail, check_address="DELIVERY_RS_ORDER_URL")


@contextlib.contextmanager
def breaking_off(what: str) -> Iterator[None]:
    """Tell as SourceUnavailableError that a connection broke."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise SourceUnavailableError(f"rs-order broke off {what} ({said(error)})") from error
