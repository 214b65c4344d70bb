"""The transfer against a real S3 server: verified, bounded, and never half an object."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import threading
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import pytest

from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredPart
from app.delivery.progress import Phase
from app.errors import (
    ArchiveTooLargeError,
    DeliveryError,
    LeaseLostError,
    SourceUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
    WrongFileError,
)
from sinks.pipeline.budget import Budget
from sinks.pipeline.parts import Part
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.client import Client
from tests.conftest import noise
from tests.integration.conftest import abort_all
from tests.integration.transfers import MEMORY, MIB, Bench
from tests.twins.rs_order import Source


async def test_the_object_is_the_archive(
    sink: S3ObjectStore, target: S3Target, client: Client
) -> None:
    files = {"a": noise(12 * MIB, "a"), "b": b"", **{f"s{n}": noise(n * 100) for n in range(300)}}
    bench = Bench(sink, target, Source(files))
    md5, size, upload = await bench.run()
    url = f"s3://{upload.container}/{upload.key}"
    assert await client.media_type(url) == "application/zip"
    content = await client.fetch(url)
    assert (hashlib.md5(content).hexdigest(), len(content)) == (md5, size)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert bench.source.most_open > 1  # the next files are fetched while one is archived
    last = bench.reports[-1]
    assert last.phase is Phase.DONE
    assert (last.bytes_done, last.files_done) == (sum(map(len, files.values())), len(files))


async def test_the_same_files_give_the_same_bytes(sink: S3ObjectStore, target: S3Target) -> None:
    source = Source({"a": noise(MIB), "b": b"text " * 50_000})
    assert (await Bench(sink, target, source).run())[:2] == (
        await Bench(sink, target, source).run()
    )[:2]


async def test_a_slow_target_stops_the_reading(
    sink: S3ObjectStore, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No part leaves until the test says so: what was read meanwhile is within the budget."""
    source = Source({f"f{n}": noise(8 * MIB, str(n)) for n in range(12)})
    bench = Bench(sink, target, source)
    real, gate, started = sink.put_part, asyncio.Event(), asyncio.Event()

    async def held(*args: object) -> StoredPart:
        started.set()
        await gate.wait()
        return await real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(sink, "put_part", held)
    running = asyncio.create_task(bench.run())
    await started.wait()
    before = -1
    while before != source.read:  # until nothing moves any more
        before = source.read
        await asyncio.sleep(0.3)
    # Parts in flight and being filled, the prefetch, and a chunk over in each queue.
    assert source.read <= 32 * MIB + 8 * 300_000
    gate.set()
    await running
    assert source.read == 96 * MIB


