"""Where requests are signed with the deployment's own S3 key, and which S3 servers have it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from app.network.hosts import canonical, endpoint_of

S3_SERVER = "s3_server"
S3_KEY = ("key", "secret")  # what requests to it are signed with
# What says where the default target is, and so where the deployment's own S3 key is used.
PLACE = (S3_SERVER, "delivery_bucket")


def place_of(values: Mapping[str, Any]) -> tuple[str, str]:
    """Return endpoint and bucket of the default target."""
    return endpoint_of(values["s3_server"]).lower(), values["delivery_bucket"]


def shares_credentials(values: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    """Whether requests for a tenant are signed with the deployment's own S3 key."""
    return all(
        secrets.compare_digest(
            str(values["s3_server"][name]).encode(), str(default["s3_server"][name]).encode()
        )
        for name in S3_KEY
    )


def copies_key(server: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    """Whether an S3 server of a tenant's is the deployment's own, with the deployment's key.

    At another server it is none of ours: what is signed with the next one does not go there.
    """
    values, own = {"s3_server": server}, {"s3_server": default}
    return is_same_server(server, default) and shares_credentials(values, own)


def is_same_server(server: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether scheme, host and port are the same."""
    return canonical(endpoint_of(server)) == canonical(endpoint_of(other))


def leads_elsewhere(values: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    """Whether the deployment's own S3 key is used at another server, or for another bucket."""
    return shares_credentials(values, default) and place_of(values) != place_of(default)
