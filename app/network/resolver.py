"""Looks names up in threads of its own: a name service that is silent holds up nothing else.

`getaddrinfo` waits for as long as the system's resolver is patient, and nothing ends it sooner. In
the event loop's own threads, names that a tenant chooses would keep digests and files waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

from aiohttp.abc import AbstractResolver, ResolveResult

# As `socket.getaddrinfo` is called and answers.
Lookup = Callable[..., list[Any]]


class NameServiceError(OSError):
    """A name that was not looked up in time: nothing tells whether it has an address."""


class NameService:
    """A few threads that look names up, for several owners.

    An owner has a share of the threads; one that looks a name up is taken until that has ended,
    also when its answer is waited for no more. A lookup takes `timeout` seconds at most, those
    included that it waits for a thread.
    """

    def __init__(
        self,
        *,
        threads: int = 8,
        share: int = 2,
        timeout: float = 5.0,
        lookup: Lookup = socket.getaddrinfo,
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="names")
        self._share = share
        self._timeout = timeout
        self._lookup = lookup
        # By owner; one that nothing waits for or holds is forgotten.
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def for_owner(self, owner: str) -> AbstractResolver:
        """Return what a connector of aiohttp looks names up with."""
        return _Resolver(self, owner)

    async def addresses_of(self, owner: str, host: str, port: int, family: int) -> list[Any]:
        """Return what `getaddrinfo` does. Raises OSError, of which NameServiceError is one."""
        places = self._places.setdefault(owner, asyncio.Semaphore(self._share))
        try:
            async with asyncio.timeout(self._timeout):
                await places.acquire()
                # Cancelled, it takes back what no thread has begun.
                return await asyncio.wrap_future(self._begin(places, host, port, family))
        except TimeoutError:
            raise NameServiceError(
                f"the name service did not answer within {self._timeout:g} seconds"
            ) from None

    def _begin(
        self, places: asyncio.Semaphore, host: str, port: int, family: int
    ) -> Future[list[Any]]:
        loop = asyncio.get_running_loop()

        def ended(_: Future[list[Any]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: this process ends
                loop.call_soon_threadsafe(places.release)

        found = self._threads.submit(
            self._lookup,
            host,
            port,
            type=socket.SOCK_STREAM,
            family=family,
            flags=socket.AI_ADDRCONFIG,
        )
        found.add_done_callback(ended)
        return found


class _Resolver(AbstractResolver):
    """See `NameService.for_owner`."""

    def __init__(self, names: NameService, owner: str) -> None:
        self._names = names
        self._owner = owner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host."""
        found = await self._names.addresses_of(self._owner, host, port, family)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=known,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for known, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Do nothing: the threads are others', too."""
