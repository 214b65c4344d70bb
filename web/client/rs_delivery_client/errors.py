"""What can go wrong, as one tree.

ClientError
├── NotReachableError        nothing answers, or it answers that it can't just now: come again
├── ServiceError             the service refused; its words, its status
│   ├── InvalidRequestError  what was asked for breaks rules: each is named
│   ├── NotSignedInError     no token, or none that is believed
│   ├── ForbiddenError       the token's role may not do this
│   ├── NotFoundError        there is no such delivery, or file of it
│   └── ConflictError        not in the state that the delivery is in
├── DeliveryFailedError      a delivery ended in ERROR or was DENIED
├── ContentError             bytes can't be had as they were told of
│   ├── LinkExpiredError     a link is refused, and there is no way to another one
│   ├── ContentMissingError  there is nothing at an address
│   └── ContentChangedError  what is at an address is not what it was
├── ManifestError            a manifest is none, or can't be read
├── NotCheckedError          there is nothing to check by, or nothing to check
├── FlawedError              what was fetched is not what was delivered; its report names each flaw
├── UnsafeError              an archive holds what must not be unpacked
├── LocalError               a file or folder here can't be read or written
└── ProfileError             a profile, or what lets its user in, can't be had or kept
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rs_delivery_client.flaws import Report
    from rs_delivery_client.models import Delivery


class ClientError(Exception):
    """The root: what this library raises of its own."""


class NotReachableError(ClientError):
    """Nothing answers, or it answers that it can't just now; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def cause_of(error: Exception) -> str:
    """Say why nothing answered: in the system's words where it is the system that says so."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno is not None:
            known = found.errno in errno.errorcode  # else it is of the search for a name
            says = os.strerror(found.errno) if known else found.strerror
            if says:
                return says.lower()
        found = found.__cause__
    return str(error) or type(error).__name__


class ServiceError(ClientError):
    """The service refused. The message is its own."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        messages: Sequence[str] = (),
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.messages = tuple(messages)  # every broken rule, where there are several
        self.code = code  # of its catalogue of errors; None: an older service tells none
        self.request_id = request_id  # by which the log of the service has it


class InvalidRequestError(ServiceError):
    """What was asked for breaks rules."""


class NotSignedInError(ServiceError):
    """There is no token, or none that the service believes."""


class ForbiddenError(ServiceError):
    """The token's role, or its tenant, may not do this."""


class NotFoundError(ServiceError):
    """There is no such delivery, or no such file of it."""


class ConflictError(ServiceError):
    """That is not possible in the state that the delivery is in."""


class DeliveryFailedError(ClientError):
    """A delivery ended in ERROR, or was DENIED."""

    def __init__(self, message: str, delivery: Delivery) -> None:
        super().__init__(message)
        self.delivery = delivery


class ContentError(ClientError):
    """Bytes can't be had as they were told of."""


class LinkExpiredError(ContentError):
    """A link is refused, and there is no way to another one."""


class ContentMissingError(ContentError):
    """There is nothing at an address, or nothing that can be had from there."""


class ContentChangedError(ContentError):
    """What is at an address is not what it was when reading began."""


class ManifestError(ClientError):
    """A manifest is none, or can't be read."""


class NotCheckedError(ClientError):
    """There is nothing to check by, or nothing to check."""


class FlawedError(ClientError):
    """What was fetched is not what was delivered."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class UnsafeError(ClientError):
    """An archive or a manifest holds what must not be written to a disk."""


class LocalError(ClientError):
    """A file or folder on this machine can't be read or written."""


class ProfileError(ClientError):
    """A profile, or what lets its user in, can't be had or kept."""
