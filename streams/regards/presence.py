"""Whether rs-order is there at all, as every process asks it."""

from __future__ import annotations

import aiohttp

from app.errors import SourceUnavailableError
from app.network.https import connector_of, said, trust

_TIMEOUT = aiohttp.ClientTimeout(total=3)


class Presence:
    """Asks for nothing; whatever is said, it answers.

    Raises ConfigurationError when the file of a CA can't be used.
    """

    def __init__(self, url: str, *, ca: str = "") -> None:
        self._url = url
        self._trusted = trust(ca)

    async def check(self) -> None:
        """Raise SourceUnavailableError unless rs-order answers within seconds."""
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector_of(self._trusted), timeout=_TIMEOUT
                ) as session,
                session.head(self._url, allow_redirects=False),
            ):
                return
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SourceUnavailableError(
                f"rs-order does not answer at {self._url} ({said(error)})"
            ) from None
