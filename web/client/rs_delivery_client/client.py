"""The client: what a program asks of the service, and hears from it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import aiohttp
from yarl import URL

from rs_delivery_client import download as downloads
from rs_delivery_client.content import Address, Content, Link, open_session
from rs_delivery_client.errors import (
    ClientError,
    ConflictError,
    ContentMissingError,
    DeliveryFailedError,
    NotReachableError,
    ServiceError,
)
from rs_delivery_client.flaws import Tell
from rs_delivery_client.manifest import MANIFEST_NAME
from rs_delivery_client.models import (
    Caller,
    DeliveredFile,
    Delivery,
    DeliveryFilter,
    Event,
    Finding,
    ProgressEvent,
    ReloadEvent,
    StateEvent,
    Target,
)
from rs_delivery_client.operating import Operating
from rs_delivery_client.pauses import Pauses
from rs_delivery_client.service import Answer, Service
from rs_delivery_client.sse import Frame, frames
from rs_delivery_client.tokens import Renewed, Token
from rs_delivery_client.verification import Progress

_UNNAMEABLE = frozenset({".", "..", "events", "by-id"})  # no path can hold them
_STREAM = aiohttp.ClientTimeout(total=None, connect=30.0, sock_read=60.0)  # it pings more often
# A tenant, a store, or a service that gives no links: one of before there were any answers 404.
_NO_LINKS = frozenset({403, 404, 405, 409, 501})


class DeliveryClient:
    """The service at `url`, as `token` may use it.

    `token` is a token, a function (also an async one) that gives one, or a `Key`; a function is
    asked again when a token has expired. `timeout` is of an answer, in seconds. Use it as an async
    context manager.

        async with DeliveryClient("https://delivery.example.org", token=token) as client:
            delivery = await client.submit({"user": me, "queries": ["providerId:S2B_*"]})
            await client.wait(delivery)
            await client.download(delivery, Path("products"))
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        timeout: float = 60.0,
        pauses: Pauses | None = None,
    ) -> None:
        self._url = url
        self._token = token
        self._timeout = timeout
        self.pauses = pauses or Pauses()
        self._stack = contextlib.AsyncExitStack()
        self._opened: tuple[Service, aiohttp.ClientSession] | None = None

    async def __aenter__(self) -> Self:
        """Open the sessions: one for the service, one for links, which sends no token."""
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json"},
        )
        await self._stack.enter_async_context(session)
        links = await self._stack.enter_async_context(open_session(timeout=self._timeout))
        self._opened = Service(session, self._url, self._token, self.pauses), links
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        self._opened = None
        await self._stack.aclose()

    @property
    def _service(self) -> Service:
        return self._both[0]

    @property
    def operating(self) -> Operating:
        """What operators and administrators ask of it."""
        return Operating(self._service)

    @property
    def links_session(self) -> aiohttp.ClientSession:
        """The session that links are fetched with."""
        return self._both[1]

    @property
    def _both(self) -> tuple[Service, aiohttp.ClientSession]:
        if self._opened is None:
            raise RuntimeError("use the client in `async with`")
        return self._opened

    async def submit(
        self,
        order: Mapping[str, Any],
        *,
        correlation_id: str | None = None,
        target: str | None = None,
        format: str | None = None,  # noqa: A002 - the service's word for it
        labels: Sequence[str] = (),
        deadline: str | None = None,
        options: Mapping[str, Any] | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> Delivery:
        """Ask for a delivery; it is taken in when this returns, and done later.

        `order` has `user`, `queries` and maybe `filters`. A user who may see their own alone is
        given a correlation id if none is chosen; others must choose one. `options` are those of
        `delivery` in a request that have no argument here. Asked again with the same key, it is
        the same delivery; without one, the call itself is safe to be repeated on the way.
        Raises InvalidRequestError with every rule that is broken.
        """
        chosen = {"format": format, "labels": list(labels) or None, "deadline": deadline}
        delivery = {**(options or {}), **{k: v for k, v in chosen.items() if v is not None}}
        body = {
            "correlationId": correlation_id,
            "targetDelivery": target,
            "order": dict(order),
            "delivery": delivery or None,
        }
        return await self.send(
            {name: value for name, value in body.items() if value is not None},
            priority=priority,
            idempotency_key=idempotency_key,
        )

    async def send(
        self,
        request: Mapping[str, Any],
        *,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> Delivery:
        """Ask for a delivery by a whole request, as over AMQP; see `submit`."""
        found = await self._service.ask(
            "POST",
            "/deliveries",
            # The key makes it safe: an answer that was lost is had by asking again.
            again=True,
            body=dict(request),
            query={"priority": priority},
            headers={"Idempotency-Key": idempotency_key or str(uuid4())},
        )
        return Delivery.of(found["content"])

    async def delivery(self, which: str | Delivery) -> Delivery:
        """Return how a delivery is now: by its correlation id the newest, or that very one."""
        path, query = _named(which)
        found = await self._service.ask("GET", path, again=True, query=query)
        return Delivery.of(found["content"])

    async def deliveries(
        self,
        *,
        states: Sequence[str] = (),
        activities: Sequence[str] = (),
        codes: Sequence[str] = (),
        labels: Sequence[str] = (),
        target: str | None = None,
        worker: str | None = None,
        user: str | None = None,
        text: str | None = None,
        since: str | None = None,
        until: str | None = None,
        page: int | None = None,
    ) -> AsyncIterator[Delivery]:
        """Yield deliveries, the newest first: those that a `DeliveryFilter` of these finds.

        `page` is how many are asked for at a time, 500 at most.
        """
        wanted = DeliveryFilter(
            states=states,
            activities=activities,
            codes=codes,
            labels=labels,
            target=target,
            worker=worker,
            user=user,
            text=text,
            since=since,
            until=until,
        )
        query = {**wanted.parameters, **({"size": page} if page else {})}
        async for entry in self._service.pages("/deliveries", query):
            yield Delivery.of(entry)

    async def files(self, which: str | Delivery) -> AsyncIterator[DeliveredFile]:
        """Yield the files of a delivery, as they are in its archive."""
        path, query = _named(which)
        async for entry in self._service.pages(f"{path}/files", {**query, "size": 500}):
            yield DeliveredFile.of(entry)

    async def me(self) -> Caller:
        """Return who the token is of."""
        found = await self._service.ask("GET", "/me", again=True)
        return Caller.of(found["content"])

    async def sign_in(self, *, tenant: str, user: str, password: str) -> str:
        """Return a token for a user and a password of REGARDS, where the service takes these.

        Raises NotSignedInError.
        """
        body = {"tenant": tenant, "user": user, "password": password}
        # Once: each try counts, and few are allowed.
        found = await self._service.ask("POST", "/console/sign-in", again=False, body=body)
        return str(found["token"])

    async def provider(self) -> Mapping[str, Any]:
        """Return where users sign in at the identity provider: its issuer, and parameters.

        Raises ServiceError where the service has none.
        """
        found: Mapping[str, Any] = await self._service.ask("GET", "/console/provider", again=True)
        return found

    async def renewed(self, refresh_token: str) -> Renewed:
        """Return a token of the identity provider in place of one that ends.

        It is asked for once: many providers take a refresh token once. Raises NotSignedInError.
        """
        body = {"refreshToken": refresh_token}
        found = await self._service.ask("POST", "/console/sign-in/refresh", again=False, body=body)
        return Renewed(token=str(found["token"]), refresh=found.get("refreshToken"))

    async def attention(self) -> list[Finding]:
        """Return what needs an operator now, what matters most first.

        Raises ForbiddenError for a user who is none.
        """
        found = await self._service.ask("GET", "/attention", again=True)
        return [Finding.of(entry) for entry in found["content"]]

    async def targets(self) -> list[Target]:
        """Return how it goes with each target.

        Raises ForbiddenError for a user who is no operator.
        """
        found = await self._service.ask("GET", "/targets", again=True)
        return [Target.of(entry) for entry in found["content"]]

    async def error_codes(self, *, etag: str | None = None) -> Answer | None:
        """Return the catalogue of error codes, with its ETag; None: it is the one of `etag`.

        Its content is a list; each entry has `code`, `title`, `means`, `waiting` (`yes`, `maybe`,
        `no`), `who`, `do` and `lost`, as texts.
        """
        headers = {} if etag is None else {"If-None-Match": etag}
        found = await self._service.answer("GET", "/errors", again=True, headers=headers)
        return None if found.unchanged else found._replace(content=found.content["content"])

    async def cancel(self, which: str | Delivery, *, reason: str | None = None) -> Delivery:
        """End a delivery now. It is not tried again: the first try may have done it."""
        path, _ = _named(which)
        found = await self._service.ask(
            "POST", f"{path}/cancel", again=False, query={"reason": reason}
        )
        return Delivery.of(found["content"])

    async def retry(self, which: str | Delivery, *, force: bool = False) -> Delivery:
        """Try again: at once what waits for it, by a new request what ended in ERROR.

        It is asked once. Raises ConflictError, also for what would fail again, unless `force`.
        """
        path, _ = _named(which)
        found = await self._service.ask(
            "POST", f"{path}/retry", again=False, query={"force": "true"} if force else None
        )
        return Delivery.of(found["content"])

    async def validate(
        self, request: Mapping[str, Any], *, priority: int | None = None
    ) -> Mapping[str, Any]:
        """Return what would become of a whole request, as the service tells; nothing is kept."""
        found = await self._service.ask(
            "POST",
            "/deliveries/validate",
            again=True,
            body=dict(request),
            query={"priority": priority},
        )
        content: Mapping[str, Any] = found["content"]
        return content

    async def watch(
        self, which: str | Delivery, *, last_event: int | None = None
    ) -> AsyncGenerator[Event]:
        """Yield what has happened to a delivery and what happens, until it has ended.

        A stream that breaks off is taken up behind the last event that was heard; `last_event` is
        the number of one that was heard before. A reader who is slow holds up nothing but itself.
        Raises NotFoundError, NotSignedInError, NotReachableError.
        """
        path, query = _named(which)
        last, tries, retry = last_event, 0, None
        while True:
            wait = None
            try:
                heard = {"Accept": "text/event-stream"}
                heard |= {} if last is None else {"Last-Event-ID": str(last)}
                async with self._service.asked(
                    "GET", f"{path}/events", query=query, headers=heard, timeout=_STREAM
                ) as answer:
                    if answer.status == 204:
                        return
                    async for frame in frames(answer.content.iter_any()):
                        tries = 0
                        retry = retry if frame.retry is None else frame.retry / 1000
                        last = int(frame.id) if frame.id and frame.id.isdecimal() else last
                        event = await self._event(frame, which)
                        if event is None:
                            continue
                        yield event
                        if not isinstance(event, ProgressEvent) and event.delivery.ended:
                            return
            except NotReachableError as error:
                tries += 1
                if tries >= self.pauses.tries:
                    raise
                wait = error.retry_after
            pause = self.pauses.before(max(1, tries), wait)
            await asyncio.sleep(pause if tries else min(retry or pause, self.pauses.most))

    async def _event(self, frame: Frame, which: str | Delivery) -> Event | None:
        """Return an event; None: one that is not known here, or about the stream itself."""
        number = int(frame.id) if frame.id and frame.id.isdecimal() else None
        if frame.event == "reload":
            return ReloadEvent(id=number, delivery=await self.delivery(which))
        if frame.event == "expired":
            await self._service.headers(renew=self._service.renews)
            return None
        if frame.event not in {"state", "progress"}:
            return None
        body = _body(frame)
        if frame.event == "progress":
            return ProgressEvent.of(body)
        return StateEvent(id=number, delivery=Delivery.of(body), cause=body.get("cause"))

    async def wait(
        self,
        which: str | Delivery,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the caller's word for it
        on_event: Callable[[Event], None] | None = None,
    ) -> Delivery:
        """Wait until a delivery is done, and return it; `on_event` is told what happens meanwhile.

        Raises DeliveryFailedError when it ends in ERROR, TimeoutError after `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            async with contextlib.aclosing(self.watch(which)) as events:
                async for event in events:
                    if on_event is not None:
                        on_event(event)
            ended = await self.delivery(which)
        if not ended.done:
            raise DeliveryFailedError(
                f"{ended.correlation_id} ended in {ended.state} ({ended.error_type}): "
                f"{ended.error_message}",
                ended,
            )
        return ended

    async def link(
        self, which: str | Delivery, *, path: str | None = None, ttl: int | None = None
    ) -> Link:
        """Return where a delivery, or a file of it, can be fetched for a while.

        `path` is a file's, as the manifest lists it, or `manifest.json`; none means the archive.
        `ttl` is in seconds. Raises NotFoundError; ForbiddenError or ConflictError where there are
        no links: `read` and `download` take the bytes from the service itself then.
        """
        named, query = _named(which)
        wanted = {"path": path, "ttl": ttl}
        body = {name: value for name, value in wanted.items() if value is not None}
        found = await self._service.ask("POST", f"{named}/link", again=True, query=query, body=body)
        return Link(
            url=str(found["url"]),
            expires=found.get("expires"),
            size=found.get("size"),
            md5=found.get("md5"),
        )

    async def content_link(self, which: str | Delivery, *, path: str | None = None) -> Link:
        """Return where the service itself hands a delivery's bytes out, if its operator lets it."""
        named, query = _named(which)
        query = {**query, **({} if path is None else {"path": path})}
        address = str(
            URL(self._service.address(f"{named}/content"), encoded=True).update_query(query)
        )
        return Link(url=address, headers=await self._service.headers(), own=True)

    def address(self, which: str | Delivery, path: str | None = None) -> Address:
        """Return what gives links to a delivery, or a file of it, for as long as that takes."""
        held: list[Link] = []

        async def give(renew: bool) -> Link:
            if renew or not held:
                held[:] = [await self._some_link(which, path, renew=renew)]
            return held[0]

        return give

    async def _some_link(self, which: str | Delivery, path: str | None, *, renew: bool) -> Link:
        try:
            return await self.link(which, path=path)
        except ServiceError as error:
            if error.status not in _NO_LINKS:
                raise
            no_other = str(error)
        if renew:
            await self._service.headers(renew=self._service.renews)
        return replace(await self.content_link(which, path=path), no_other=no_other)

    async def read(self, which: str | Delivery, *, path: str | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of a delivery's archive, or of a file of it, over drops."""
        address = self.address(which, path)
        async for chunk in Content(self.links_session, address, pauses=self.pauses):
            yield chunk

    async def download(
        self,
        which: str | Delivery,
        to: Path | str = ".",
        *,
        unpack: bool = False,
        parallel: int = 8,
        on_flaw: Tell | None = None,
        progress: Progress | None = None,
    ) -> downloads.Downloaded:
        """Fetch what was delivered into the folder `to`, verified; see `download.fetch_delivery`.

        What broke off is taken up by the next call. Raises ConflictError while the delivery is not
        done, FlawedError when what was fetched is not what was delivered.
        """
        found = await self.delivery(which)
        if not found.done:
            raise ConflictError(
                f"{found.correlation_id} is {found.state}, so there is nothing to fetch: "
                + (
                    found.failure
                    or ("ask for it again" if found.ended else "wait until it is DONE")
                ),
                status=409,
            )
        return await downloads.fetch_delivery(
            self,
            found,
            Path(to),
            unpack=unpack,
            parallel=parallel,
            on_flaw=on_flaw,
            progress=progress,
        )

    @contextlib.asynccontextmanager
    async def manifest(self, which: str | Delivery) -> AsyncIterator[Path | None]:
        """Give a delivery's manifest as a temporary file; None: there is none."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                place = await stack.enter_async_context(
                    downloads.fetched_manifest(self, which, MANIFEST_NAME)
                )
            except ContentMissingError:
                place = None
            except ServiceError as error:
                if error.status != 410:
                    raise
                place = None  # it was removed; whether the rest was, is told when that is fetched
            yield place


def _named(which: str | Delivery) -> tuple[str, dict[str, str]]:
    """Return the path of a delivery, and the query that tells it from others of its name."""
    if isinstance(which, str):
        if which in _UNNAMEABLE:
            raise ClientError(
                f"a delivery that is called {which!r} can be asked for by its own id alone"
            )
        return f"/deliveries/{quote(which, safe='')}", {}
    if which.correlation_id in _UNNAMEABLE:
        return f"/deliveries/by-id/{which.id}", {}
    query = {"id": which.id} if which.id else {}
    return f"/deliveries/{quote(which.correlation_id, safe='')}", query


def _body(frame: Frame) -> dict[str, Any]:
    try:
        body = json.loads(frame.data)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ServiceError("an event is no JSON object: this is not this service", status=200)
    return body
