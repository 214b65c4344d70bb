"""Tries buckets of Google Cloud Storage, for tenants and for operators."""

from __future__ import annotations

from functools import partial

from app.errors import DeliveryError
from sinks.stores.gcs.calls import GcsCalls
from sinks.stores.gcs.requests import by_google, said_anything
from sinks.stores.gcs.rights import try_to_write
from sinks.stores.gcs.target import PUBLIC, GcsTarget
from sinks.stores.trying import Trying


def trying(calls: GcsCalls) -> Trying[GcsTarget]:
    """Return what tries them."""
    return Trying(
        store="Google Cloud Storage",
        container="bucket",
        advice="the endpoint is right",
        look=calls.look_at_bucket,
        write=partial(try_to_write, calls),
        said=by_google,
        public=_is_public,
    )


def _is_public(target: GcsTarget, error: DeliveryError) -> bool:
    return target.endpoint == PUBLIC and not said_anything(error)
