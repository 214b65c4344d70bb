"""How a command ends, if not well: in a sentence, and by an exit code that scripts go by."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Mapping
from typing import IO, Any, TypeVar

import click

from rs_delivery_client.errors import (
    ClientError,
    ConflictError,
    ContentError,
    ForbiddenError,
    InvalidRequestError,
    ManifestError,
    NotCheckedError,
    NotFoundError,
    NotReachableError,
    NotSignedInError,
    ProfileError,
    ServiceError,
)

EXIT_FAILED = 1
EXIT_MISTAKE = 2
EXIT_NOT_THERE = 3
EXIT_NOT_SIGNED_IN = 4
EXIT_CONFLICT = 5
EXIT_NOT_ENDED = 8
EXIT_UNAVAILABLE = 69

T = TypeVar("T")

# The first that an error is one of.
_CODES: tuple[tuple[type[ClientError], int], ...] = (
    (NotReachableError, EXIT_UNAVAILABLE),
    (ProfileError, EXIT_MISTAKE),
    (NotSignedInError, EXIT_NOT_SIGNED_IN),
    (ForbiddenError, EXIT_NOT_SIGNED_IN),
    (ConflictError, EXIT_CONFLICT),
    (NotFoundError, EXIT_NOT_THERE),
    (InvalidRequestError, EXIT_FAILED),
    (ManifestError, EXIT_NOT_THERE),
    (NotCheckedError, EXIT_NOT_THERE),
    (ContentError, EXIT_NOT_THERE),
)


class Ended(click.ClickException):
    """How a command ended, if not well."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code
        self._program = program()

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it in a sentence, after the name of the program."""
        click.echo(f"{self._program}: {printable(self.message)}", file=file or sys.stderr)


class Silent(Ended):
    """All that is to be said was said."""

    def __init__(self, code: int) -> None:
        super().__init__("", code)

    def show(self, file: IO[Any] | None = None) -> None:
        """Say nothing."""


def program() -> str:
    """Return what the program is called, by which it was started."""
    context = click.get_current_context(silent=True)  # there is none while a shell completes
    return (context and context.find_root().info_name) or "rs-delivery"


def run(work: Awaitable[T]) -> T:
    """Do it, and return what it gives. Raises Ended."""

    async def main() -> T:
        return await work

    try:
        return asyncio.run(main())
    except ClientError as error:
        raise ended(error) from None


def code_of(error: ClientError) -> int:
    """Return the exit code of an error."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    if isinstance(error, ServiceError):
        if error.status == 410:  # it was there
            return EXIT_NOT_THERE
        # It is no service, or one that is out of order: not what it was asked to do.
        return EXIT_UNAVAILABLE if error.status >= 500 or error.status < 400 else EXIT_FAILED
    return EXIT_FAILED


def ended(error: ClientError) -> Ended:
    """Return how a command ends by an error."""
    says = str(error)
    if isinstance(error, NotSignedInError):
        says += f"; sign in with `{program()} login`, or give a token: --token, or DELIVERY_TOKEN"
    return Ended(says, code_of(error))


def encoded(body: Mapping[str, Any]) -> str:
    """Return JSON on a line; at a terminal, nothing in it drives that."""
    return json.dumps(dict(body), ensure_ascii=sys.stdout.isatty())


def printable(text: str) -> str:
    """Keep what a stranger named from driving the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
