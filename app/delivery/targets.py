"""Where archives are put, and what is found there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Protocol, Self
from urllib.parse import unquote

from pydantic import BaseModel

from app.errors import TargetUnavailableError
from app.settings import Settings

DEFAULT_TARGET = "regards-s3-minio"  # what requests without a target mean


class Target(Protocol):
    """A place that archives are put on. What it is made of is its store's business.

    Equal ones are the same place, asked for with the same credentials; `str` names it to people,
    and tells no secret.
    """

    @property
    def kind(self) -> str:
        """The kind of its store, as in `TargetKinds`."""

    @property
    def endpoint(self) -> str:
        """Where its store is reached, as people write it; a URL."""

    @property
    def namespace(self) -> str:
        """Where URLs of objects are names of one object each: `url_of` there is no other's.

        The same for all who share it, whatever credentials and containers they have: locks on
        objects go by it. A server's host and port, or whatever else its store knows it by.
        """

    @property
    def container(self) -> str:
        """What holds its objects; keys are unique in it."""

    @property
    def prefix(self) -> str:
        """What all of its keys begin with; ends with / unless empty."""

    @property
    def leftovers(self) -> str:
        """What ends uploads that were left open there, in words for an operator."""

    @property
    def opened_with(self) -> Mapping[str, str]:
        """How an upload is to be kept, as it is said when it is opened, and holds to its end."""

    def url_of(self, key: str) -> str:
        """Return what clients call the object with this key."""

    def noted(self) -> dict[str, Any]:
        """Return it as JSON, to be kept sealed: its secrets are in it. `TargetKinds` reads it."""

    def __hash__(self) -> int: ...


def same_place(one: Target, other: Target) -> bool:
    """Whether two are one place, be it asked for with other credentials."""
    return (one.kind, one.namespace, one.container) == (
        other.kind,
        other.namespace,
        other.container,
    )


def key_at(target: Target, url: str) -> str | None:
    """Return the key of the object that is called so at a target: what `Target.url_of` undoes.

    None where the URL is not of that place. Some kinds escape keys in URLs, and some don't.
    """
    place = f"{target.url_of('').rstrip('/')}/"
    if not url.startswith(place):
        return None
    rest = url.removeprefix(place)
    return next((key for key in (rest, unquote(rest)) if key and target.url_of(key) == url), None)


class TargetKind(Protocol):
    """A kind of store, as far as its targets go."""

    @property
    def kind(self) -> str:
        """What it is called where targets are kept."""

    def read(self, noted: Mapping[str, Any]) -> Target:
        """Read what this or another version noted: `Target.noted`."""

    @property
    def settings(self) -> type[BaseModel]:
        """What an entry of the tenants' setting `delivery_targets` must be.

        With the field `type`, which names the kind; the first kind may do without. What is called
        `secret` there is masked, sealed, and kept for the server whose `scheme`, `host` and `port`
        stand beside it; where no host does, for all that stands there.
        """

    def configured(self, place: Mapping[str, Any]) -> Target:
        """Return what such an entry means.

        The first kind is given the default target like that, too, with fields left out.
        """

    def flaw_of(self, place: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:
        """Return why the operator does not allow such an entry; None where it may be set.

        As the path of the field that is at fault, and what is wrong with it and to be done. What
        can be known of a place only when it is used is its store's to refuse.
        """


class TargetKinds:
    """The kinds of stores that archives can be put on. What names no kind is of the first one.

    What tenants set names it as `type`, what is noted of a target as `kind`.
    """

    def __init__(self, default: TargetKind, *others: TargetKind) -> None:
        self._default = default
        self._kinds = {kind.kind: kind for kind in (default, *others)}

    def read(self, noted: Mapping[str, Any]) -> Target:
        """Read a target that was noted. Raises TargetUnavailableError: another version's kind."""
        return self._called(self._named(noted, "kind")).read(noted)

    def configured(self, place: Mapping[str, Any]) -> Target:
        """Return the target that a tenant has set. Raises like `read`."""
        return self._called(self.type_of(place)).configured(place)

    def flaw_of(self, place: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:
        """Return why the operator does not allow a target. Raises like `read`."""
        return self._called(self.type_of(place)).flaw_of(place, settings)

    def settings(self) -> dict[str, type[BaseModel]]:
        """Return what an entry of `delivery_targets` must be, by its kind."""
        return {name: kind.settings for name, kind in self._kinds.items()}

    def type_of(self, place: Any) -> str | None:
        """Return the kind that a tenant has set a target of; None where this is no such entry."""
        return self._named(place, "type")

    def _named(self, described: Any, name: str) -> str | None:
        kind = described.get(name, self._default.kind) if isinstance(described, Mapping) else None
        return kind if isinstance(kind, str) else None

    def _called(self, kind: str | None) -> TargetKind:
        if kind not in self._kinds:
            raise TargetUnavailableError(
                f"this version knows no store of the kind {kind!r}: finish the upgrade"
            )
        return self._kinds[kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """What is kept as JSON: another version may have written it."""

    @classmethod
    def read(cls, noted: Mapping[str, Any]) -> Self:
        """Read what this or another version noted: fields that are not known here are left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in noted.items() if name in known})


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetCheck:
    """What one step of trying a target has found."""

    check: str  # the step, or the right, in a word for people
    flaw: str = ""  # why it failed, without a secret; empty: it went well
    note: str = ""  # what is to be known of it, though it went well

    @property
    def ok(self) -> bool:
        """Whether it went well."""
        return not self.flaw

    @property
    def message(self) -> str:
        """What is told of it."""
        return self.flaw or self.note or "yes"


# Tries a target; the first step that fails may end it.
Probe = Callable[[Target], Awaitable[list[TargetCheck]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetTrouble:
    """A server of targets does not answer this process: nothing new is sent there."""

    kind: str  # of server, in a word for people
    server: str  # as people know it; with /container, if only that one is answered with errors
    cause: str  # what was met last, before it was left alone
    since: datetime
    asked_again: datetime  # when the next probe is due

    def until(self, asked_again: datetime) -> TargetTrouble:
        """Return the same with another time of the next probe."""
        return replace(self, asked_again=asked_again)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocked:
    """Whose transfers are not to be claimed now."""

    tenants: tuple[str, ...] = ()
    spared: tuple[tuple[str, str], ...] = ()  # of those tenants: tenant and name of a target
