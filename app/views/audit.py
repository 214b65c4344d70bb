"""The audit trail as it is shown: one form of an entry, as JSON, JSON lines or CSV.

And what is written into it about dead letters, which no transaction of the database has a part in.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import Field

from app.audit import INSTANCE, Actor, AuditEntry, AuditRecord, AuditTrail
from app.errors import as_cause
from app.views.dead_letters import DeadLetter
from app.views.view import Moment, View

_TEXTS = frozenset({"tenant", "actor", "role", "action", "subject"})
# Where a spreadsheet would begin to compute. In many countries it begins a cell at a semicolon, and
# is then in no quotes where a line ends.
_FORMULA = re.compile(r"(^|(?:[;\n]|(?<=.)\r)\s*)(?=[=+@\t\r-])")


class AuditEntryView(View):
    """A change, as it is shown everywhere: HTTP, files, command line."""

    id: int
    at: Moment
    tenant: str
    actor: str
    role: str
    action: str
    subject: str
    before: Any = Field(description="As the setting's type says.")
    after: Any = Field(description="As the setting's type says.")

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """Show an entry."""
        return cls(**{name: getattr(entry, name) for name in COLUMNS})


COLUMNS = tuple(AuditEntryView.model_fields)


def json_lines(entries: Iterable[AuditEntry]) -> str:
    """Return one JSON object a line."""
    return "".join(
        f"{json.dumps(AuditEntryView.of(entry).body(), ensure_ascii=False)}\n" for entry in entries
    )


def csv_head() -> str:
    """Return the line that names the columns."""
    return _csv([COLUMNS])


def csv_lines(entries: Iterable[AuditEntry]) -> str:
    """Return one line of CSV (RFC 4180) an entry; `before` and `after` are JSON.

    A text that a spreadsheet would take for a formula has an apostrophe before it: clients choose
    correlation ids.
    """
    return _csv(
        [_cell(name, value) for name, value in AuditEntryView.of(entry).body().items()]
        for entry in entries
    )


def _cell(name: str, value: Any) -> Any:
    if name in _TEXTS:
        return _FORMULA.sub(r"\1'", value)
    if name in ("before", "after"):
        # The same in JSON, where a semicolon is always in a text.
        written = json.dumps(value, ensure_ascii=False).replace(";", "\\u003b")
        return "" if value is None else written
    return value


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()


def of_dead_letter(
    actor: Actor, action: str, dead_letter: DeadLetter, *, served: bool, after: str | None
) -> AuditRecord:
    """Return what is noted of a dead letter that an actor puts back, or removes.

    It is in the trail of the tenant that the letter is of, if that is `served`; else of no tenant.
    """
    owner = dead_letter.tenant if served and dead_letter.tenant else INSTANCE
    before = {"place": dead_letter.place, "reason": dead_letter.reason, "bytes": dead_letter.size}
    if dead_letter.correlation_id is not None:
        before["correlationId"] = dead_letter.correlation_id
    return AuditRecord(
        actor=replace(actor, tenant=owner),
        action=action,
        subject=f"dead letter {dead_letter.id}",
        # What strangers sent may hold what PostgreSQL does not.
        before={k: as_cause(v[:1000]) if isinstance(v, str) else v for k, v in before.items()},
        after=after,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterTrail:
    """Notes what an actor does with dead letters."""

    trail: AuditTrail
    actor: Actor
    serves: Callable[[str], bool]  # whether a tenant is one of this instance

    def requeued(
        self, dead_letter: DeadLetter, place: str | None
    ) -> AbstractAsyncContextManager[None]:
        """Record that a letter goes back to a place, unless the block raises."""
        return self._recording("requeue", dead_letter, after=place)

    def purged(self, dead_letter: DeadLetter) -> AbstractAsyncContextManager[None]:
        """Record that a letter is removed, unless the block raises."""
        return self._recording("purge", dead_letter, after=None)

    def _recording(
        self, action: str, dead_letter: DeadLetter, *, after: str | None
    ) -> AbstractAsyncContextManager[None]:
        served = dead_letter.tenant is not None and self.serves(dead_letter.tenant)
        return self.trail.recording(
            of_dead_letter(self.actor, action, dead_letter, served=served, after=after)
        )
