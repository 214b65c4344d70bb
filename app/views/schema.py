"""How far the schema of the database is, beside what programs know that run: all say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import Field

from app.views.deliveries import WorkerSeen
from app.views.view import Seconds, View


class Standing(StrEnum):
    """What the database is, to a program."""

    SAME = "same"  # at the newest migration that it knows
    OLDER = "older"  # it lacks some that the program knows
    NEWER = "newer"  # a later version has migrated it


@dataclass(frozen=True, kw_only=True, slots=True)
class Migration:
    """A migration that is applied."""

    number: int
    name: str
    applied_at: datetime  # by the database's clock


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What is in the database, and what is not."""

    known: int  # the newest migration of this program
    count: int  # of its migrations
    newest: int  # the newest that is applied, of whatever version; 0 if there is none
    missing: Sequence[int]  # of this program's, those that are not applied, in order

    @property
    def is_newer(self) -> bool:
        """Whether a newer version than this one has migrated it."""
        return self.newest > self.known

    @property
    def standing(self) -> Standing:
        """What it is to this program."""
        if self.is_newer:
            return Standing.NEWER
        return Standing.OLDER if self.missing else Standing.SAME

    @property
    def sentence(self) -> str:
        """Say how far it is."""
        match self.standing:
            case Standing.NEWER:
                return (
                    f"the database is at migration {self.newest}, this program knows {self.known}"
                )
            case Standing.OLDER:
                return f"the database lacks {self._missing} of this program"
        return f"the database is at migration {self.newest}, the newest that this program knows"

    @property
    def advice(self) -> str | None:
        """Say what to do; None: nothing."""
        match self.standing:
            case Standing.NEWER:
                return "finish the upgrade: use the newer version that migrated it"
            case Standing.OLDER:
                return (
                    "run `delivery migrate` as the role that owns the tables (a worker that starts "
                    "does it, too, where DELIVERY_MIGRATE_AT_START and its role allow it)"
                )
        return None

    def behind(self) -> str:
        """Say what is missing, and what to do, to one whose program can't go on so."""
        return (
            f"the database lacks {self._missing} of this program: run "
            "`delivery migrate`, as the role that owns the tables"
        )

    @property
    def _missing(self) -> str:
        one = len(self.missing) == 1
        return f"migration{'' if one else 's'} {', '.join(map(str, self.missing))}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaSeen:
    """The same, with all that is applied."""

    schema: Schema
    applied: Sequence[Migration]  # in order

    def known_to(self, worker: WorkerSeen, *, version: str) -> int:
        """Return the newest migration that a worker knows; `version` is that of this program.

        One of this version knows what this program does. Another tells only when it started: it
        does not start before all that it knows is applied, nor where there is more.
        """
        if worker.version == version:
            return self.schema.known
        before = [each.number for each in self.applied if each.applied_at <= worker.started_at]
        return max(before, default=0)


LookAtSchema = Callable[[], Awaitable[SchemaSeen]]


class MigrationView(View):
    """A migration that is applied."""

    number: int
    name: str
    applied_at: Seconds


class WorkersKnowView(View):
    """Workers of one version, and what they know."""

    version: str
    workers: int
    known: int = Field(
        description="The newest migration that they know: of another version than `version`, the "
        "newest that was applied when they started."
    )
    standing: Standing = Field(description="What the database is to them.")
    sentence: str


class SchemaView(View):
    """How far the schema of the database is, beside what programs know that run."""

    version: str = Field(description="Of the process that answers.")
    known: int = Field(description="The newest migration that it knows.")
    count: int = Field(description="How many it knows.")
    newest: int = Field(description="The newest that is applied, of whatever version.")
    standing: Standing = Field(
        description="What the database is to it: `newer` where a later version has migrated it, "
        "`older` where it lacks a migration."
    )
    sentence: str
    advice: str | None = None
    missing: list[int] | None = Field(None, description="That it knows, and that are not applied.")
    applied: list[MigrationView] = Field(description="The newest first.")
    workers: list[WorkersKnowView] = Field(description="Those that are there, by version.")

    @classmethod
    def of(cls, seen: SchemaSeen, workers: Sequence[WorkerSeen], *, version: str) -> Self:
        """Show it; `workers` are all that there are, `version` is that of this process."""
        schema = seen.schema
        known = Counter(
            (worker.version, seen.known_to(worker, version=version))
            for worker in workers
            if worker.alive
        )
        return cls(
            version=version,
            known=schema.known,
            count=schema.count,
            newest=schema.newest,
            standing=schema.standing,
            sentence=schema.sentence,
            advice=schema.advice,
            missing=list(schema.missing) or None,
            applied=[
                MigrationView(number=each.number, name=each.name, applied_at=each.applied_at)
                for each in reversed(seen.applied)
            ],
            workers=[
                _workers_know(schema, of, number, count)
                for (of, number), count in sorted(known.items())
            ],
        )


def _workers_know(schema: Schema, version: str, known: int, workers: int) -> WorkersKnowView:
    who = f"{workers} {'worker' if workers == 1 else 'workers'} of {version}"
    knows = f"{who} {'knows' if workers == 1 else 'know'}"
    standing = schema.standing
    if standing is not Standing.OLDER or known != schema.known:
        standing = Standing.NEWER if schema.newest > known else Standing.SAME
    match standing:
        case Standing.NEWER:
            sentence = f"{knows} migration {known}: the database is newer"
        case Standing.OLDER:
            sentence = f"{knows} migration {known}: the database is older"
        case Standing.SAME:
            sentence = f"{knows} migration {known}, as the database"
    return WorkersKnowView(
        version=version, workers=workers, known=known, standing=standing, sentence=sentence
    )
