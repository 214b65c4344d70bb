"""Who did what: what the audit trail is made of, and what it is written and read through."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

# REGARDS' tenant of those who administer all of them; it has no deliveries. What is changed for all
# tenants, or for none that is known, is in its trail.
INSTANCE = "instance"


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who does something, as their token, the command line or a message says."""

    name: str  # the name alone, whichever way they come
    role: str  # that counts: of REGARDS, or READ_ONLY; COMMAND_LINE; AMQP
    tenant: str
    expires: int | None = field(default=None, compare=False)  # seconds since 1970, of a token
    # Whether their token is the identity provider's: the roles of a site may be bound to that.
    by_provider: bool = field(default=False, compare=False)
    named: str | None = field(default=None, compare=False)  # the site's role that stands for it


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRecord:
    """A change that an actor makes; secrets are masked."""

    actor: Actor
    action: str
    subject: str  # such as the name of a setting, or "delivery d-001"
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """A change as the audit trail has it."""

    id: int
    at: datetime
    tenant: str
    actor: str
    role: str
    action: str
    subject: str
    before: Any
    after: Any


class AuditTrail(Protocol):
    """Who changed what. Changes of settings and deliveries note themselves where they are made."""

    def recording(self, done: AuditRecord) -> AbstractAsyncContextManager[None]:
        """Record what is done within the block, unless it raises.

        For what no transaction of the store has a part in: should the store fail at the end, it is
        done and not noted, and the caller hears of that.
        """

    async def record(self, done: AuditRecord) -> None:
        """Note what was done, or is about to be."""

    async def entries(
        self,
        tenant: str | None,
        *,
        before: int,
        limit: int,
        since: datetime | None = None,
        until: datetime | None = None,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
    ) -> list[AuditEntry]:
        """Return the newest entries with ids under `before`; of all tenants for None.

        From `since` on, until `until`; of one actor, action, subject, where they are given.
        """
