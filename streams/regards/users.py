"""rs-admin over REST: whether a user is known (contract, section 1)."""

from __future__ import annotations

from collections import defaultdict
from urllib.parse import quote

import aiohttp
from cachetools import TTLCache

from app.errors import SourceUnavailableError
from app.network.https import said
from streams.regards.refusals import seconds_of
from streams.regards.tokens import TokenSigner

_CACHE_LIFETIME = 300.0  # seconds
_CACHE_SIZE = 1000  # of each tenant


class RsAdmin:
    """See `ports.Users`. Known users are cached; an unknown one may be added any moment."""

    def __init__(self, session: aiohttp.ClientSession, signer: TokenSigner, *, url: str) -> None:
        self._session = session
        self._signer = signer
        self._url = url.rstrip("/")
        # One for each tenant: a busy one must not push out the users of others.
        self._known: defaultdict[str, TTLCache[str, bool]] = defaultdict(
            lambda: TTLCache(_CACHE_SIZE, _CACHE_LIFETIME)
        )

    def remembers(self, tenant: str, email: str) -> bool:
        """Whether rs-admin knew this user a short while ago."""
        return email in self._known[tenant]

    async def known(self, tenant: str, email: str) -> bool:
        """Ask rs-admin. Only its 404 means no; any other outcome raises SourceUnavailableError."""
        if self.remembers(tenant, email):
            return True
        if email in (".", ".."):
            return False  # no address names them: it would be folded to that of something else
        token = self._signer.token(tenant, email)
        try:
            async with self._session.get(
                f"{self._url}/users/email/{quote(email, safe='@')}",
                headers={"Authorization": f"Bearer {token}"},
                allow_redirects=False,
            ) as response:
                status = response.status
                # A gateway's page says nothing about a user, although it is 200.
                page = response.content_type == "text/html"
                later = seconds_of(response.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SourceUnavailableError(
                f"rs-admin can't be asked about user {email} ({said(error)})"
            ) from error
        if status not in (200, 404) or (status == 200 and page):
            looks = f"{status} with a page of HTML" if page else str(status)
            raise SourceUnavailableError(
                f"rs-admin answered {looks} for user {email}; check DELIVERY_RS_ADMIN_URL",
                retry_after=later,
            )
        if status == 200:
            self._known[tenant][email] = True
        return status == 200


class AskedLater:
    """See `ports.Users`. For processes that leave asking to the workers."""

    def remembers(self, tenant: str, email: str) -> bool:  # noqa: ARG002 - the port's signature
        """Return False: a worker asks."""
        return False

    async def known(self, tenant: str, email: str) -> bool:
        """Raise SourceUnavailableError: this process does not ask."""
        raise SourceUnavailableError(f"user {email} of {tenant} is asked about by a worker")


class AnyUser:
    """See `ports.Users`. For deployments without rs-admin: every user may order."""

    def remembers(self, tenant: str, email: str) -> bool:  # noqa: ARG002 - the port's signature
        """Return True."""
        return True

    async def known(self, tenant: str, email: str) -> bool:  # noqa: ARG002 - the port's signature
        """Return True."""
        return True
