"""Rows to values."""

from __future__ import annotations

import asyncpg

from app.model import Delivery, ManifestFile, State, StoredObject, Upload


def delivery_of(row: asyncpg.Record) -> Delivery:
    """Read a row of `delivery`."""
    upload = None
    if row["upload_id"] is not None:
        upload = Upload(
            bucket=row["upload_bucket"],
            key=row["upload_key"],
            upload_id=row["upload_id"],
            target=row["upload_target"],
        )
    completing = row.get("completing")
    return Delivery(
        id=row["id"],
        tenant=row["tenant"],
        correlation_id=row["correlation_id"],
        state=State(row["state"]),
        user=row["user_email"],
        target=row["target"],
        order=row["order_request"],
        origin_app=row["origin_app"],
        priority=row["priority"],
        requested_at=row["requested_at"],
        expires_at=row["expires_at"],
        order_id=row["order_id"],
        total_suborders=row["total_suborders"],
        archive_name=row["archive_name"],
        file_count=row["file_count"],
        total_bytes=row["total_bytes"],
        attempt=row["attempt"],
        failures=row["failures"],
        tries=row["tries"],
        last_cause=row["last_cause"],
        trace=row["trace"],
        upload=upload,
        completing=StoredObject.read(completing) if completing else None,
    )


def file_of(row: asyncpg.Record) -> ManifestFile:
    """Read a row of `delivery_file`."""
    return ManifestFile(
        position=row["position"],
        file_id=row["file_id"],
        member=row["member"],
        size=row["size"],
        md5=row["md5"],
    )
