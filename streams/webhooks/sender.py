"""POSTs events to webhooks, once each: signed, judged, bounded; redirects are not followed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ssl import SSLContext

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

from app import __version__
from app.delivery.webhooks import (
    ASKING_FOR_TIME,
    CONTENT_TYPE,
    Answer,
    DeliveryEvent,
    Post,
    Webhook,
)
from app.encoding import dumps
from app.network.callbacks import Callbacks
from app.network.judged import ForbiddenAddressError, judged
from app.network.resolver import NameService, NameServiceError
from app.network.tls import TlsFiles, context_of, explain
from app.telemetry.logs import get_logger
from streams.webhooks.signature import signed

log = get_logger(__name__)

_FILES_OF = "DELIVERY_HTTP"  # the setting of the site's CAs
_CONNECT_TIMEOUT = 5.0  # seconds
_BODY_TIMEOUT = (
    1.0  # seconds for what follows an answer that is good: only so that the line is kept
)
_MAX_ANSWER = 16 * 1024  # bytes that are read, so that the connection serves the next event
_INSIDE = "no answer from its address, which is not a public one; the operator's log tells why"


class HttpWebhooks:
    """See `app.delivery.webhooks.WebhookSender`. An answer must come within `timeout` seconds.

    `ca` is a file of CAs that are trusted beside the public ones. What a webhook answers is never
    told: it may be no webhook at all, and its tenant no reader of it.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        *,
        timeout: float = 15.0,
        ca: str = "",
        names: NameService | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._callbacks = callbacks
        self._timeout = timeout
        self._names = names or NameService()
        self._now = now
        self._tls = context_of(TlsFiles(setting=_FILES_OF, ca=ca), public_too=True)

    @contextlib.asynccontextmanager
    async def to(self, webhook: Webhook) -> AsyncIterator[Post]:
        """Open connections of one webhook, closed at the end."""
        flaw = self._callbacks.flaw_of(webhook.url)
        if flaw is not None:

            async def refuse(event: DeliveryEvent, at: datetime) -> Answer:  # noqa: ARG001 - a Post
                return Answer(taken=False, flaw=f"nothing is sent: {flaw}")

            yield refuse
            return
        proxy = _proxy_for(webhook.url)
        # What a proxy connects to is not seen here: what it tells of a name may be of the inside.
        hidden = proxy.url is not None and not self._callbacks.hosts.names_host(webhook.url)
        line = _Line(url=webhook.url, callbacks=self._callbacks, inside=hidden)
        names = self._names.for_owner(webhook.tenant)
        async with _session(line, self._tls, proxy, names) as session:

            async def post(event: DeliveryEvent, at: datetime) -> Answer:
                ends = asyncio.get_running_loop().time() + self._timeout
                try:
                    return await self._post(session, proxy, webhook, event, at, ends)
                except aiohttp.ConnectionTimeoutError:
                    flaw = f"no connection within {_CONNECT_TIMEOUT:g} seconds"
                except TimeoutError:
                    flaw = f"no answer within {self._timeout:g} seconds"
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    flaw = _in_words(error)
                return Answer(taken=False, flaw=await line.told(webhook, flaw, ends))

            yield post

    async def _post(
        self,
        session: aiohttp.ClientSession,
        proxy: _Proxy,
        webhook: Webhook,
        event: DeliveryEvent,
        at: datetime,
        ends: float,
    ) -> Answer:
        """Return what is answered; raises TimeoutError when nothing was by a time of the loop's."""
        body = dumps(event.cloud_event(at))
        now = self._now()
        headers = signed(webhook.secrets, message_id=str(event.id), at=int(now), body=body)
        posted = session.post(
            URL(webhook.url, encoded=True),
            data=body,
            proxy=proxy.url,
            proxy_auth=proxy.auth,
            headers={**headers, "Content-Type": CONTENT_TYPE},
            allow_redirects=False,
        )
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout_at(ends):
                response = await stack.enter_async_context(posted)
            answer = _answer_of(response, now)
            if answer.taken:  # else the connection is closed, whatever is behind
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with asyncio.timeout(_BODY_TIMEOUT):  # it is taken, whatever follows
                        await response.content.read(_MAX_ANSWER)
            return answer


