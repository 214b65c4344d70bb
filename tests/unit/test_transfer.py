"""The pipeline from end to end, without a network: each format on the store in memory."""

from __future__ import annotations

import pytest

from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.progress import Progress
from app.errors import RetryableError
from sinks import formats
from sinks.formats.archive_format import ArchiveFormat
from sinks.pipeline.budget import Budget
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from sinks.transfer import StreamingArchiver
from tests.builders import make_lease, make_transfer, name_bytes
from tests.integration.transfers import MIB, QUICK, each
from tests.tar_format import Tar
from tests.twins.rs_order import Source
from tests.unit.test_formats import FILES, READERS, each_format, made

PART = 5 * MIB // 64 * 64
TARGET = MemoryTarget(container="archives")
CONTENT = {**FILES, "large.csv": b"0,1,2,3\n" * MIB, "tiny": b"!"}


def delivery_of(archive_name: str, source: Source) -> Delivery:
    return make_transfer(
        archive_name=archive_name,
        file_count=len(source.files),
        total_bytes=sum(map(len, source.files.values())),
    )


def archiver_of(source: Source, store: MemoryObjectStore) -> StreamingArchiver:
    reports: list[Progress] = []
    return StreamingArchiver(
        source,
        store,
        reports.append,
        compression="store",
        part_size=PART,
        memory=32 * MIB,
        worker_memory=Budget(64 * MIB),
        max_object_size=1024**4,
        connections=4,
        patience=QUICK,
    )


@each_format
async def test_the_object_is_what_the_format_makes(
    archive_format: ArchiveFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever format: the stages around it, and the store, know nothing of it."""
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, Tar()))
    source, store = Source(CONTENT), MemoryObjectStore(least_part=PART)
    delivery = delivery_of(f"P_v1{archive_format.suffix}", source)
    archiver = archiver_of(source, store)
    media_type = archiver.media_type(delivery)
    upload = await store.create_upload(TARGET, "key", {}, media_type=media_type)

    async def may_complete(_result: StoredObject) -> bool:
        return True

    result = await archiver.run(
        delivery,
        each(source.manifest()),
        TARGET,
        upload,
        at_most=delivery.total_bytes,
        name_bytes=name_bytes(source.files),
        lease=make_lease(),
        may_complete=may_complete,
    )
    found = store.objects(TARGET)["key"]
    assert found.media_type == archive_format.media_type
    assert found.content == made(archive_format, CONTENT, compression="store")
    assert READERS[archive_format.suffix](found.content) == CONTENT
    assert (result.size, result.etag) == (len(found.content), found.found.etag)
    assert len(found.parts) > 1


async def test_what_another_version_planned_is_left_to_it() -> None:
    """Before an upload is opened, and for this attempt alone."""
    source = Source({})
    with pytest.raises(RetryableError, match=r"P_v1\.cab"):
        archiver_of(source, MemoryObjectStore()).media_type(delivery_of("P_v1.cab", source))
