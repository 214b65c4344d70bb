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
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

from app import __version__
from app.delivery.webhooks import CONTENT_TYPE, Answer, DeliveryEvent, Post, Webhook
from app.encoding import dumps
from app.network.callbacks import Callbacks
from app.network.judged import ForbiddenAddressError, judged
from app.network.tls import TlsFiles, context_of, explain
from streams.webhooks.signature import signed

_FILES_OF = "DELIVERY_HTTP"  # the setting of the site's CAs
_CONNECT_TIMEOUT = 5.0  # seconds
_BODY_TIMEOUT = (
    1.0  # seconds for what follows an answer that is good: only so that the line is kept
)
_MAX_ANSWER = 16 * 1024  # bytes that are read, so that the connection serves the next event
_ASKS_FOR_TIME = (429, 503)


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
        now: Callable[[], float] = time.time,
    ) -> None:
        self._callbacks = callbacks
        self._timeout = timeout
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
        async with _session(webhook.url, self._callbacks, self._tls, proxy) as session:

            async def post(event: DeliveryEvent, at: datetime) -> Answer:
                try:
                    async with asyncio.timeout(self._timeout):
                        return await self._post(session, proxy, webhook, event, at)
                except TimeoutError:  # aiohttp's own are, too
                    flaw = f"no answer within {self._timeout:g} seconds"
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    flaw = _in_words(error)
                return Answer(taken=False, flaw=flaw)

            yield post

    async def _post(
        self,
        session: aiohttp.ClientSession,
        proxy: _Proxy,
        webhook: Webhook,
        event: DeliveryEvent,
        at: datetime,
    ) -> Answer:
        body = dumps(event.cloud_event(at))
        now = self._now()
        headers = signed(webhook.secrets, message_id=str(event.id), at=int(now), body=body)
        async with session.post(
            URL(webhook.url, encoded=True),
            data=body,
            proxy=proxy.url,
            proxy_auth=proxy.auth,
            headers={**headers, "Content-Type": CONTENT_TYPE},
            allow_redirects=False,
        ) as response:
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


@contextlib.asynccontextmanager
async def _session(
    url: str, callbacks: Callbacks, tls: SSLContext, proxy: _Proxy
) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session that opens connections to allowed addresses alone, and keeps no cookies."""

    def judge(found: str) -> str | None:
        return callbacks.flaw_of_address(url, found)

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=tls, limit=8, socket_factory=judged(judge) if proxy.url is None else None
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
    asked = response.headers.get("Retry-After") if status in _ASKS_FOR_TIME else None
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
