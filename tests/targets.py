"""Targets, as tests look at them."""

from __future__ import annotations

import os

from app.delivery.targets import Target
from compose.embedded.s3_servers import MAKES
from sinks.stores.s3.target import S3Target

# Of the S3 server that the tests are played on; None: moto.
MAKE = MAKES.get(os.environ.get("S3_MAKE", ""))


def s3_of(target: Target | None) -> S3Target:
    """Return a target with all that only those of S3 have."""
    assert isinstance(target, S3Target)
    return target
