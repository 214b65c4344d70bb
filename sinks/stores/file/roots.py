"""The folders that an operator allows archives in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.settings import Settings
from app.settings.tenants import TENANT

_ADVICE = "choose a folder in one that is allowed, or ask the operator to add it to"
_SETTING = "DELIVERY_FILE_ROOTS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Roots:
    """Those of a deployment; `{tenant}` in one stands for the name of the tenant."""

    paths: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> Roots:
        """Return those of the process's settings."""
        return cls(paths=settings.file_roots)

    def holding(self, path: str, tenant: str | None = None) -> str | None:
        """Return the one that a path is in, or is; None if none is.

        Of `tenant`, where it is known; else of any.
        """
        found = filter(None, (_holding(root, path, tenant) for root in self.paths))
        return max(found, key=len, default=None)

    def flaw_of(self, path: str, tenant: str | None = None) -> str | None:
        """Return why nothing may be put into a folder; None if it may."""
        if not self.paths:
            return f"no folder is allowed here: the operator has set no {_SETTING}"
        if self.holding(path, tenant) is None:
            whose = "" if tenant is None else f" of tenant {tenant}"
            return f"is in none of the folders{whose} that are allowed: {_ADVICE} {_SETTING}"
        return None


def _holding(root: str, path: str, tenant: str | None) -> str | None:
    """Return the root, as far as a path is in it; None if it isn't."""
    # Which tenants there are changes while a process runs; no name of one has a / here.
    name = "[^/]+" if tenant is None else re.escape(tenant)
    found = re.match(f"{name.join(map(re.escape, root.split(TENANT)))}(?=/|\\Z)", path)
    return None if found is None else found[0]
