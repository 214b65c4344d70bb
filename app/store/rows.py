"""Rows to values."""

from __future__ import annotations

from dataclasses import replace

import asyncpg

from app.delivery.manifest import ManifestFile
from app.delivery.missing import NEVER_LISTED, MissingFile
from app.delivery.model import Delivery, Ended, Ending, OrderError
from app.delivery.object_store import StoredObject, Upload
from app.delivery.segments import OrderPlan, Segment
from app.delivery.states import State
from app.delivery.told import Told
from app.errors import ErrorType


def listed_of(row: asyncpg.Record) -> Delivery:
    """Read what lists and feeds show of a delivery; what it ordered isn't among it."""
    return Delivery(
        id=row["id"],
        tenant=row["tenant"],
        correlation_id=row["correlation_id"],
        state=State(row["state"]),
        user=row["user_email"],
        target=row["target"],
        order={},
        origin_app=row["origin_app"],
        priority=row["priority"],
        requested_at=row["requested_at"],
        expires_at=row["expires_at"],
        order_id=row["order_id"],
        total_suborders=row["total_suborders"],
        order_done=row["order_done"],
        announced=row["announced"],
        parked=row["parked"],
        held=row["held"],
        format=row["format"],
        partial=row["partial"],
        labels=tuple(row["labels"]),
        deadline=row["deadline"],
        archive_name=row["archive_name"],
        prefix=row["prefix"],
        file_count=row["file_count"],
        total_bytes=row["total_bytes"],
        attempt=row["attempt"],
        tries=row["tries"],
        last_cause=row["last_cause"],
        last_code=row["last_code"],
        ending=_ending_of(row),
    )


def _ending_of(row: asyncpg.Record) -> Ending | None:
    if row["ending_type"] is None:
        return None
    return Ending(
        error_type=_known(row["ending_type"]),
        message=row["ending_message"],
        code=row["ending_code"],
    )


def _order_error_of(row: asyncpg.Record) -> OrderError | None:
    if row["order_error_type"] is None:
        return None
    error_type = _known(row["order_error_type"])
    return OrderError(
        error_type=error_type,
        message=row["order_error_message"],
        files=row["order_error_files"],
    )


def _known(word: str) -> ErrorType:
    try:
        return ErrorType(word)
    except ValueError:  # a later version's word; the message says what it is
        return ErrorType.INTERNAL_ERROR


def delivery_of(row: asyncpg.Record) -> Delivery:
    """Read a whole row of `delivery`."""
    upload = None
    if row["upload_id"] is not None:
        upload = Upload(
            container=row["upload_bucket"],
            key=row["upload_key"],
            upload_id=row["upload_id"],
            target=row["upload_target"],
        )
    completing, plan = row.get("completing"), row["plan"]
    return replace(
        listed_of(row),
        order=row["order_request"],
        failures=row["failures"],
        order_error=_order_error_of(row),
        retries=row["retries"],
        retried_for=row["retried_for"],
        trace=row["trace"],
        archive_template=row["archive_template"],
        prefix_template=row["prefix_template"],
        plan=OrderPlan.read(plan) if plan else None,
        upload=upload,
        completing=StoredObject.read(completing) if completing else None,
    )


def ended_of(row: asyncpg.Record) -> Ended:
    """Read a whole row of a delivery that has ended."""
    return Ended(
        delivery=delivery_of(row),
        result=StoredObject(url=row["url"], md5=row["md5"], size=row["archive_size"])
        if row["url"]
        else None,
        error=(row["error_type"], row["error_message"]) if row["error_type"] else None,
        told=told_of(row),
    )


def told_of(row: asyncpg.Record) -> Told:
    """Read what a client was told beside result and error."""
    return Told.read(row["told"] or {})


def file_of(row: asyncpg.Record) -> ManifestFile:
    """Read a row of `delivery_file`."""
    return ManifestFile(
        position=row["position"],
        file_id=row["file_id"],
        member=row["member"],
        size=row["size"],
        md5=row["md5"],
        crc32=row["crc32"],
        product_id=row["product_id"],
        product_version=row["product_version"],
        media_type=row["media_type"],
    )


def missing_of(row: asyncpg.Record) -> MissingFile:
    """Read a row of `missing_file`."""
    return MissingFile(
        cause=row["cause"],
        file_id=row["file_id"],
        member=row["member"],
        size=row["size"],
        product_id=row["product_id"],
        product_version=row["product_version"],
        files=row["files"],
        position=row["number"] if row["number"] < NEVER_LISTED else None,
    )


def segment_of(row: asyncpg.Record) -> Segment:
    """Read a row of `segment`."""
    return Segment(
        number=row["number"],
        suborder=row["suborder_id"],
        at_end=row["at_end"],
        listed=row["listed"],
        file_count=row["file_count"],
        age=row["segment_age"],
    )
