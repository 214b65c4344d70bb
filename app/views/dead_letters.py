"""Dead letters as operators see them: AMQP messages and events alike, and where they are kept.

What is buried lies in RabbitMQ's dead-letter queues, or on Kafka's dead-letter topic: its copy.
Beside it a row is kept in the database, by which it is looked for, mended, put back and removed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Protocol, Self

from pydantic import ConfigDict, Field

from app.audit import Actor, AuditRecord
from app.errors import as_cause
from app.views.view import Moment, Query, Text, Time, View

DEAD_LETTERS_JOB = "dead letters"  # putting back and sweeping, by one process at a time
MAX_KEPT_BODY = 4 * 1024 * 1024  # bytes; of a larger one only its beginning is in the row
_BEGINNING = 2000  # characters of a body that a list shows
BEGINNING_BYTES = 4 * _BEGINNING
# Bytes of longer bodies that are kept, of a tenant in one place, and of all in it. Of what comes
# beyond that, the row has the beginning: its copy is whole, and PostgreSQL's disk is everyone's.
MAX_KEPT_OF_TENANT = 64 * 1024 * 1024
MAX_KEPT_OF_PLACE = 256 * 1024 * 1024
_MAX_NAME = 255  # characters of what strangers name


def name_kept(name: str | None) -> str | None:
    """Return a name as a row has it that strangers gave."""
    return None if name is None else as_cause(name)[:_MAX_NAME]


class LetterKind(StrEnum):
    """What was buried."""

    AMQP = "AMQP"  # a message that could not be answered
    EVENT = "EVENT"  # an event that no agent could handle


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A message that could not be answered, or an event that no agent could handle."""

    id: str  # of what it is and where: the same for each copy, at each look; `amqp:…`, `event:…`
    place: str  # the dead-letter queue, or the topic it was in
    tenant: str | None  # where it can be read
    correlation_id: str | None
    at: datetime | None  # as the message says; of an event, when it was buried
    size: int  # bytes
    reason: str
    text: str  # its beginning, as text


@dataclass(frozen=True, kw_only=True, slots=True)
class BuriedLetter:
    """What is kept of a message or an event, so that it can be put back as it was."""

    id: str
    kind: LetterKind
    place: str
    origin: str | None  # the queue or topic that it goes back to; None: nothing says so
    tenant: str | None
    ours: bool  # else another service's: the instance's administrators alone see it
    correlation_id: str | None
    reason: str
    at: datetime | None
    size: int  # bytes of the body
    # Up to MAX_KEPT_BODY; its beginning, where a list was asked for, or too much is kept already.
    body: bytes
    key: bytes | None = None  # of an event
    # Of a message, as AMQP has them; None: the driver could not write them again.
    properties: bytes | None = None
    copies: tuple[str, ...] = ()  # of an event: where it is on the topic

    @property
    def text(self) -> str:
        """Its beginning, as text."""
        return self.body[:BEGINNING_BYTES].decode(errors="replace")[:_BEGINNING]

    @property
    def shown(self) -> DeadLetter:
        """The letter, as it is listed and audited."""
        return DeadLetter(
            id=self.id,
            place=self.place,
            tenant=self.tenant,
            correlation_id=self.correlation_id,
            at=self.at,
            size=self.size,
            reason=self.reason,
            text=self.text,
        )

    @property
    def is_whole(self) -> bool:
        """Whether the body is here, to its end."""
        return len(self.body) == self.size


@dataclass(frozen=True, kw_only=True, slots=True)
class Mend:
    """What takes the place of a body, and of the tenant, when a letter is put back."""

    body: bytes | None  # None: as it came
    tenant: str | None  # in the header of a message; None: as it came
    by: str
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptLetter:
    """A dead letter, as the database has it."""

    number: int  # in the order in which they were kept; a new one when it is buried again
    letter: BuriedLetter
    buried_at: datetime  # lately
    mend: Mend | None = None
    # The body is in the database to its end, also where this has its beginning.
    is_whole: bool = True
    # Of a message, in words; the desk reads them where one letter is asked for.
    headers: Mapping[str, str] | None = None

    @property
    def version(self) -> str:
        """What differs once it was mended, or buried again."""
        if self.mend is None:
            return str(self.number)
        return f"{self.number}-{self.mend.at.astimezone(UTC):%Y%m%dT%H%M%S%f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Handled:
    """What became of letters that were to be put back, or removed."""

    where: dict[str, str]  # by id: the queue or topic it went to, or the place it was removed from
    failed: dict[str, str]  # by id: why it waits on


