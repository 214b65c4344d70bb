"""How requests to Azure's blob storage are bounded, and what its answers mean here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)

from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.network.judged import ForbiddenAddressError
from sinks.stores.azure.session import OWN_WORDS
from sinks.stores.azure.target import HOSTS_ADVICE, AzureTarget
from sinks.stores.https import said

COMMIT_TIMEOUT = 300.0  # seconds; of a list of thousands of blocks

NO_BLOB = ("BlobNotFound", "404")  # to HEAD, without a body, some only say the number
NO_RANGE = ("InvalidRange", "416")
NO_CONTAINER = ("ContainerNotFound",)
NOT_MET = ("ConditionNotMet", "BlobAlreadyExists", "TargetConditionNotMet", "412")
LOST_BLOCKS = ("InvalidBlockList", "InvalidBlobOrBlock")

# A block that was spoilt on its way is worth another try, too; a lease on a blob ends.
_PASSING = ("Md5Mismatch", "OperationTimedOut", "ServerBusy", "LeaseIdMissing", "BlobOverwritten")
_SPARED = ("ServerBusy", "OperationTimedOut")  # answers of a server that has too much to do

# `{means}` is what the target is asked with.
_ACCESS = (
    "give the {means} the rights to read, create, write, delete and list blobs in this container"
)
_KEEPS = (
    "lets nothing there be replaced, marked or removed: deliver to a container without one, or let "
    "the owner of this one"
)
_DISCARD = (
    "put an empty blob of this name there, and remove it, which discards them, or wait until Azure "
    "does, after a week"
)
_ADVICE = {
    "ContainerNotFound": "create the container, or correct the tenant's settings",
    "ContainerBeingDeleted": "create the container again once Azure has removed it",
    "ContainerDisabled": "let the owner of the account enable the container",
    "AccountIsDisabled": "let the owner of the account enable it",
    "AuthenticationFailed": "correct the {means}, and see that the clock of this machine is right",
    "InvalidAuthenticationInfo": "correct the {means}",
    "NoAuthenticationInformation": "correct the {means}",
    "AuthorizationPermissionMismatch": _ACCESS,
    "AuthorizationFailure": "correct the {means}, or its rights to this container, or let the "
    "account's firewall take this machine",
    "AuthorizationServiceMismatch": "give a SAS for blobs",
    "AuthorizationResourceTypeMismatch": "give a SAS for containers and objects",
    "AuthorizationProtocolMismatch": "give an https endpoint, or a SAS that allows http",
    "AuthorizationSourceIPMismatch": "give a SAS that allows the address of this machine",
    "InsufficientAccountPermissions": _ACCESS,
    "BlobImmutableDueToPolicy": f"an immutability policy {_KEEPS} end the policy",
    "BlobImmutableDueToLegalHold": f"a legal hold {_KEEPS} clear the hold",
    "BlockCountExceedsLimit": f"earlier attempts have staged too many blocks there: {_DISCARD}",
    "InvalidBlobOrBlock": f"another program has staged blocks of this name: {_DISCARD}",
    "InvalidBlobType": "remove the blob of this name: it is no block blob",
    "SnapshotsPresent": "remove the snapshots of the blob",
    "403": _ACCESS,
    "404": "create the container, or correct the tenant's settings",
}


class RequestFailedError(Exception):
    """How a request failed, as the cause of the error that says it in words.

    In the library's errors are URLs, a SAS in those, and whatever a server wrote: they are no
    cause, as what logs and traces show of an error has its causes in it.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        answer = error.response if isinstance(error, HttpResponseError) else None
        self.answered = answer is not None
        self.by_azure = "x-ms-request-id" in getattr(answer, "headers", {})
        self.code = _code(error) if isinstance(error, HttpResponseError) and answer else ""
        self.silent = isinstance(
            error, (TimeoutError, ServiceRequestTimeoutError, ServiceResponseTimeoutError)
        )


