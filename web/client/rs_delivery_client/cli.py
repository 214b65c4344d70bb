"""The command `rs-delivery`; `delivery verify` and `delivery download` are its commands, too.

Exit codes: 0 all went well, 1 what was checked has flaws or what was asked for failed, 2 a mistake
in the call, 3 it could not be checked (no manifest, a link that has run out, nothing there), 69
something that it needs does not answer (start it again: it goes on where it was).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from rs_delivery_client import __version__
from rs_delivery_client.client import DeliveryClient
from rs_delivery_client.errors import (
    ClientError,
    ContentError,
    ManifestError,
    NotCheckedError,
    NotReachableError,
    NotSignedInError,
    ServiceError,
)
from rs_delivery_client.flaws import Flaw, Report
from rs_delivery_client.manifest import digest
from rs_delivery_client.models import Delivery
from rs_delivery_client.pauses import Pauses
from rs_delivery_client.verify import Progress, verify_delivery
from rs_delivery_client.verify import verify as check

EXIT_FAILED = 1
EXIT_NOT_CHECKED = 3
EXIT_UNAVAILABLE = 69

T = TypeVar("T")


class _Ended(click.ClickException):
    """How a command ended, if not well."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code
        self._program = click.get_current_context().find_root().info_name

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it in a sentence, after the name of the program."""
        click.echo(f"{self._program}: {printable(self.message)}", file=file or sys.stderr)


def _run(work: Awaitable[T]) -> T:
    async def main() -> T:
        return await work

    try:
        return asyncio.run(main())
    except ClientError as error:
        raise _ended(error) from None


def _ended(error: ClientError) -> _Ended:
    code = EXIT_FAILED
    if isinstance(error, NotReachableError):
        code = EXIT_UNAVAILABLE
    elif isinstance(error, NotSignedInError):
        return _Ended(f"{error}; give it by --token, or DELIVERY_TOKEN", EXIT_NOT_CHECKED)
    elif isinstance(error, ManifestError | NotCheckedError | ContentError | ServiceError):
        code = EXIT_NOT_CHECKED
    return _Ended(str(error), code)


def printable(text: str) -> str:
    """Keep what a stranger named from driving the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


