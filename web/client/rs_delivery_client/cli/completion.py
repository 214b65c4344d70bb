"""Completion at a shell: ids and names, from the service, else as they were told last.

It runs at each press of a key, so it waits for the service no longer than a moment, and imports
none of what other commands ask it with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem, get_completion_class

from rs_delivery_client.cli import cache
from rs_delivery_client.cli.ends import printable
from rs_delivery_client.cli.place import Given, Place, Where

PATIENCE = 0.3  # seconds
_TIMEOUT = 60.0  # of an answer that is waited for no longer
_MOST = 100  # names
_SHELLS = ("bash", "zsh", "fish")
# bash puts what it is offered on the line as it is, and clients choose their ids: `$(…)` would run.
_WORD = re.compile(r"[A-Za-z0-9_.:@%+=/][A-Za-z0-9_.:@%+=/-]*")

Entry = tuple[str, str]  # a name, and what it is
Body = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is called by a name: where the service lists it, and what is told of each."""

    name: str
    path: str
    entry: Callable[[Body], Entry]
    query: Mapping[str, str | int] = field(default_factory=dict)
    searched: str | None = None  # the parameter that the service searches by


Ask = Callable[[Place, str], list[Entry]]


class Name(click.ParamType):
    """A name that the service knows."""

    name = "text"

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return those that begin so, with what each is; none that a shell would run."""
        where = _where(ctx)
        found = known(where.place, incomplete, kind=self._kind, patience=PATIENCE)
        return [CompletionItem(name, help=what) for name, what in found if _WORD.fullmatch(name)]


def _delivery(body: Body) -> Entry:
    labels = ", ".join(map(str, body.get("labels") or ()))
    what = " ".join(filter(None, (str(body.get("state", "")), labels)))
    return str(body["correlationId"]), what


def _worker(body: Body) -> Entry:
    running = f"{body.get('running', 0)} of {body.get('slots', 0)}"
    return str(body["id"]), running if body.get("alive") else "silent"


def _letter(body: Body) -> Entry:
    return str(body["id"]), str(body.get("reason", ""))


def _setting(body: Body) -> Entry:
    return str(body["content"]["name"]), str(body["content"].get("description", ""))


DELIVERIES = Kind(
    name="ids",
    path="/deliveries",
    entry=_delivery,
    query={"size": _MOST},
    searched="text",
)
DELIVERY_ID = Name(DELIVERIES)
WORKER = Name(Kind(name="workers", path="/workers", entry=_worker))
TARGET = Name(
    Kind(
        name="targets",
        path="/targets",
        entry=lambda body: (str(body["name"]), str(body.get("state", ""))),
    )
)
LETTER_ID = Name(Kind(name="letters", path="/dead-letters", entry=_letter, query={"size": _MOST}))
SETTING = Name(Kind(name="settings", path="/settings", entry=_setting))


def _where(ctx: click.Context) -> Where:
    def given(name: str) -> Given:
        source = ctx.get_parameter_source(name)
        value = ctx.params.get(name)
        return Given(value=value or None, in_call=source is ParameterSource.COMMANDLINE)

    return Where(url=given("url"), token=given("token"), profile=given("profile"))


def known(
    where: Callable[[], Place],
    begin: str,
    *,
    kind: Kind = DELIVERIES,
    ask: Ask | None = None,
    patience: float = PATIENCE,
) -> list[Entry]:
    """Return names that begin so: of the service; where it takes longer, those of the last time.

    `where` tells where the service is, within the same time: a keyring may be slow. None are known
    before it has.
    """
    places: list[Place] = []
    answers: list[list[Entry]] = []

    def fetch() -> None:
        try:
            places.append(where())
            answers.append(
                ask(places[0], begin) if ask is not None else _asked(places[0], kind, begin)
            )
        except Exception:  # noqa: BLE001 - a shell is told nothing of it: it goes without
            return

    # One that never answers ends with the program.
    thread = Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(patience)
    if not places:
        return []
    if answers:
        cache.keep(places[0], kind.name, answers[0])
    found = answers[0] if answers else _kept(places[0], kind)
    return [entry for entry in found if entry[0].startswith(begin)]


def _asked(place: Place, kind: Kind, begin: str) -> list[Entry]:
    from urllib.request import HTTPRedirectHandler, Request, build_opener  # noqa: PLC0415

    class Stays(HTTPRedirectHandler):
        """Follows no redirection: the token is for one address."""

        def redirect_request(self, *_: Any) -> None:
            return None

    query = dict(kind.query)
    if kind.searched is not None and begin:
        query[kind.searched] = begin
    headers = {"Accept": "application/json"}
    headers |= {} if place.token is None else {"Authorization": f"Bearer {place.token}"}
    address = f"{place.url.rstrip('/')}{kind.path}?{urlencode(query)}"
    request = Request(address, headers=headers)  # noqa: S310 - the scheme was looked at
    with build_opener(Stays).open(request, timeout=_TIMEOUT) as answer:
        found = json.loads(answer.read())
    bodies = found if isinstance(found, list) else found["content"]
    return [(printable(name), printable(what)) for name, what in map(kind.entry, bodies)]


def _kept(place: Place, kind: Kind) -> list[Entry]:
    try:
        return [(str(name), str(what)) for name, what in cache.read(place, kind.name) or ()]
    except (ValueError, TypeError):
        return []


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print what a shell needs to complete commands, options and ids.

    For bash: eval "$(rs-delivery completion bash)".
    """
    root = click.get_current_context().find_root()
    name = root.info_name or "rs-delivery"
    variable = f"_{name}_COMPLETE".replace("-", "_").upper()
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these
    click.echo(kind(root.command, {}, name, variable).source())
