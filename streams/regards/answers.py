"""What rs-order answers about orders and their files, read: nested (HATEOAS) or flat."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from app.delivery.manifest import ListedFile
from app.delivery.order_facts import DatasetFacts, OrderFacts, OrderFile

T = TypeVar("T")

# What reading raises when an answer is none of what was asked for.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)

_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_CRC32 = re.compile(r"[0-9a-fA-F]{8}")
# Two restricted names of RFC 6838: what has more than that, as parameters, is taken for none.
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[T]):
    """A page of a list."""

    entries: list[T]
    total: int | None  # how many there are on all pages; None: not told
    last: bool


def read_listed(body: bytes, page: int) -> Page[ListedFile]:
    """Read the page of this number of the files that can be downloaded."""
    return _read_page(body, page, _read_file)


def read_of_dataset(body: bytes, page: int, *, listed: int) -> Page[OrderFile]:
    """Read the page of this number of a dataset's files, of an order that has `listed`."""

    def read(entry: dict[str, Any], _total: int | None) -> OrderFile:
        data = _content(entry)
        suborder = data.get("filesTaskId")
        return OrderFile(
            file=_read_file(entry, listed),
            state=str(data["state"]),
            suborder_id=int(suborder) if suborder is not None else None,
        )

    return _read_page(body, page, read)


def read_facts(body: bytes) -> OrderFacts:
    """Read what is told of an order as a whole."""
    data = _content(json.loads(body))
    waiting = data.get("waitingForUser")
    return OrderFacts(
        status=str(data["status"]),
        expires_at=_read_time(data.get("expirationDate")),
        percent=_number(data.get("percentCompleted")),
        waiting_for_user=waiting if isinstance(waiting, bool) else None,
        available=_number(data.get("availableFilesCount")),
        in_error=_number(data.get("filesInErrorCount")),
        datasets=tuple(
            DatasetFacts(
                dataset_id=int(dataset["id"]),
                files=_number(dataset.get("filesCount")),
                size=_number(dataset.get("filesSize")),
            )
            for dataset in data.get("datasetTasks") or []
        ),
    )


def _content(entry: dict[str, Any]) -> dict[str, Any]:
    content = entry.get("content")
    return content if isinstance(content, dict) else entry


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _read_time(value: Any) -> datetime | None:
    """Read a time; one without an offset is UTC. None: it is none."""
    try:
        read = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return read.replace(tzinfo=read.tzinfo or UTC)


def _read_page(body: bytes, page: int, read: Callable[[dict[str, Any], int | None], T]) -> Page[T]:
    answer = json.loads(body)
    content = answer["content"]
    if not isinstance(content, list):
        raise TypeError("its content is no list")
    metadata = answer.get("metadata") or {}
    total = _number(metadata.get("totalElements"))
    entries = [read(entry, total) for entry in content]
    if "totalPages" in metadata:
        last = page + 1 >= int(metadata["totalPages"])
    else:
        last = not any(link.get("rel") == "next" for link in answer.get("links") or [])
    return Page(entries=entries, total=total, last=last or not entries)


def _read_file(entry: dict[str, Any], listed: int | None) -> ListedFile:
    data = _content(entry)
    size = _number(data.get("filesize", data.get("fileSize")))
    checksum = str(data.get("checksum") or "")
    crc32 = data.get("crc32")
    kind = str(data.get("mimeType") or "")
    return ListedFile(
        file_id=int(data["id"]),
        product_id=str(data.get("productId") or ""),
        version=int(data.get("version") or 1),
        filename=str(data.get("filename") or ""),
        # A negative one is a word for none: no file has it, and no archive can hold it.
        size=size if size is not None and size >= 0 else None,
        md5=checksum.lower() if _MD5.fullmatch(checksum) else None,
        # A text, and nothing else: a number does not tell its leading zeros, nor its base.
        crc32=int(crc32, 16) if isinstance(crc32, str) and _CRC32.fullmatch(crc32) else None,
        listed=listed,
        media_type=kind.lower() if _MEDIA_TYPE.fullmatch(kind) else None,
    )
