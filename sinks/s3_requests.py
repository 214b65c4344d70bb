"""How requests to an S3-compatible store are made, and what its answers mean here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import EndpointConnectionError as _NoEndpoint

from app import tracing
from app.errors import DeliveryError, TargetRefusedError, TargetUnavailableError
from app.model import S3Target
from sinks.s3_https import said

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession
    from botocore.awsrequest import AWSRequest

# What a call may take from its first try to its last byte, in seconds.
SHORT = 30.0
COMPLETION = 900.0  # some stores copy all parts while the client waits
_PART = 120.0  # and what its bytes take at the slowest pace
_SLOWEST = 256 * 1024  # bytes a second

# A part that was spoilt on its way (BadDigest) is worth another try, too; so is a completion that
# met another request for the same key.
_PASSING = (
    "SlowDown",
    "RequestTimeout",
    "InternalError",
    "BadDigest",
    "ConditionalRequestConflict",
)

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


def config_for(target: S3Target, session: type[AIOHTTPSession]) -> AioConfig:
    """Return what clients of a target are configured with; `session` makes their connections."""
    from aiobotocore.config import AioConfig

    return AioConfig(
        http_session_cls=session,
        region_name=target.region,
        connect_timeout=5,
        # Deadlines are those of `wrapped`, and whoever asks decides whether it asks again.
        read_timeout=COMPLETION,
        max_pool_connections=64,
        retries={"mode": "standard", "total_max_attempts": 1},
        # Other stores than AWS refuse the newer integrity headers; parts are verified by ETag.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": target.addressing_style, "payload_signing_enabled": False},
    )


def for_part(size: int) -> float:
    """Return how long a part of so many bytes may take, in seconds."""
    return _PART + size // _SLOWEST


@contextlib.asynccontextmanager
async def wrapped(target: S3Target, action: str, seconds: float) -> AsyncIterator[None]:
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
        raise TargetUnavailableError(f"no S3 server answers for {target}") from error
    except (BotoCoreError, HTTPClientError, OSError, KeyError) as error:
        # KeyError: what was answered is not of S3, but a gateway's page, most likely.
        raise TargetUnavailableError(f"S3 did not {action} in {target} ({said(error)})") from error


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
    """Return S3's word for an error that `wrapped` raised; empty if it said nothing."""
    cause = error.__cause__
    return str(cause.response["Error"].get("Code", "")) if isinstance(cause, ClientError) else ""


def answered(error: DeliveryError) -> bool:
    """Whether S3 answered at all, and did not only ask to slow down."""
    return isinstance(error.__cause__, ClientError) and code_of(error) != "SlowDown"


def send_at_once(request: AWSRequest, **_: object) -> None:
    """Send a part without waiting for leave (`100 Continue`): some stores never give it."""
    del request.headers["Expect"]


def kept_as(target: S3Target) -> dict[str, Any]:
    """Return how the object is to be kept, where the target says."""
    asked = {
        "StorageClass": target.storage_class,
        "ServerSideEncryption": target.encryption,
        "SSEKMSKeyId": target.encryption_key,
    }
    return {name: value for name, value in asked.items() if value is not None}
