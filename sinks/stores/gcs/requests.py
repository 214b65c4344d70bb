"""How requests to Google Cloud Storage are bounded, and what its answers mean here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp

from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.network.judged import ForbiddenAddressError
from sinks.stores.gcs.answers import NotGoogleError, RefusedError
from sinks.stores.gcs.target import HOSTS_ADVICE, GcsTarget
from sinks.stores.gcs.tokens import NoIdentityError, UselessKeyError
from sinks.stores.guard import EndlessAnswerError
from sinks.stores.https import said

COMPOSE_TIMEOUT = 120.0  # seconds
# In which a completion may get as far as its last request, behind hundreds that compose on the way:
# with that one's own deadline, less than the time after which others take it for decided
# (`app.usecases.transfer`).
COMPLETION_WINDOW = 780.0  # seconds

BAD = 400
UNAUTHORIZED = 401
GONE = 404
NOT_MET = 412
NO_RANGE = 416

# What is said of these holds no address and no secret.
_OWN_WORDS = (NotGoogleError, EndlessAnswerError)
# Limits of a time, whatever their status.
_PASSING = (
    *("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"),
    *("backendError", "concurrentLimitExceeded"),
)
_ACCESS = (
    'give the service account the role "Storage Object User" (roles/storage.objectUser) on this '
    "bucket"
)
_BUCKET = "create the bucket, or correct the tenant's settings"
_ADVICE = {
    "400": "see what Google says of that",
    "401": "give another key of the service account, unless the clock of this machine is wrong: "
    "Google knows the key no more, or takes its token for one of another time",
    "403": _ACCESS,
    "404": _BUCKET,
    "forbidden": _ACCESS,
    "insufficientPermissions": _ACCESS,
    "notFound": _BUCKET,
    "accountDisabled": "let the owner of the bucket see to the billing of its project",
    "userProjectMissing": "let the owner of the bucket end that requesters pay",
    "userProjectAccountProblem": "let the owner of the bucket see to the billing of its project",
    "retentionPolicyNotMet": "let the owner of the bucket end its retention policy: parts of "
    "archives have to be removed",
    "objectUnderActiveHold": "let the owner of the bucket release the hold of the object",
    "orgPolicyConstraintFailed": "let the owner of the bucket see to its organisation's policies",
}


class RequestFailedError(Exception):
    """The cause of an error, without what the library keeps of the request.

    That has tokens, and would go to logs and traces with it.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error) if isinstance(error, RefusedError) else type(error).__name__)
        refused = error if isinstance(error, RefusedError) else None
        self.status = refused.status if refused else None
        self.reason = refused.reason if refused else ""
        self.answered = refused is not None or isinstance(error, _OWN_WORDS)
        self.silent = isinstance(error, TimeoutError)
        self.spared = refused is not None and (refused.status in (429, 503))


@contextlib.asynccontextmanager
async def translate_errors(target: GcsTarget, action: str, seconds: float) -> AsyncIterator[None]:
    """Bound a call, and sort Google's answers into those that pass and those that stay.

    No message holds a secret, nor does its cause.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        within = "" if isinstance(error, aiohttp.ClientError) else f" within {seconds:g} s"
        raise TargetUnavailableError(
            f"Google Cloud Storage did not {action} in {target}{within}"
        ) from RequestFailedError(error)
    except RefusedError as error:
        raise _refusal(target, action, error) from RequestFailedError(error)
    except UselessKeyError as error:
        raise _useless(target, action, error) from RequestFailedError(error)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _without_answer(target, action, error) from RequestFailedError(error)


def _refusal(target: GcsTarget, action: str, error: RefusedError) -> DeliveryError:
    sentence = f"Google Cloud Storage refused to {action} in {target} ({error})"
    passes = error.status >= 500 and error.status != 501  # Not Implemented: it stays so
    if passes or error.passes or error.status in (408, 429) or error.reason in _PASSING:
        return TargetUnavailableError(sentence, retry_after=error.retry_after)
    advice = _ADVICE.get(error.reason) or _ADVICE.get(str(error.status), "see what Google says")
    return TargetRefusedError(f"{sentence}: {advice}")


def _without_answer(target: GcsTarget, action: str, error: Exception) -> DeliveryError:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ForbiddenAddressError):
        return forbidden(target, str(cause))
    if isinstance(error, NoIdentityError):
        return TargetUnavailableError(
            f"this service has no identity to {action} with in {target}: the metadata server gave "
            f"none ({error}); see that a service account is assigned to it, or give one's key"
        )
    what = str(error) if isinstance(error, _OWN_WORDS) else said(error)
    return TargetUnavailableError(f"Google Cloud Storage did not {action} in {target} ({what})")


def _useless(target: GcsTarget, action: str, error: UselessKeyError) -> TargetRefusedError:
    return TargetRefusedError(
        f"Google Cloud Storage can't be asked to {action} in {target}: the key of the service "
        f"account signs nothing ({error}): give another"
    )


def forbidden(target: GcsTarget, flaw: str) -> TargetForbiddenError:
    """Return the error of a target that tenants may not have."""
    return TargetForbiddenError(f"nothing is sent to {target}: {flaw}: {HOSTS_ADVICE}")


def impossible(target: GcsTarget, error: Exception) -> TargetRefusedError:
    """Return the error of a target that no client can be made for."""
    return TargetRefusedError(
        f"Google Cloud Storage can't be asked for {target} ({type(error).__name__}): correct "
        "endpoint and credentials in the tenant's settings"
    )


def _failure(error: DeliveryError) -> RequestFailedError | None:
    cause = error.__cause__
    return cause if isinstance(cause, RequestFailedError) else None


def status_of(error: DeliveryError) -> int | None:
    """Return Google's status of an error that `translate_errors` raised; None if it said none."""
    failure = _failure(error)
    return failure.status if failure else None


def of_other_bytes(error: DeliveryError) -> bool:
    """Whether an error may be that of bytes which came with another MD5 than was told.

    Google says no more of that than that something is not valid, with this one reason.
    """
    failure = _failure(error)
    return failure is not None and (failure.status, failure.reason) == (BAD, "invalid")


def by_google(error: DeliveryError) -> bool:
    """Whether an error is what Google Cloud Storage said."""
    return status_of(error) is not None


def said_anything(error: DeliveryError) -> bool:
    """Whether a server answered, whatever it said."""
    failure = _failure(error)
    return failure is not None and failure.answered


def answered(error: DeliveryError) -> bool:
    """Whether a server answered, and did not only say that it has too much to do."""
    failure = _failure(error)
    return failure is not None and failure.answered and not failure.spared


def silent(error: DeliveryError) -> bool:
    """Whether nothing came within its time."""
    failure = _failure(error)
    return failure is not None and failure.silent
