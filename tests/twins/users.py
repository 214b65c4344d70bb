"""rs-admin in memory."""

from __future__ import annotations

from app.errors import SourceUnavailableError
from compose.rs_order.faults import Faults


class MemoryUsers:
    """See `app.delivery.ports.Users`. It misbehaves as the stand-in does, by its `faults`.

    Whom it has named it remembers for as long as it lives.
    """

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.asked: list[tuple[str, str]] = []  # tenant and user, as often as it was asked
        self._named: set[tuple[str, str]] = set()

    def remembers(self, tenant: str, email: str) -> bool:
        """Whether it has named this user of the tenant."""
        return (tenant, email) in self._named

    async def known(self, tenant: str, email: str) -> bool:
        """Whether the tenant has this user. Raises SourceUnavailableError when told to."""
        if self.remembers(tenant, email):
            return True
        self.asked.append((tenant, email))
        if self.faults.use("admin_answers_500"):
            raise SourceUnavailableError("told to fail")
        if email in (".", "..") or email in self.faults.unknown_users:
            return False
        self._named.add((tenant, email))
        return True
