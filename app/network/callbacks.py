"""Where tenants may have this service send what they want to hear.

As with archives, a tenant's word makes this service connect from inside the operator's network: a
URL is judged when it is set, and the address that it leads to at each connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from app.network.hosts import AllowedHosts


@dataclass(frozen=True, kw_only=True, slots=True)
class Callbacks:
    """The operator's list of hosts. Plain http goes to those that it names, or, if `plain`, to any.

    A pattern names none.
    """

    hosts: AllowedHosts
    plain: bool = False

    def flaw_of(self, url: str) -> str | None:
        """Return why nothing may be sent to a URL, as far as it tells; None if something may."""
        flaw = self.hosts.flaw_of(url)
        if flaw is not None:
            return flaw
        if urlsplit(url).scheme != "https" and not self.plain and not self.hosts.names_host(url):
            return (
                "must begin with https://; plain http is for hosts that the operator names in "
                "DELIVERY_WEBHOOK_ALLOWED_HOSTS"
            )
        return None

    def flaw_of_address(self, url: str, address: str) -> str | None:
        """Return why no connection may be opened to an address that a URL leads to."""
        return self.hosts.flaw_of_address(url, address)

    def tells_of(self, url: str, address: str) -> bool:
        """Whether a tenant may be told how a connection to an address that a URL leads to fails."""
        return self.hosts.tells_of(url, address)