@contextlib.asynccontextmanager
async def translate_errors(target: AzureTarget, action: str, seconds: float) -> AsyncIterator[None]:
    """Bound a call, and sort Azure's answers into those that pass and those that stay.

    No message holds a secret, nor does its cause.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise TargetUnavailableError(
            f"Azure did not {action} in {target} within {seconds:g} s"
        ) from RequestFailedError(error)
    except (AzureError, OSError, ValueError) as error:
        # ValueError: what was answered can't be read.
        answered = isinstance(error, HttpResponseError) and error.response is not None
        told = _refusal if answered else _without_answer
        raise told(target, action, error) from RequestFailedError(error)


def _refusal(target: AzureTarget, action: str, error: Any) -> DeliveryError:
    status, code = error.status_code or 0, _code(error)
    if 300 <= status < 400:
        return TargetUnavailableError(
            f"{target} led elsewhere instead of doing what was asked ({action}): correct the "
            "endpoint, unless it passes"
        )
    sentence = f"Azure refused to {action} in {target} ({code})"
    passes = status >= 500 and status != 501  # Not Implemented: it stays so
    if passes or status in (408, 429) or code in _PASSING:
        return TargetUnavailableError(sentence)
    ended = _end_of_sas(target) if status == 403 else None
    if ended is not None and ended < datetime.now(UTC):
        return TargetRefusedError(
            f"{sentence}: its SAS has expired at {ended:%FT%TZ}; give another"
        )
    advice = _ADVICE.get(code, "see what Azure says of that code")
    return TargetRefusedError(f"{sentence}: {advice.format(means=_means_of(target))}")


def _means_of(target: AzureTarget) -> str:
    """Return what a target is asked with, in a word for people."""
    if target.key is not None:
        return "key"
    return "identity" if target.sas is None else "SAS"


def _without_answer(target: AzureTarget, action: str, error: Exception) -> DeliveryError:
    inner = getattr(error, "inner_exception", None)
    refused = getattr(inner, "os_error", inner)
    if isinstance(refused, ForbiddenAddressError):
        return forbidden(target, str(refused))
    if isinstance(error, ClientAuthenticationError):
        return TargetUnavailableError(
            f"this service has no identity to {action} with in {target} ({type(error).__name__}): "
            "see that one is assigned to it, or give a key or a SAS"
        )
    what = str(inner) if isinstance(inner, OWN_WORDS) else said(inner or error)
    return TargetUnavailableError(f"Azure did not {action} in {target} ({what})")


def _end_of_sas(target: AzureTarget) -> datetime | None:
    """Return when a target's SAS ends, where it has one that says so."""
    for text in parse_qs(target.sas or "").get("se", []):
        try:
            end = datetime.fromisoformat(text)
        except ValueError:
            continue
        return end if end.tzinfo else end.replace(tzinfo=UTC)
    return None


def forbidden(target: AzureTarget, flaw: str) -> TargetForbiddenError:
    """Return the error of a target that tenants may not have."""
    return TargetForbiddenError(f"nothing is sent to {target}: {flaw}: {HOSTS_ADVICE}")


def impossible(target: AzureTarget, error: Exception) -> TargetRefusedError:
    """Return the error of a target that no client can be made for."""
    return TargetRefusedError(
        f"Azure can't be asked for {target} ({type(error).__name__}): correct account, endpoint, "
        "key and SAS in the tenant's settings"
    )


def _code(error: HttpResponseError) -> str:
    """Return Azure's word for an error; its status where there is none."""
    told = getattr(error, "error_code", None)
    if told is None and error.response is not None:
        told = getattr(error.response, "headers", {}).get("x-ms-error-code")
    return str(getattr(told, "value", told) or error.status_code or "")


def _failure(error: DeliveryError) -> RequestFailedError | None:
    cause = error.__cause__
    return cause if isinstance(cause, RequestFailedError) else None


def code_of(error: DeliveryError) -> str:
    """Return Azure's word for an error that `translate_errors` raised; empty if it said nothing."""
    failure = _failure(error)
    return failure.code if failure else ""


def by_azure(error: DeliveryError) -> bool:
    """Whether an error is what a server of Azure's blob storage said."""
    failure = _failure(error)
    return failure is not None and failure.by_azure


def said_anything(error: DeliveryError) -> bool:
    """Whether a server answered, whatever it said."""
    failure = _failure(error)
    return failure is not None and failure.answered


def answered(error: DeliveryError) -> bool:
    """Whether Azure answered, and did not only say that it has too much to do."""
    return said_anything(error) and code_of(error) not in _SPARED


def silent(error: DeliveryError) -> bool:
    """Whether nothing came within its time."""
    failure = _failure(error)
    return failure is not None and failure.silent
