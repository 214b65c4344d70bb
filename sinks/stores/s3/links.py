"""Links to objects: URLs that are presigned (AWS Signature Version 4, in the query).

They are signed for the host by which clients reach the server, and end at seven days at the latest,
when the key is changed, or when it loses its rights, whichever comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from app.delivery.disposition import attachment
from app.delivery.object_store import LinkAsked
from app.network.hosts import server_of
from sinks.stores.s3.target import S3Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """Where clients reach servers, if that is elsewhere than where this service does.

    A target's own `public_endpoint` comes first; this is the operator's, of `endpoint`.
    """

    endpoint: str = ""
    public: str = ""

    @classmethod
    def between(cls, endpoint: str, public: str) -> Door:
        """Return the one for a server of the settings, written in whatever way."""
        return cls(endpoint=endpoint, public=public.rstrip("/")) if public else cls()

    def link(self, target: S3Target, key: str, asked: LinkAsked) -> str:
        """Return the presigned URL of an object."""
        request = AWSRequest(
            method="GET",
            url=self._url(target, key),
            params={
                "response-content-disposition": attachment(asked.name),
                "response-content-type": asked.media_type,
            },
        )
        credentials = Credentials(target.key, target.secret)
        _Signer(credentials, target.region, asked).add_auth(request)
        return str(request.url)

    def _url(self, target: S3Target, key: str) -> str:
        address = urlsplit(self._reached_at(target))
        path, host = quote(key, safe="/~"), address.netloc
        if target.addressing_style == "virtual":
            return f"{address.scheme}://{target.bucket}.{host}/{path}"
        return f"{address.scheme}://{host}/{target.bucket}/{path}"

    def _reached_at(self, target: S3Target) -> str:
        if target.public_endpoint:
            return target.public_endpoint
        if self.public and _server(target.endpoint) == _server(self.endpoint):
            return self.public
        return target.endpoint


def _server(endpoint: str) -> tuple[str, str]:
    return urlsplit(endpoint).scheme, server_of(endpoint)


class _Signer(S3SigV4QueryAuth):
    """Signs for a time that is given, and tells no log of it.

    What botocore's own `add_auth` writes at DEBUG opens the object.
    """

    def __init__(self, credentials: Credentials, region: str, asked: LinkAsked) -> None:
        super().__init__(credentials, "s3", region, expires=asked.seconds)
        self._at = asked.at

    def add_auth(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        self._modify_request_before_signing(request)  # type: ignore[attr-defined] # not in stubs
        to_sign = self.string_to_sign(request, self.canonical_request(request))
        signature = self.signature(to_sign, request)
        self._inject_signature_to_request(request, signature)  # type: ignore[attr-defined]
