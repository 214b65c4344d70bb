"""Where the service is, and what lets the caller in: by an option, the environment, or a profile.

An option goes before the environment, which goes before the default profile. The token of a
profile is sent to the address of that profile, and to no other one.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

import rs_delivery_client
from rs_delivery_client.cli.ends import ended, program
from rs_delivery_client.errors import ProfileError
from rs_delivery_client.profiles import Profile, Profiles

if TYPE_CHECKING:
    from rs_delivery_client.client import DeliveryClient
    from rs_delivery_client.tokens import Token

F = TypeVar("F", bound=Callable[..., Any])

_url = click.option("--url", envvar="DELIVERY_URL", help="Of the service.")
_token = click.option("--token", envvar="DELIVERY_TOKEN", help="That the service knows you by.")
_profile = click.option(
    "--profile", envvar="DELIVERY_PROFILE", help="What `login` has kept under this name."
)
_tries = click.option(
    "--tries",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="In a row, with pauses that grow, before it ends.",
)


@dataclass(frozen=True, kw_only=True)
class Given:
    """A value, and whether it was given in the call itself."""

    value: str | None = field(default=None, repr=False)
    in_call: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """A service, and what lets the caller in."""

    url: str
    token: str | None = field(default=None, repr=False)
    kept: Profile | None = None  # that the token is of, where it can be renewed

    def client(self, *, tries: int) -> DeliveryClient:
        """Return a client of it."""
        # Imported here: it takes most of a second, and help asks no service.
        pauses = rs_delivery_client.Pauses(tries=tries)
        token: Token | None = self.token
        if self.kept is not None and self.token is not None:
            from rs_delivery_client.cli.renewal import Renewal  # noqa: PLC0415

            token = Renewal(self.url, self.kept, self.token)
        return rs_delivery_client.DeliveryClient(self.url, token=token, pauses=pauses)


@dataclass(frozen=True, kw_only=True)
class Where:
    """What a call says of where the service is."""

    url: Given = field(default_factory=Given)
    token: Given = field(default_factory=Given)
    profile: Given = field(default_factory=Given)
    tries: int = 8

    def place(self, profiles: Profiles | None = None) -> Place:
        """Return it. Raises UsageError for none, or what is no address; Ended."""
        try:
            address, key, kept = self._resolved(profiles or Profiles())
        except ProfileError as error:
            raise ended(error) from None
        if address is None:
            raise click.UsageError(
                f"say where the service is: --url, DELIVERY_URL, or once by `{program()} login`"
            )
        return Place(url=checked_url(address), token=checked_token(key), kept=kept)

    def client(self) -> DeliveryClient:
        """Return a client of it."""
        return self.place().client(tries=self.tries)

    def _resolved(self, profiles: Profiles) -> tuple[str | None, str | None, Profile | None]:
        """Return address and token that are meant, and the profile where that can renew the token.

        Raises ProfileError.
        """
        url, token = self.url.value, self.token.value
        named = self.profile.in_call and not self.url.in_call
        kept: Profile | None = None
        if named or url is None or token is None:
            kept = profiles.find(self.profile.value)
            if kept is None and self.profile.value is not None:
                raise ProfileError(f"there is no profile {self.profile.value!r} in {profiles.path}")
        if kept is not None and (named or url is None):
            url = kept.url
        if self.token.in_call or (token is not None and not named):
            return url, token, None
        own = None
        if kept is not None and url is not None and kept.is_of(url):
            own = profiles.token_of(kept)
        renews = kept if kept is not None and own is not None and kept.renews else None
        return url, own if named else own or token, renews

    @property
    def repeated(self) -> str:
        """What another call is given, so that it is about the same service."""
        said = (("--url", self.url), ("--profile", self.profile))
        return "".join(
            f" {name} {shlex.quote(given.value or '')}" for name, given in said if given.in_call
        )


def place_option(command: F) -> F:
    """Give a command the options that tell where the service is: it takes them as `where`."""

    @_url
    @_token
    @_profile
    @_tries
    @functools.wraps(command)
    def called(
        *arguments: Any,
        url: str | None,
        token: str | None,
        profile: str | None,
        tries: int,
        **options: Any,
    ) -> Any:
        where = Where(
            url=_given("url", url),
            token=_given("token", token),
            profile=_given("profile", profile),
            tries=tries,
        )
        return command(*arguments, where=where, **options)

    return called  # type: ignore[return-value]


def _given(name: str, value: str | None) -> Given:
    source = click.get_current_context().get_parameter_source(name)
    return Given(value=value or None, in_call=source is ParameterSource.COMMANDLINE)


def checked_url(url: str) -> str:
    """Return an address that can be asked. Raises UsageError."""
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"the address must begin with https:// or http://, not {url!r}")
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not url.isprintable() or " " in url:
        raise click.UsageError(f"{url!r} is no address such as https://delivery.example.org")
    if parts.username is not None or parts.password is not None:
        raise click.UsageError("the address holds a user or a password: sign in by a token instead")
    if parts.query or parts.fragment:
        raise click.UsageError(f"{url!r} has more than an address: leave what is behind ? or #")
    return url


def checked_token(token: str | None) -> str | None:
    """Return a token that a header can hold. Raises UsageError, which does not show it."""
    if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
        raise click.UsageError("the token holds what no token does: a blank, or a line's end")
    return token
