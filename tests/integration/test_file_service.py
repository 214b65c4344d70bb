"""Archives in a shared folder: the whole service, and transfers that one worker began."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from app.settings import Settings
from compose.embedded.stack import Stack
from sinks.stores.file.names import MARKER
from sinks.stores.file.store import FileObjectStore
from sinks.stores.file.target import FileTarget
from tests.client import Client, contents, request_for
from tests.command import delivery
from tests.conftest import noise
from tests.integration.test_recovery import in_transfer, program
from tests.integration.test_resume import ENDS, FILES, Stopped, attempt, in_segments, undisturbed
from tests.service import running_service
from tests.standin import StandIn
from tests.unit.test_assembler import goes_on
from tests.unit.test_file_store import content_of, make_settings, mark

MIB = 1024 * 1024


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that every worker has."""
    folder = tmp_path / "archives"
    folder.mkdir()
    return folder


@pytest.fixture
def extra(apart: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Settings of a service that allows it."""
    mark(tmp_path)
    return apart | {
        "DELIVERY_LOG_FORMAT": "json",
        "DELIVERY_LEASE_TTL": "3",
        "DELIVERY_SHUTDOWN_GRACE": "0",
        "DELIVERY_FILE_ROOTS": str(tmp_path),
        "DELIVERY_FILE_MIN_FREE": "0",
    }


def entry(shared: Path, **more: str) -> dict[str, Any]:
    """Return the setting of a tenant whose requests may name it."""
    return {"shared": {"type": "file", "path": str(shared), "prefix": "in"} | more}


def files_in(folder: Path) -> list[str]:
    """Return all files in a folder that are no notes of the service's own."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path.relative_to(folder).as_posix()
        for path in found
        if path.name != MARKER and not path.parent.name.startswith(".rs-delivery-")
    )


async def test_a_request_for_a_folder_is_done_with_a_url_of_its_file(
    stack: Stack,
    client: Client,
    make_product: Callable[..., str],
    extra: dict[str, str],
    shared: Path,
) -> None:
    files = {"a.txt": b"text " * 1000, "b.bin": noise(100_000), "empty.dat": b""}
    product = make_product(files)
    environment = {**stack.environment, **extra}
    token = delivery("token", **environment).stdout.strip()
    async with (
        running_service(stack, extra=extra) as (_, url),
        aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"}) as session,
    ):

        async def put(value: dict[str, Any], check: str = "true") -> tuple[int, Any]:
            async with session.put(
                "/settings/delivery_targets", params={"check": check}, json={"value": value}
            ) as answer:
                return answer.status, await answer.json()

        status, said = await put(entry(Path("/elsewhere")))
        assert (status, said["message"].partition(":")[0]) == (422, "delivery_targets.shared.path")
        status, said = await put(entry(shared / "gone"), check="only")
        assert status == 200
        assert "there is no folder" in json.dumps(said)
        status, said = await put(entry(shared, mode="0644"))
        assert status == 200
        assert '"ok": false' not in json.dumps(said)

        body = request_for(product, targetDelivery="shared")
        done = await client.answer(body)
        async with session.get("/health/targets") as answer:
            targets = (await answer.json())["content"]
            (health,) = [target for target in targets if target["name"] == "shared"]
    correlation_id = body["correlationId"]
    archive = await content_of(done["url"])
    assert done == {
        "correlationId": correlation_id,
        "status": "DONE",
        "url": f"file://{shared}/in/{correlation_id}/{product}_v1.zip",
        "md5": hashlib.md5(archive).hexdigest(),
        "size": len(archive),
        "files": len(files),
    }
    assert contents(archive) == files
    assert files_in(shared) == [f"in/{correlation_id}/{product}_v1.zip"]
    assert (health["status"], health["endpoint"]) == ("UP", f"file://{shared}")
    found = delivery("doctor", **environment)
    lines = [line for line in found.stdout.splitlines() if "shared: " in line]
    assert len(lines) == 6
    assert all(str(shared) in line for line in lines)


