"""Where archives are put, and what is found there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Self

DEFAULT_TARGET = "regards-s3-minio"  # what requests without a target mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A multipart upload as S3 knows it."""

    bucket: str
    key: str
    upload_id: str
    target: str | None = field(default=None, repr=False)  # where it is open, sealed

    @property
    def url(self) -> str:
        """What the object is called that it becomes."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Noted:
    """What is kept as JSON: another version may have written it."""

    @classmethod
    def read(cls, noted: Mapping[str, Any]) -> Self:
        """Read what this or another version noted: fields that are not known here are left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in noted.items() if name in known})


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Target(_Noted):
    """Where archives are put."""

    endpoint: str
    region: str
    key: str
    secret: str = field(repr=False)
    bucket: str
    prefix: str = ""  # of every key; ends with / unless empty
    addressing_style: str = "path"  # or "virtual": the bucket as a part of the host name
    storage_class: str | None = None  # None: the store's own choice
    encryption: str | None = None  # AES256 or aws:kms, by the store
    encryption_key: str | None = None  # of aws:kms

    def __str__(self) -> str:
        return f"bucket {self.bucket} at {self.endpoint}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetTrouble:
    """A server of targets does not answer this process: nothing new is sent there."""

    server: str  # host:port; with /bucket, if only that one is answered with errors
    cause: str  # what was met last, before it was left alone
    since: datetime
    asked_again: datetime  # when the next probe is due

    def until(self, asked_again: datetime) -> TargetTrouble:
        """Return the same with another time of the next probe."""
        return replace(self, asked_again=asked_again)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocked:
    """Whose transfers are not to be claimed now."""

    tenants: tuple[str, ...] = ()
    spared: tuple[tuple[str, str], ...] = ()  # of those tenants: tenant and name of a target


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantSettings:
    """What a tenant has configured."""

    request_ttl: timedelta
    order_size_limit_bytes: int
    target: S3Target  # the default
    targets: Mapping[str, S3Target] = field(default_factory=dict)  # further ones, by name

    def target_named(self, name: str) -> S3Target | None:
        """Return the target that a request chooses by `targetDelivery`; None if unknown.

        As long as no targets are configured, any name means the default.
        """
        if name == DEFAULT_TARGET or not self.targets:
            return self.target
        return self.targets.get(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject(_Noted):
    """A verified archive."""

    url: str  # s3://bucket/key
    md5: str  # hex, lower case
    size: int
    etag: str | None = None  # where it is known


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundObject:
    """An object as its store describes it."""

    size: int
    etag: str
    marks: Mapping[str, str] = field(default_factory=dict)  # its metadata

    def has(self, marks: Mapping[str, str]) -> bool:
        """Whether all of these marks are on it."""
        return marks.items() <= self.marks.items()