@dataclass(frozen=True, slots=True)
class _Proxy:
    """A proxy of the operator's environment, which then has to judge addresses; or none."""

    url: URL | None = None
    auth: aiohttp.BasicAuth | None = None


def _proxy_for(url: str) -> _Proxy:
    """Return the one that aiohttp goes by for a URL. One that it does not know is none.

    It is asked here, and not by `trust_env`, which would sign in with what a `.netrc` has for any
    host that a tenant names.
    """
    try:
        return _Proxy(*get_env_proxy_for_url(URL(url, encoded=True)))
    except LookupError:
        return _Proxy()


@dataclass(slots=True)
class _Line:
    """Where connections for a webhook lead to, and how much its tenant may be told of that."""

    url: str
    callbacks: Callbacks
    inside: bool = (
        False  # a connection was tried whose failure would tell of the operator's network
    )

    def judge(self, address: str) -> str | None:
        """Return why no connection may be opened to an address; note what is about to be tried."""
        flaw = self.callbacks.flaw_of_address(self.url, address)
        if flaw is None and not self.callbacks.tells_of(self.url, address):
            self.inside = True
        return flaw

    async def told(self, webhook: Webhook, flaw: str, ends: float) -> str:
        """Return what a tenant is told of a try that had no answer.

        Inside the operator's network the same for all that may have happened, and at the same time.
        """
        if not self.inside:
            return flaw
        log.warning(
            "webhook_not_reached",
            tenant=webhook.tenant,
            webhook=webhook.name,
            cause=flaw,
            consequence="its tenant is told that there is no answer, and not why",
            advice="name its host in DELIVERY_WEBHOOK_ALLOWED_HOSTS: its tenant is told why then",
        )
        loop = asyncio.get_running_loop()
        await asyncio.sleep(ends - loop.time())
        return _INSIDE


@contextlib.asynccontextmanager
async def _session(
    line: _Line, tls: SSLContext, proxy: _Proxy, names: AbstractResolver
) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session that opens connections to allowed addresses alone, and keeps no cookies."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=tls,
            limit=8,
            resolver=names,
            socket_factory=judged(line.judge) if proxy.url is None else None,
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
        headers={"User-Agent": f"rs-delivery/{__version__}", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        yield session


def _answer_of(response: aiohttp.ClientResponse, now: float) -> Answer:
    status = response.status
    if 200 <= status < 300:
        return Answer(taken=True, status=status)
    flaw = f"it answered {status}"
    if 300 <= status < 400:
        flaw += ": redirects are not followed; give the URL that it leads to"
    if status == 410:
        flaw += ": it is gone for good"
    asked = response.headers.get("Retry-After") if status in ASKING_FOR_TIME else None
    return Answer(taken=False, flaw=flaw, status=status, retry_after=_asked(asked, now))


def _asked(text: str | None, now: float) -> timedelta | None:
    """Return what Retry-After asks for: seconds, or a date; None where it is neither."""
    if text is None:
        return None
    try:
        if text.isascii() and text.isdigit():
            return timedelta(seconds=min(int(text[:12]), 10**9))
        at = parsedate_to_datetime(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return max(timedelta(), at - datetime.fromtimestamp(now, UTC))
    except (ValueError, OverflowError, TypeError):
        return None


def _in_words(error: Exception) -> str:
    """Return why there was no answer; one text for what would tell ports of a network apart."""
    for cause in _chain(error):
        if isinstance(cause, ForbiddenAddressError):
            return f"nothing is sent: {cause}"
        if isinstance(cause, NameServiceError):
            return f"its host was not looked up: {cause}"
    told = explain(error, TlsFiles(setting=_FILES_OF))
    if told is not None:
        return told
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host has no address; correct the URL, or its name service"
    return "no connection, or one that broke off before the answer"


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or one in found:
            continue
        found.append(one)
        pending += [one.__cause__, one.__context__, getattr(one, "os_error", None)]
        pending += list(getattr(one, "exceptions", ()))
    return found