async def test_a_worker_that_is_killed_leaves_nothing_but_the_archive_of_the_next(
    stack: Stack,
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
    extra: dict[str, str],
    shared: Path,
) -> None:
    files = {"a.bin": noise(30 * MIB), "b.txt": b"b"}
    product = make_product(files)
    body: dict[str, object] = request_for(product, targetDelivery="shared")
    value = json.dumps(entry(shared))
    environment = {**stack.environment, **extra}
    await standin.misbehave(bytes_per_second=200_000)  # it takes minutes, until it is killed
    async with running_service(stack, extra=extra) as (child, _):
        assert delivery("settings", "set", "delivery_targets", value, **environment).returncode == 0
        await in_transfer(stack, extra, client, body)
        program(child).send_signal(signal.SIGKILL)
        await asyncio.to_thread(child.process.wait)
    assert len(list(shared.rglob("*.upload"))) == 1
    assert list(shared.rglob("*.zip")) == []
    await standin.behave()
    async with running_service(stack, extra=extra):
        done = await client.wait_for(str(body["correlationId"]), "DONE", "ERROR")
    assert done["status"] == "DONE"
    assert contents(await content_of(done["url"])) == files
    assert files_in(shared) == [f"in/{body['correlationId']}/{product}_v1.zip"]


# Going on, with what is in the folder.


@pytest.fixture
def target(shared: Path) -> FileTarget:
    """That folder."""
    return FileTarget(path=str(shared))


def new_worker(stopped: Stopped, target: FileTarget) -> None:
    """Let all that follows be done by a worker that knows nothing but what lies there."""
    stopped.sink._sink = FileObjectStore(make_settings(Path(target.path)))  # type: ignore[assignment] # noqa: SLF001


@pytest.fixture
def stopped(pool: asyncpg.Pool, settings: Settings, target: FileTarget) -> Stopped:
    """A transfer that is to be stopped."""
    parts: Any = (FileObjectStore(make_settings(Path(target.path))), target)
    return Stopped(pool, settings, *parts)


@goes_on
async def test_another_worker_goes_on_where_the_last_part_ends(
    stopped: Stopped, target: FileTarget
) -> None:
    await stopped.begin("third.bin")
    new_worker(stopped, target)
    row = await stopped.end()
    assert (row["state"], row["attempt"], row["md5"]) == ("DONE", 2, undisturbed())
    assert contents(await content_of(row["url"])) == FILES
    assert stopped.sink.parts == Counter(range(1, max(stopped.sink.parts) + 1))
    assert stopped.sink.aborted == 0
    assert len(files_in(Path(target.path))) == 1


@goes_on
async def test_an_archive_that_pauses_is_put_together_by_several_workers(
    stopped: Stopped, target: FileTarget
) -> None:
    await stopped.worker.plan(stopped.name)
    for end in [*ENDS, None]:
        await attempt(stopped, end)
        new_worker(stopped, target)
    row = await stopped.worker.row(stopped.name)
    assert (row["state"], row["attempt"], row["md5"]) == ("DONE", 4, in_segments())
    assert contents(await content_of(row["url"])) == FILES
    assert stopped.source.gets == Counter(list(FILES))
    assert stopped.sink.parts == Counter(range(1, max(stopped.sink.parts) + 1))
    assert len(files_in(Path(target.path))) == 1


@goes_on
async def test_what_is_not_there_any_more_begins_again(
    stopped: Stopped, target: FileTarget
) -> None:
    await stopped.begin("third.bin")
    (parts,) = Path(target.path).rglob("parts")
    parts.write_bytes(parts.read_bytes()[:40])
    row = await stopped.end()
    assert (row["state"], row["md5"]) == ("DONE", undisturbed())
    assert stopped.source.gets["first.bin"] == 2
    assert len(files_in(Path(target.path))) == 1
