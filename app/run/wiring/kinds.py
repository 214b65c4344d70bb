"""The kinds of object stores that archives can be put on, a line each; `targets` opens them."""

from __future__ import annotations

from app.delivery.targets import TargetKinds
from sinks.stores.s3.target import S3Target

KINDS = TargetKinds(S3Target)
