"""The kinds of object stores that archives can be put on, a line each."""

from __future__ import annotations

from app.delivery.targets import TargetKinds
from sinks.stores.azure.kind import AZURE
from sinks.stores.file.kind import FILE
from sinks.stores.gcs.kind import GCS
from sinks.stores.kinds import StoreKind
from sinks.stores.s3.kind import S3
from sinks.stores.sftp.kind import SFTP

STORES: tuple[StoreKind, ...] = (
    S3,  # first, as what names no kind is of this one
    FILE,
    SFTP,
    AZURE,
    GCS,
)

KINDS = TargetKinds(*(store.targets for store in STORES))
