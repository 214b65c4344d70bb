"""Targets, as tests look at them."""

from __future__ import annotations

from app.delivery.targets import Target
from sinks.stores.s3.target import S3Target


def s3_of(target: Target | None) -> S3Target:
    """Return a target with all that only those of S3 have."""
    assert isinstance(target, S3Target)
    return target
