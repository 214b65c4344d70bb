"""How long requests to an SFTP server may take, and what its answers mean here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

import asyncssh
from asyncssh import sftp as words

from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.telemetry import tracing
from sinks.stores.breaker import Signs
from sinks.stores.sftp.target import ADVICE, SftpTarget

# Seconds; of a part that came before its place was known, its bytes are moved.
COMPLETION_TIMEOUT = 600.0

GONE = words.SFTPNoSuchFile
# What is said where something is there already: most servers of version 3 have no word for it.
THERE = (words.SFTPFailure, words.SFTPFileAlreadyExists)
LOST = (
    words.SFTPConnectionLost,
    words.SFTPNoConnection,
    asyncssh.DisconnectError,
    OSError,
)
# All that version 3 tells, which is the one that servers have. Nearly all else is a "Failure":
# that may pass, as far as can be known.
_ADVICE: dict[type[asyncssh.SFTPError], str] = {
    words.SFTPNoSuchFile: "create the folder, or correct path in the tenant's settings",
    words.SFTPPermissionDenied: "give the user the right to create, write, link, rename and remove "
    "files and folders there",
    words.SFTPOpUnsupported: "the server can't do this: use another one, such as OpenSSH",
}


@contextlib.asynccontextmanager
async def translate_errors(target: SftpTarget, action: str, seconds: float) -> AsyncIterator[None]:
    """Bound a call, and sort what goes wrong into what passes and what stays.

    No message holds a secret.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        why = f": {error}" if str(error) else f" within {seconds:g} s"
        raise TargetUnavailableError(
            f"the SFTP server did not {action} in {target}{why}"
        ) from error
    except words.SFTPNoSpaceOnFilesystem as error:  # said here: `OpenUpload.put`
        raise TargetUnavailableError(
            f"the SFTP server can't {action}: {target} is full ({said(error)}): make room there"
        ) from error
    except LOST as error:
        raise TargetUnavailableError(
            f"the SFTP server did not {action} in {target}: the connection broke ({said(error)})"
        ) from error
    except asyncssh.SFTPError as error:
        sentence = f"the SFTP server refused to {action} in {target} ({said(error)})"
        if type(error) in _ADVICE:
            raise TargetRefusedError(f"{sentence}: {_ADVICE[type(error)]}") from error
        raise TargetUnavailableError(f"{sentence}: see the server's log") from error
    except (asyncssh.Error, ValueError) as error:
        # Bytes that are no SFTP.
        raise TargetUnavailableError(
            f"the SFTP server did not {action} in {target} ({said(error)})"
        ) from error


def said(error: Exception) -> str:
    """Return what a server, or the line to it, said: one line, not too long."""
    text = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
    text = " ".join(str(text).split())[:200]
    text = "".join(sign if sign.isprintable() else "?" for sign in text)  # a terminal obeys some
    return text or type(error).__name__


def forbidden(target: SftpTarget, flaw: str) -> TargetForbiddenError:
    """Return the error of a target that tenants may not have."""
    return TargetForbiddenError(f"nothing is sent to {target}: {flaw}: {ADVICE}")


def traced(
    verb: str, target: SftpTarget, key: str, part: int | None = None
) -> AbstractContextManager[None]:
    """Trace a call."""
    return tracing.span(
        f"SFTP {verb}",
        kind=tracing.CLIENT,
        attributes={
            "server.address": target.endpoint,
            "file.path": f"{target.path.rstrip('/')}/{key}",
            "rs_delivery.part": part,
        },
    )


def answered(error: DeliveryError) -> bool:
    """Whether an error is what an SSH server said: after it had shown a host key."""
    cause = error.__cause__
    if isinstance(cause, (words.SFTPConnectionLost, words.SFTPNoConnection)):
        return False
    return isinstance(
        cause,
        (
            asyncssh.SFTPError,
            asyncssh.PermissionDenied,
            asyncssh.HostKeyNotVerifiable,
            asyncssh.ChannelOpenError,
        ),
    )


def _silent(error: DeliveryError) -> bool:
    return isinstance(error.__cause__, TimeoutError)


def _places(target: SftpTarget) -> tuple[str, str]:
    # What one user may not do there must not count for others.
    return target.namespace, f"{target.namespace}/{target.user}/{target.container}"


SIGNS = Signs(kind="SFTP", places=_places, said=answered, answered=answered, silent=_silent)
