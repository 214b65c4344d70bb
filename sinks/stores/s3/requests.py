"""How requests to an S3-compatible store are made, and what its answers mean here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    ParamValidationError,
    ValidationError,
)
from botocore.exceptions import EndpointConnectionError as _NoEndpoint
from botocore.parsers import ResponseParserError

from app import __version__
from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.network.hosts import AllowedHosts
from app.network.judged import ForbiddenAddressError
from app.telemetry import tracing
from sinks.stores.https import said
from sinks.stores.s3.target import ADVICE, S3Target

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig
    from botocore.awsrequest import AWSRequest

COMPLETION_TIMEOUT = 900.0  # seconds; some stores copy all parts while the client waits

# A part that was spoilt on its way (BadDigest) is worth another try, too; so is a completion that
# met another request for the same key.
_PASSING = (
    "SlowDown",
    "RequestTimeout",
    "InternalError",
    "BadDigest",
    "ConditionalRequestConflict",
)

NOT_MET = ("PreconditionFailed", "412")
NO_OBJECT = ("404", "NoSuchKey", "NotFound")
# What stores say that do nothing on a condition.
NO_CONDITION = ("NotImplemented", "501", "InvalidArgument", "InvalidRequest")

_ADVICE = {
    "NoSuchBucket": "create the bucket, or correct the tenant's settings",
    "404": "create the bucket, or correct the tenant's settings",
    "403": "correct the key and its secret, or give it rights to this bucket",
    "AccessDenied": "give the key the right to put, get and delete objects and to list and abort "
    "uploads in this bucket",
    "InvalidAccessKeyId": "correct the access key",
    "SignatureDoesNotMatch": "correct the secret key",
    "AuthorizationHeaderMalformed": "correct the region",
    "PermanentRedirect": "correct the region or the endpoint",
}


def config_for(target: S3Target, ca: str = "", hosts: AllowedHosts | None = None) -> AioConfig:
    """Return what clients of a target are configured with.

    `ca` is a file of CAs that are trusted beside the public ones; `hosts` are where clients may
    connect to, without: anywhere.
    """
    from aiobotocore.config import AioConfig

    from sinks.stores.s3.session import GuardedSession

    def judge(address: str) -> str | None:
        return hosts.flaw_of_address(target.endpoint, address) if hosts else None

    return AioConfig(
        http_session_cls=partial(  # type: ignore[arg-type]  # whatever makes a session will do
            GuardedSession, judge=judge, scheme=urlsplit(target.endpoint).scheme, ca=ca
        ),
        region_name=target.region,
        # botocore makes one of its own twice for each request, a fifth of what that costs.
        user_agent=f"rs-delivery/{__version__}",
        connect_timeout=5,
        # Deadlines are those of `translate_errors`, and the caller decides whether it asks again.
        read_timeout=COMPLETION_TIMEOUT,
        max_pool_connections=64,
        retries={"mode": "standard", "total_max_attempts": 1},
        # Other stores than AWS refuse the newer integrity headers; parts are verified by ETag.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": target.addressing_style, "payload_signing_enabled": False},
    )


@contextlib.asynccontextmanager
async def translate_errors(target: S3Target, action: str, seconds: float) -> AsyncIterator[None]:
    """Bound a call, and sort S3's answers into those that pass and those that stay.

    No message holds a secret.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise TargetUnavailableError(
            f"S3 did not {action} in {target} within {seconds:g} s"
        ) from error
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        sentence = f"S3 refused to {action} in {target} ({code or status})"
        passes = status >= 500 and status != 501  # Not Implemented: it stays so
        if passes or status in (408, 429) or code in _PASSING:
            raise TargetUnavailableError(sentence) from error
        advice = _ADVICE.get(code, "see the store's log")
        raise TargetRefusedError(f"{sentence}: {advice}") from error
    except _NoEndpoint as error:
        flaw = _forbidden(error)
        if flaw is not None:
            raise forbidden(target, flaw) from error
        raise TargetUnavailableError(f"no S3 server answers for {target}") from error
    except (ParamValidationError, ValidationError) as error:
        raise impossible(target, error) from error
    except (BotoCoreError, HTTPClientError, ResponseParserError, OSError, KeyError) as error:
        if _is_unsendable(error):
            raise impossible(target, error) from error
        if _is_redirect(error):
            raise TargetUnavailableError(
                f"{target} led elsewhere instead of doing what was asked ({action}): correct "
                "scheme, host and port, unless it passes"
            ) from error
        # KeyError, ResponseParserError: what was answered is no S3, but a gateway's page, likely.
        raise TargetUnavailableError(f"S3 did not {action} in {target} ({said(error)})") from error


def _forbidden(error: _NoEndpoint) -> str | None:
    """Return why a connection was not opened; None if it failed for another reason."""
    cause = getattr(error.kwargs.get("error"), "os_error", None)
    return str(cause) if isinstance(cause, ForbiddenAddressError) else None


def _is_unsendable(error: Exception) -> bool:
    """Whether a request was never sent, for what it should carry: a header can't hold it."""
    inner = error.kwargs.get("error") if type(error) is HTTPClientError else None
    return isinstance(inner, ValueError) and not isinstance(inner, UnicodeDecodeError)


def _is_redirect(error: Exception) -> bool:
    from sinks.stores.s3.session import RedirectedError

    return isinstance(error, HTTPClientError) and isinstance(
        error.kwargs.get("error"), RedirectedError
    )


def forbidden(target: S3Target, flaw: str) -> TargetForbiddenError:
    """Return the error of a target that tenants may not have."""
    return TargetForbiddenError(f"nothing is sent to {target}: {flaw}: {ADVICE}")


def impossible(target: S3Target, error: Exception) -> TargetRefusedError:
    """Return the error of a target that no client can be made for."""
    return TargetRefusedError(
        f"S3 can't be asked for {target} ({error}): correct host, region and key in the tenant's "
        "settings"
    )


def traced(
    verb: str, target: S3Target, key: str, part: int | None = None
) -> AbstractContextManager[None]:
    """Trace a request."""
    return tracing.span(
        f"S3 {verb}",
        kind=tracing.CLIENT,
        attributes={
            "server.address": target.endpoint,
            "aws.s3.bucket": target.bucket,
            "aws.s3.key": key,
            "aws.s3.part_number": part,
        },
    )


def code_of(error: DeliveryError) -> str:
    """Return S3's word for an error that `translate_errors` raised; empty if it said nothing."""
    cause = error.__cause__
    return str(cause.response["Error"].get("Code", "")) if isinstance(cause, ClientError) else ""


def is_of_s3(answer: Mapping[str, Any]) -> bool:
    """Whether only an S3 server answers like that: with a code of S3, or an id of its request."""
    metadata = answer.get("ResponseMetadata", {})
    code = str(answer.get("Error", {}).get("Code", ""))
    # To a request without a body of its answer botocore gives the HTTP status as the code.
    return bool(metadata.get("RequestId") or metadata.get("HostId") or code[:1].isalpha())


def by_s3(error: DeliveryError) -> bool:
    """Whether an error is what an S3 server said."""
    cause = error.__cause__
    return isinstance(cause, ClientError) and is_of_s3(cause.response)


def answered(error: DeliveryError) -> bool:
    """Whether S3 answered at all, and did not only ask to slow down."""
    return isinstance(error.__cause__, ClientError) and code_of(error) != "SlowDown"


def send_at_once(request: AWSRequest, **_: object) -> None:
    """Send a body without waiting for leave (`100 Continue`): some stores never give it."""
    del request.headers["Expect"]
