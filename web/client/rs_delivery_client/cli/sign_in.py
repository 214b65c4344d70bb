"""`rs-delivery login`, `logout`, `whoami`, `profiles`: who one is to which service."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rs_delivery_client.cli.ends import EXIT_NOT_SIGNED_IN, Ended, encoded, ended, printable, run
from rs_delivery_client.cli.place import Place, Where, checked_token, checked_url, place_option
from rs_delivery_client.cli.renewal import ends_at
from rs_delivery_client.cli.when import at, span
from rs_delivery_client.errors import ProfileError
from rs_delivery_client.profiles import DEFAULT_NAME, Profile, Profiles

if TYPE_CHECKING:
    from rs_delivery_client.models import Caller
    from rs_delivery_client.tokens import Renewed

_TRIES = 2  # the caller waits for it


@click.command()
@click.option("--url", envvar="DELIVERY_URL", help="Of the service; default: the profile's.")
@click.option(
    "--profile",
    "name",
    envvar="DELIVERY_PROFILE",
    help="Name to keep it under; default: the one that is used by default.",
)
@click.option("--with-token", is_flag=True, help="Read a token from standard input.")
@click.option("--device", is_flag=True, help="At the identity provider, in any browser, by a code.")
@click.option("--tenant", help="Of REGARDS; of those who administer all it is INSTANCE.")
@click.option("--user", help="Of REGARDS.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option(
    "--keyring/--no-keyring",
    default=None,
    help="Keep the token in the system's keyring, or in a file; default: where there is one.",
)
def login(
    url: str | None,
    name: str | None,
    with_token: bool,
    device: bool,
    tenant: str | None,
    user: str | None,
    password_stdin: bool,
    keyring: bool | None,
) -> None:
    """Sign in to a service, and keep what lets you in.

    With a token that you were given (--with-token), at the site's identity provider (--device), or
    with a user and a password of REGARDS. What is kept is used by other commands until it ends, and
    renewed where the provider lets it; it is never shown.
    """
    if sum((with_token, device, bool(user or tenant or password_stdin))) > 1:
        raise click.UsageError("give one of --with-token, --device, a user and a password")
    profiles = Profiles(tell=_tell)
    profile = _wanted(profiles, url, name)
    refresh = None
    if device:
        token, refresh = _by_device(profile.url)
    elif with_token:
        token = _from_input("the token")
    else:
        token = _by_password(profile.url, tenant, user, password_stdin)
    checked_token(token)
    who = run(_who(profile.url, token))
    try:
        kept = profiles.keep(
            Profile(name=profile.name, url=profile.url, token=token, refresh=refresh),
            keyring=keyring,
        )
    except ProfileError as error:
        raise ended(error) from None
    place = (
        "in the keyring" if kept.in_keyring else f"in {profiles.path}, which no other user reads"
    )
    click.echo(printable(f"signed in to {profile.url} as {_named(who)}{_until(token)}"))
    click.echo(printable(f"profile {kept.name}; the token is {place}"), err=True)


def _tell(said: str) -> None:
    click.echo(printable(said), err=True)


def _wanted(profiles: Profiles, url: str | None, name: str | None) -> Profile:
    """Return the profile to sign in to. Raises UsageError, Ended."""
    try:
        chosen = name or profiles.default or DEFAULT_NAME
        known = profiles.find(chosen)
        others = profiles.all()
    except ProfileError as error:
        raise ended(error) from None
    address = url or (known.url if known else None)
    if address is None:
        raise click.UsageError("say where the service is: --url, or DELIVERY_URL")
    checked_url(address)
    if name is None and known is not None and not known.is_of(address):
        kept = next((profile.name for profile in others if profile.is_of(address)), "NAME")
        raise click.UsageError(
            f"the default profile {chosen} is of {known.url}: add --profile {kept} to sign in to "
            f"{address} beside it, or --profile {chosen} to have that lead there"
        )
    return Profile(name=chosen, url=address)


def _from_input(what: str) -> str:
    given = sys.stdin.read().strip()
    if not given:
        raise click.UsageError(f"{what} is expected on standard input, and there is nothing")
    return given


def _by_password(url: str, tenant: str | None, user: str | None, from_input: bool) -> str:
    if not (from_input or sys.stdin.isatty()):
        raise click.UsageError(
            "there is no terminal to ask at: give a token on standard input, --with-token; or a "
            "password there, --tenant … --user … --password-stdin"
        )
    if from_input and not (user and tenant):
        raise click.UsageError("--password-stdin needs --tenant and --user")
    tenant = tenant or click.prompt("Tenant", err=True)
    user = user or click.prompt("User", err=True)
    password = (
        _from_input("the password")
        if from_input
        else click.prompt("Password", hide_input=True, err=True)
    )

    async def enter() -> str:
        async with Place(url=url).client(tries=_TRIES) as client:
            return await client.sign_in(tenant=tenant, user=user, password=password)

    try:
        return run(enter())
    except Ended as error:
        if error.exit_code == EXIT_NOT_SIGNED_IN:  # its advice is to do what failed just now
            raise Ended(error.message.partition("; sign in with ")[0], error.exit_code) from None
        raise


def _by_device(url: str) -> tuple[str, str | None]:
    from rs_delivery_client import device  # noqa: PLC0415 - help asks no service

    def tell(where: str, code: str) -> None:
        click.echo(printable(f"open {where} in a browser, and give the code {code}"), err=True)

    async def enter() -> Renewed:
        async with Place(url=url).client(tries=_TRIES) as client:
            provider = await client.provider()
            return await device.signed_in(client.links_session, provider, tell)

    given = run(enter())
    return given.token, given.refresh


async def _who(url: str, token: str | None) -> Caller:
    async with Place(url=url, token=token).client(tries=_TRIES) as client:
        return await client.me()


def _named(who: Caller) -> str:
    role = who.role if who.named_role is None else f"{who.named_role}, which is {who.role}"
    return f"{who.name} ({role}) of tenant {who.tenant}"


def _until(token: str | None) -> str:
    """Say how long a token holds, where it tells."""
    ends = ends_at(token)
    if ends is None:
        return ""
    left = (ends - datetime.now(UTC)).total_seconds()
    return f", for {span(left)}, until {at(ends)}"


@click.command()
@click.option("--profile", "name", envvar="DELIVERY_PROFILE", help="Default: the default one.")
def logout(name: str | None) -> None:
    """Forget what lets you in; the address stays known.

    The token itself holds until its end: a service forgets none.
    """
    profiles = Profiles(tell=_tell)
    try:
        profile = profiles.find(name)
        if profile is None:
            asked = "no profile is kept" if name is None else f"there is no profile {name!r}"
            raise Ended(f"{asked} in {profiles.path}", EXIT_NOT_SIGNED_IN)
        profiles.sign_out(profile)
    except ProfileError as error:
        raise ended(error) from None
    click.echo(printable(f"signed out of {profile.url} (profile {profile.name})"))


@click.command()
@place_option
@click.option("--json", "as_json", is_flag=True, help="For scripts: a JSON object.")
def whoami(where: Where, as_json: bool) -> None:
    """Tell who you are to the service, and for how long."""
    client = where.client()

    async def ask() -> Caller:
        async with client:
            return await client.me()

    who = run(ask())
    place = where.place()  # with the token that was had meanwhile, where one had ended
    if as_json:
        ends = ends_at(place.token)
        more: Mapping[str, Any] = {} if ends is None else {"tokenEnds": ends.isoformat()}
        click.echo(encoded({**who.raw, "url": place.url, **more}))
        return
    click.echo(printable(f"{_named(who)} at {place.url}{_until(place.token)}"))
    if who.correlation_id_prefix is not None:
        click.echo(printable(f"ids of your own begin with {who.correlation_id_prefix}"))


@click.command()
@click.option("--default", "name", help="Use this one where none is named.")
def profiles(name: str | None) -> None:
    """List the services that you have signed in to; choose one."""
    kept = Profiles(tell=_tell)
    try:
        if name is not None:
            kept.choose(name)
        default, found = kept.default, kept.all()
    except ProfileError as error:
        raise ended(error) from None
    if not found:
        click.echo("no profiles")
    for profile in found:
        held = profile.in_keyring or profile.token is not None
        mark = "*" if profile.name == default else " "
        click.echo(
            printable(
                f"{mark} {profile.name}  {profile.url}  {'' if held else 'signed out'}"
            ).rstrip()
        )
