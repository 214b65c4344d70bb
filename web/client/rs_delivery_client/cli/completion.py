"""Completion at a shell: ids of deliveries, from the service, else as they were told last.

It runs at each press of a key, so it waits for the service no longer than a moment, and imports
none of what other commands ask it with.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem, get_completion_class

from rs_delivery_client.cli.ends import printable
from rs_delivery_client.cli.place import Given, Place, Where

PATIENCE = 0.3  # seconds
_TIMEOUT = 60.0  # of an answer that is waited for no longer
_MOST = 100  # ids
_SHELLS = ("bash", "zsh", "fish")
# bash puts what it is offered on the line as it is, and clients choose their ids: `$(…)` would run.
_WORD = re.compile(r"[A-Za-z0-9_.:@%+=/][A-Za-z0-9_.:@%+=/-]*")

Entry = tuple[str, str]  # an id, and what it is
Ask = Callable[[Place, str], list[Entry]]


class DeliveryId(click.ParamType):
    """The correlation id of a delivery."""

    name = "text"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return those that begin so, with what each is; none that a shell would run."""
        try:
            place = _where(ctx).place()
        except click.ClickException:
            return []
        found = known(place, incomplete, patience=PATIENCE)
        return [CompletionItem(name, help=what) for name, what in found if _WORD.fullmatch(name)]


DELIVERY_ID = DeliveryId()


def _where(ctx: click.Context) -> Where:
    def given(name: str) -> Given:
        source = ctx.get_parameter_source(name)
        value = ctx.params.get(name)
        return Given(value=value or None, in_call=source is ParameterSource.COMMANDLINE)

    return Where(url=given("url"), token=given("token"), profile=given("profile"))


def known(
    place: Place, begin: str, *, ask: Ask | None = None, patience: float = PATIENCE
) -> list[Entry]:
    """Return ids that begin so: of the service; where it takes longer, those of the last time."""
    answers: list[list[Entry]] = []

    def fetch() -> None:
        try:
            answers.append((ask or _asked)(place, begin))
        except Exception:  # noqa: BLE001 - a shell is told nothing of it: it goes without
            return

    # One that never answers ends with the program.
    thread = Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(patience)
    if answers:
        _keep(place, answers[0])
    found = answers[0] if answers else _kept(place)
    return [entry for entry in found if entry[0].startswith(begin)]


def _asked(place: Place, begin: str) -> list[Entry]:
    from urllib.request import HTTPRedirectHandler, Request, build_opener  # noqa: PLC0415

    class Stays(HTTPRedirectHandler):
        """Follows no redirection: the token is for one address."""

        def redirect_request(self, *_: Any) -> None:
            return None

    query = {"size": _MOST} | ({"text": begin} if begin else {})
    headers = {"Accept": "application/json"}
    headers |= {} if place.token is None else {"Authorization": f"Bearer {place.token}"}
    address = f"{place.url.rstrip('/')}/deliveries?{urlencode(query)}"
    request = Request(address, headers=headers)  # noqa: S310 - the scheme was looked at
    with build_opener(Stays).open(request, timeout=_TIMEOUT) as answer:
        return [_entry(body) for body in json.loads(answer.read())["content"]]


def _entry(body: Mapping[str, Any]) -> Entry:
    labels = ", ".join(map(str, body.get("labels") or ()))
    what = " ".join(filter(None, (str(body.get("state", "")), labels)))
    return printable(str(body["correlationId"])), printable(what)


def _cache(place: Place) -> Path:
    """Return where ids are kept: by service and token, as each sees others'."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(f"{place.url}\0{place.token}".encode()).hexdigest()[:32]
    return Path(base) / "rs-delivery" / f"ids-{name}.json"


def _keep(place: Place, found: Sequence[Entry]) -> None:
    try:
        path = _cache(place)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(found, file)
        Path(name).replace(path)
    except (OSError, RuntimeError):  # it is only quicker with it
        return


def _kept(place: Place) -> list[Entry]:
    try:
        content = json.loads(_cache(place).read_bytes())
        return [(str(name), str(what)) for name, what in content]
    except (OSError, RuntimeError, ValueError, TypeError):
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
