"""Every statement of the service, by name."""

from __future__ import annotations

from app.store.sql import load
from compose.embedded.stack import ROOT

STORE = ROOT / "app" / "store"
BY_MODULE = {path.stem: load(f"app.store.{path.stem}") for path in sorted(STORE.glob("*.sql"))}
STATEMENTS = {name: statement for found in BY_MODULE.values() for name, statement in found.items()}