@dataclass(frozen=True, kw_only=True, slots=True)
class HandledLetter:
    """A letter that was put back or removed, whose copies may still be there."""

    id: str
    key: bytes | None
    held: int  # copies that may be in the dead-letter queue again
    since: float  # seconds since it was handled
    copies: tuple[str, ...]  # on the dead-letter topic


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyMark:
    """A copy on the dead-letter topic that was put back, or removed for good."""

    copy: str  # partition:offset
    # Another letter may have had that place, on a topic of the same name that is gone; None: an
    # earlier version does not say whose it is.
    letter_id: str | None

    def is_of(self, letter_id: str) -> bool:
        """Whether it may be a copy of this letter."""
        return self.letter_id in (None, letter_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class LettersWaiting:
    """Letters of a tenant that wait in one place."""

    place: str
    tenant: str | None  # None: of none that is told
    letters: int
    oldest: float  # seconds since the first of them was buried


class DeadLetterFilter(Query):
    """Which dead letters are looked for; None is any.

    The parameters of `GET /dead-letters`, their checks, and arguments of two statements. A name
    that is unknown is refused: a body says by it what is removed, and a typo would mean all.
    """

    model_config = ConfigDict(extra="forbid")

    tenant: Text = Field(None, description="Only of this tenant; of one's own, for most.")
    place: Text = Field(None, description="Only where the queue's or topic's name holds this.")
    reason: Text = Field(None, description="Only where the reason holds this.")
    correlation_id: Text = Field(
        None, alias="correlationId", description="Only of this correlation id."
    )
    since: Time = Field(None, description="Buried then or later.")
    until: Time = Field(None, description="Buried earlier.")
    mended: Literal["true", "false"] | None = Field(
        None, description="Only those that are mended, or are not."
    )

    def arguments(self) -> dict[str, Any]:
        """Return the fields, by the names that the statement has for them; none of a subclass."""
        asked = {name: getattr(self, name) for name in DeadLetterFilter.model_fields}
        return asked | {"mended": None if self.mended is None else self.mended == "true"}


class DeadLetterView(View):
    """A message that could not be answered, or an event that no agent could handle."""

    id: str
    place: str
    tenant: str | None = None
    correlation_id: str | None = None
    at: Moment | None = None
    bytes: int
    reason: str
    text: str
    goes_to: str | None = Field(None, description="The queue or topic that it is put back into.")
    buried_at: Moment
    mended_at: Moment | None = None
    mended_by: str | None = None

    @classmethod
    def of(cls, kept: KeptLetter, **more: Any) -> Self:
        """Show a letter, with `more` fields than are listed."""
        letter, mend = kept.letter, kept.mend
        return cls(
            id=letter.id,
            place=letter.place,
            tenant=letter.tenant,
            correlation_id=letter.correlation_id,
            at=letter.at,
            bytes=letter.size,
            reason=letter.reason,
            text=letter.text,
            goes_to=letter.origin,
            buried_at=kept.buried_at,
            mended_at=mend.at if mend else None,
            mended_by=mend.by if mend else None,
            **more,
        )


class BodyView(View):
    """Bytes as they are; as text where they are UTF-8."""

    text: str | None = None
    base64: str | None = None

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Show a body."""
        try:
            return cls(text=content.decode())
        except UnicodeDecodeError:
            return cls(base64=base64.b64encode(content).decode())


class WholeDeadLetterView(DeadLetterView):
    """A letter with its body."""

    came: BodyView = Field(
        alias="body", description="As it came; of a very large one, the beginning."
    )
    mended_body: BodyView | None = Field(None, description="What goes back in its place.")
    mended_tenant: str | None = None
    headers: dict[str, str] | None = Field(None, description="Of a message, in words.")

    @classmethod
    def whole(cls, kept: KeptLetter) -> Self:
        """Show all of a letter."""
        mend = kept.mend
        return cls.of(
            kept,
            came=BodyView.of(kept.letter.body),
            mended_body=BodyView.of(mend.body) if mend and mend.body is not None else None,
            mended_tenant=mend.tenant if mend else None,
            headers=None if kept.headers is None else dict(kept.headers),
        )


class DeadLetterTable(Protocol):
    """Where letters are kept. Every call is one transaction. Raises StoreUnavailableError.

    `tenant` is whose letters may be seen; None: all, those of no tenant among them.
    """

    async def keep(self, letters: Sequence[BuriedLetter], *, again: bool) -> None:
        """Keep letters; one that is there already stays as it is, with all its copies.

        Of long bodies, the beginning alone once more of them than MAX_KEPT_OF_TENANT or
        MAX_KEPT_OF_PLACE would be kept (or a little more, where several are kept at once).

        `again`: they were buried just now. One that was handled waits again then, unmended; and so
        does an event with a copy on the topic that it did not have when it was handled.
        """

    async def browse(
        self, tenant: str | None, wanted: DeadLetterFilter, *, after: int, limit: int
    ) -> list[KeptLetter]:
        """Return letters that wait, the first buried first: those with numbers above `after`.

        Of their bodies, the beginning.
        """

    async def count(self, tenant: str | None, wanted: DeadLetterFilter, *, after: int = 0) -> int:
        """Return how many of them wait: those with numbers above `after`."""

    async def one(self, tenant: str | None, letter_id: str) -> KeptLetter | None:
        """Return a letter that waits, with its body; None if there is none."""

    async def several(self, tenant: str | None, ids: Sequence[str]) -> list[KeptLetter]:
        """Return those of some letters that wait, in the order of their numbers. As `browse`."""

    async def mend(
        self, letter_id: str, mend: Mend, *, done: AuditRecord, seen: KeptLetter | None = None
    ) -> bool:
        """Note how a letter is mended, and by whom; False when it does not wait any more.

        With `seen`, also when its version is another than it had then.
        """

    def settling(
        self, letter_id: str, *, held: int, done: AuditRecord
    ) -> AbstractAsyncContextManager[KeptLetter | None]:
        """Give a letter that waits, locked; when the block ends, it is handled, and that noted.

        Unless the block raises. None when it does not wait any more. `held` of its copies are about
        to be taken from the dead-letter queue; until `settled`, it is known that they were handled.
        """

    async def settled(self, ids: Sequence[str]) -> None:
        """Forget letters that were handled: their copies are gone."""

    async def discard(self, ids: Sequence[str]) -> None:
        """Note that a copy of each of some letters is gone by another way: they wait no more.

        The next look through their queue forgets them, or has them wait where it finds another.
        """

    async def handled(self, place: str | None = None) -> list[HandledLetter]:
        """Return letters that are handled and not settled: of one place, or events for None."""

    async def marked(self, marks: Sequence[CopyMark]) -> None:
        """Note copies of events that another way has put back; forget events that have no other."""

    async def forget_copies(self, partitions: Sequence[int]) -> None:
        """Note that what was in some partitions of the dead-letter topic is gone; letters stay."""

    async def known(self, ids: Sequence[str]) -> Mapping[str, bool]:
        """Return those that there are, and of each whether it is handled."""

    async def rows(self, place: str) -> int:
        """Return how many letters of a place there are, handled ones among them."""

    async def seen(self) -> Mapping[str, int]:
        """Return how far the copies in each place were looked through, as `saw` was told."""

    async def saw(self, ends: Mapping[str, int]) -> None:
        """Note how far the copies in some places were looked through, for all processes."""

    async def waiting(self, tenants: Sequence[str]) -> list[LettersWaiting]:
        """Return how many wait, by place and tenant: those of all others together."""


class DeadLetterDesk(Protocol):
    """Where letters are looked for, mended, put back and removed, at the brokers, too.

    `whose` is the tenant whose letters may be touched; None: all. Raises DeliveryError.
    """

    async def browse(
        self, whose: str | None, wanted: DeadLetterFilter, *, after: int, limit: int
    ) -> list[KeptLetter]:
        """Return letters that wait, the first buried first, with the beginning of their bodies."""

    async def count(self, whose: str | None, wanted: DeadLetterFilter, *, after: int = 0) -> int:
        """Return how many of them wait."""

    async def one(self, whose: str | None, letter_id: str) -> KeptLetter:
        """Return a letter with its body. Raises UnknownDeadLetterError."""

    async def several(self, whose: str | None, ids: Sequence[str]) -> list[KeptLetter]:
        """Return letters as `browse` does. Raises UnknownDeadLetterError unless all are there."""

    async def mend(
        self,
        actor: Actor,
        whose: str | None,
        letter_id: str,
        *,
        body: bytes | None,
        tenant: str | None = None,
        forced: bool = False,
        versions: Sequence[str] | None = None,
    ) -> KeptLetter:
        """Put another body, or tenant, in the place of a letter's own, for when it is put back.

        Raises InvalidRequestError where it would be refused again, unless that is `forced`;
        DeadLetterChangedError where its version is none of `versions` (None: any will do).
        """

    async def requeue(self, actor: Actor, whose: str | None, ids: Sequence[str]) -> Handled:
        """Put letters back where they were; all of them are there, or nothing is done.

        Raises NotPossibleError where the one that was asked for can't go; of several, that is told.
        """

    async def remove(self, actor: Actor, whose: str | None, ids: Sequence[str]) -> Handled:
        """Forget letters for good; all of them are there, or nothing is done."""