async def test_a_slow_source_holds_no_connection_to_the_target(
    sink: S3ObjectStore, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part is sent when it is whole, not opened and fed as the source drips."""
    gate, reached = asyncio.Event(), asyncio.Event()

    class Dripping(Source):
        async def chunks(
            self, delivery: Delivery, file: ManifestFile
        ) -> AsyncGenerator[bytes, None]:
            async for chunk in super().chunks(delivery, file):
                if self.read > 8 * MIB and not gate.is_set():  # one part and a half
                    reached.set()
                    await gate.wait()
                yield chunk

    bench = Bench(sink, target, Dripping({"a": noise(12 * MIB)}))
    real, sending = sink.put_part, 0
    sent = asyncio.Event()

    async def counted(*args: object) -> StoredPart:
        nonlocal sending
        sending += 1
        stored = await real(*args)  # type: ignore[arg-type]
        sending -= 1
        sent.set()
        return stored

    monkeypatch.setattr(sink, "put_part", counted)
    running = asyncio.create_task(bench.run())
    await reached.wait()
    await sent.wait()
    assert sending == 0
    gate.set()
    await running


async def test_transfers_of_a_worker_share_its_memory(
    sink: S3ObjectStore, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten transfers, memory for two: never more than two read at a time, and all end well."""
    budget = Budget(2 * MEMORY)
    running = most = 0
    both = asyncio.Barrier(2)  # neither goes on alone

    class Counting(Source):
        @contextlib.asynccontextmanager
        async def download(
            self, delivery: Delivery, file: ManifestFile
        ) -> AsyncIterator[AsyncIterator[bytes]]:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await both.wait()
            async with super().download(delivery, file) as chunks:
                yield chunks
            running -= 1

    benches = [Bench(sink, target, Counting({"a": noise(MIB)}), budget=budget) for _ in range(10)]
    await asyncio.gather(*(bench.run() for bench in benches))
    assert most == 2


@pytest.mark.parametrize("fail", ["first", "last"])
async def test_a_source_that_breaks_off_leaves_no_object(
    sink: S3ObjectStore, target: S3Target, client: Client, fail: str
) -> None:
    files = {"first": noise(8 * MIB, "1"), "middle": noise(8 * MIB, "2"), "last": noise(8 * MIB)}
    bench = Bench(sink, target, Source(files, fail=fail))
    with pytest.raises(SourceUnavailableError):
        await bench.run()
    assert bench.source.open == 0
    assert bench.reports[-1].phase is Phase.FAILED
    assert await client.open_uploads(*bench.key.split("/")) == []


async def test_a_wrong_file_leaves_no_object(
    sink: S3ObjectStore, target: S3Target, client: Client
) -> None:
    source = Source({"a": noise(6 * MIB), "b": b"b"})
    bench = Bench(sink, target, source)
    files = source.manifest()
    with pytest.raises(WrongFileError, match="expected MD5"):
        await bench.run(files=[replace(files[0], md5="0" * 32), files[1]])
    assert await client.open_uploads(*bench.key.split("/")) == []


async def test_nothing_is_completed_without_a_lease(sink: S3ObjectStore, target: S3Target) -> None:
    bench = Bench(sink, target, Source({"a": b"a"}))
    with pytest.raises(LeaseLostError):
        await bench.run(may_complete=False)


async def test_a_successor_fences_its_predecessor_at_the_store(
    sink: S3ObjectStore, target: S3Target
) -> None:
    """The first worker's upload is aborted by the second: it can't complete any more."""
    bench = Bench(sink, target, Source({"a": noise(MIB)}))
    upload = await sink.create_upload(target, bench.key)
    digest = await sink.put_part(target, upload, 1, Part.of(b"x" * 10))
    await abort_all(sink, target, bench.key)
    with pytest.raises(DeliveryError, match="not there"):
        await sink.complete(target, upload, [digest], 10, marks={})


async def test_an_upload_that_is_cancelled_stops_its_thread(
    sink: S3ObjectStore, target: S3Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(sink, target, Source({"a": noise(20 * MIB)}))
    started = asyncio.Event()

    async def stuck(*_args: object) -> bytes:
        started.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    monkeypatch.setattr(sink, "put_part", stuck)
    running = asyncio.create_task(bench.run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bench.source.open == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "archive"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"bucket": "no-such-bucket"}, TargetRefusedError, "NoSuchBucket.*create the bucket"),
        ({"endpoint": "http://127.0.0.1:1"}, TargetUnavailableError, "no S3 server answers"),
    ],
)
async def test_a_target_that_refuses_is_named_without_its_secret(
    sink: S3ObjectStore,
    target: S3Target,
    changes: dict[str, str],
    error: type[Exception],
    words: str,
) -> None:
    wrong = replace(target, **changes)
    with pytest.raises(error, match=words) as raised:
        await sink.create_upload(wrong, "k")
    assert wrong.bucket in str(raised.value)
    assert wrong.endpoint in str(raised.value)
    assert wrong.secret not in str(raised.value)
    assert wrong.secret not in repr(wrong)


async def test_aborting_an_upload_that_is_gone_succeeds(
    sink: S3ObjectStore, target: S3Target
) -> None:
    upload = await sink.create_upload(target, "gone/a.zip")
    await sink.abort(target, upload)
    await sink.abort(target, upload)


async def test_a_file_of_unknown_size_that_is_too_large_ends_the_upload(
    sink: S3ObjectStore, target: S3Target
) -> None:
    bench = Bench(sink, target, Source({"a": noise(12 * MIB)}))
    bench.max_object_size = 11 * MIB
    bench.delivery = replace(bench.delivery, total_bytes=0)
    unknown = [replace(file, size=None) for file in bench.source.manifest()]
    with pytest.raises(ArchiveTooLargeError, match="DELIVERY_MAX_OBJECT_SIZE"):
        await bench.run(files=unknown)
    assert await sink.open_uploads(target, bench.key) == []