class _Bar:
    """A bar on a terminal; see `Progress`."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, total: int | None) -> None:
        """Begin, or begin again."""
        if self._task is None:
            self._task = self._bars.add_task("", total=total)
        else:
            self._bars.reset(self._task, total=total)

    def advance(self, count: int) -> None:
        """Go on."""
        if self._task is not None:
            self._bars.advance(self._task, count)


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Progress | None]:
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Bar(bars)


def _teller(*, as_json: bool) -> Callable[[Flaw], None]:
    def tell(flaw: Flaw) -> None:
        if as_json:
            click.echo(json.dumps(flaw.body()))
        else:
            click.echo(printable(f"{flaw.kind}: {flaw}"))

    return tell


def _tell_end(report: Report, *, as_json: bool, **more: Any) -> None:
    """Say what a check came to. Raises _Ended when it found flaws."""
    if as_json:
        click.echo(json.dumps({**report.body(), **more}))
        if not report.ok:
            raise _Silent(EXIT_FAILED)
        return
    for note in report.notes:
        click.echo(printable(f"({note})"), err=True)
    if not report.ok:
        raise _Ended(str(report), EXIT_FAILED)
    click.echo(printable(str(report)))


class _Silent(_Ended):
    """All that is to be said was said."""

    def __init__(self, code: int) -> None:
        super().__init__("", code)

    def show(self, file: IO[Any] | None = None) -> None:
        """Say nothing."""


def _digest(name: str) -> Callable[..., str | None]:
    def read(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        try:
            return None if value is None else digest(value, name)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


_url = click.option("--url", envvar="DELIVERY_URL", help="Of the service. Or DELIVERY_URL.")
_token = click.option(
    "--token", envvar="DELIVERY_TOKEN", help="That the service knows you by. Or DELIVERY_TOKEN."
)
_json = click.option("--json", "as_json", is_flag=True, help="For scripts: a JSON object a line.")

_tries = click.option(
    "--tries",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="In a row, with pauses that grow, before it ends.",
)


def _client(url: str | None, token: str | None, tries: int) -> DeliveryClient:
    if not url:
        raise click.UsageError("say where the service is: --url, or DELIVERY_URL")
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url must begin with https:// or http://, not {url!r}")
    return DeliveryClient(url, token=token, pauses=Pauses(tries=tries))


@click.command()
@click.argument("target", required=False)
@click.option("--manifest", help="File or address of it; default: what lies beside TARGET.")
@click.option("--id", "correlation_id", help="Ask the service of --url about this delivery.")
@click.option("--md5", callback=_digest("md5"), help="Of the archive as a whole.")
@click.option("--sha256", callback=_digest("sha256"), help="Of the archive as a whole.")
@click.option("--size", type=click.IntRange(0), help="Of the archive as a whole, in bytes.")
@_url
@_token
@_tries
@_json
def verify(
    target: str | None,
    manifest: str | None,
    correlation_id: str | None,
    md5: str | None,
    sha256: str | None,
    size: int | None,
    url: str | None,
    token: str | None,
    tries: int,
    as_json: bool,
) -> None:
    """Check TARGET (an archive, its address, or a folder) against its manifest.

    Every file that is wrong, missing or too many is named. With --id, the manifest and the digest
    are the service's, and so is the archive, if no TARGET is given.
    """
    if target is None and correlation_id is None:
        raise click.UsageError("give what is to be checked, or --id")
    for named in (target, manifest):
        if named is not None and "://" not in named and not os.path.lexists(named):
            raise click.UsageError(f"there is no {printable(named)}")
    with _bar(quiet=as_json) as bar:
        told: dict[str, Any] = {
            "manifest": manifest,
            "md5": md5,
            "sha256": sha256,
            "size": size,
            "on_flaw": _teller(as_json=as_json),
            "progress": bar,
        }
        if correlation_id is None:
            assert target is not None  # noqa: S101 - else it was refused above
            report = _run(check(target, pauses=Pauses(tries=tries), **told))
        else:
            client = _client(url, token, tries)
            report = _run(_by_id(client, correlation_id, target, told))
    _tell_end(report, as_json=as_json)


async def _by_id(
    client: DeliveryClient, correlation_id: str, target: str | None, told: dict[str, Any]
) -> Report:
    async with client:
        return await verify_delivery(client, correlation_id, target, **told)


@click.command()
@click.argument("correlation_id", metavar="ID")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Folder to put it into.",
)
@click.option("--unpack", is_flag=True, help="Unpack the archive while it arrives.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Files at a time, where files were delivered as they are.",
)
@_url
@_token
@_tries
@_json
def download(
    correlation_id: str,
    to: Path,
    unpack: bool,
    parallel: int,
    url: str | None,
    token: str | None,
    tries: int,
    as_json: bool,
) -> None:
    """Fetch what was delivered for ID, and verify it; no key of its place is needed.

    What broke off is taken up by the next call.
    """
    client = _client(url, token, tries)
    with _bar(quiet=as_json) as bar:
        got = _run(
            _download(
                client,
                correlation_id,
                to,
                unpack=unpack,
                parallel=parallel,
                on_flaw=_teller(as_json=as_json),
                progress=bar,
            )
        )
    if not as_json:
        click.echo(printable(str(got.path)))
    _tell_end(got.report, as_json=as_json, path=str(got.path))


async def _download(client: DeliveryClient, correlation_id: str, to: Path, **options: Any) -> Any:
    async with client:
        return await client.download(correlation_id, to, **options)


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--priority", type=click.IntRange(1, 255), help="255 first.")
@click.option("--key", help="Names this request: sent again with it, it is the same delivery.")
@_url
@_token
@_tries
@_json
def submit(
    file: IO[bytes],
    priority: int | None,
    key: str | None,
    url: str | None,
    token: str | None,
    tries: int,
    as_json: bool,
) -> None:
    """Send the delivery request in FILE (JSON; - for standard input)."""
    try:
        request = json.loads(file.read())
    except ValueError as error:
        raise click.UsageError(f"{file.name} is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise click.UsageError(f"{file.name} holds no JSON object")
    client = _client(url, token, tries)

    async def send() -> Delivery:
        async with client:
            return await client.send(request, priority=priority, idempotency_key=key)

    delivery = _run(send())
    click.echo(json.dumps(dict(delivery.raw)) if as_json else printable(delivery.correlation_id))


@click.command()
@click.argument("correlation_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds.")
@_url
@_token
@_tries
@_json
def wait(
    correlation_id: str,
    timeout: float | None,
    url: str | None,
    token: str | None,
    tries: int,
    as_json: bool,
) -> None:
    """Wait until a delivery is done; exit code 1 when it ends in ERROR."""
    client = _client(url, token, tries)

    async def until() -> Delivery:
        async with client:
            return await client.wait(correlation_id, timeout=timeout)

    try:
        delivery = _run(until())
    except TimeoutError:
        says = f"{correlation_id} has not ended within {timeout:g} s; it goes on"
        raise _Ended(says, EXIT_FAILED) from None
    click.echo(json.dumps(dict(delivery.raw)) if as_json else printable(str(delivery.url)))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rs-delivery")
def cli() -> None:
    """Ask for a delivery, wait for it, fetch it, verify it."""


for command in (verify, download, submit, wait):
    cli.add_command(command)


def main() -> None:
    """Run the command."""
    cli.main(prog_name="rs-delivery")
