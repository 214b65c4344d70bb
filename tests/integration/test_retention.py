"""What was delivered to real stores is removed when its time is over."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.delivery.content import ContentState
from app.delivery.manifest import MANIFEST_NAME
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore
from app.delivery.states import State, Work
from app.delivery.targets import Target
from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.usecases.folders import Folders
from app.usecases.retention import Retention
from app.usecases.transfer import COMPLETION
from app.usecases.uploads import Uploads
from compose.embedded.stack import TENANT, Stack
from sinks.pipeline.parts import Part
from sinks.stores.file.managed import FileStore
from sinks.stores.file.target import FileTarget
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.builders import at_any_time, list_files, make_stored
from tests.client import Client, request_for
from tests.command import delivery
from tests.conftest import noise
from tests.integration.conftest import Deliveries
from tests.service import running_service
from tests.unit.test_file_store import left_in, make_settings

DAY = timedelta(days=1)
FILES = {"a.bin": b"a" * 100, "b.bin": b"b" * 200}


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A real store, with what removes there."""

    deliveries: Deliveries
    objects: ObjectStore[Any]
    target: Target
    name: str  # the correlation id

    @property
    def kept(self) -> Retention:
        uploads = Uploads(
            objects=self.objects,
            seal=self.deliveries.vault,
            store=self.deliveries.store,
            kinds=KINDS,
        )
        checkpoints = self.deliveries.checkpoints("retention")
        folders = Folders(store=self.deliveries.store, checkpoints=checkpoints, uploads=uploads)
        return Retention(
            store=self.deliveries.store,
            contents=self.deliveries.contents,
            tenants=self.deliveries.tenants,
            folders=folders,
            within=COMPLETION,
        )

    def key(self, name: str) -> str:
        return f"{self.target.prefix}{self.name}/{name}"

    async def there(self, name: str) -> bool:
        return await self.objects.find(self.target, self.key(name)) is not None

    async def deliver(self, name: str, content: bytes, files: Mapping[str, bytes]) -> Delivery:
        """Deliver an object of this name, and files beside it."""
        available = await self.deliveries.available(self.name)
        await self.deliveries.plan(available, list_files(files), archive_name=name)
        delivery = await self.deliveries.leases("w").claim(Work.TRANSFER)
        assert delivery is not None
        marks, key = marks_of(delivery), self.key(name)
        for file, bytes_ in files.items() if name == MANIFEST_NAME else ():
            await self.put(file, bytes_, delivery)
        upload = await self.objects.create_upload(
            self.target, key, marks, media_type="application/zip"
        )
        part = Part.of(content)
        stored = await self.objects.put_part(self.target, upload, 1, part)
        etag = await self.objects.complete(
            self.target, upload, [stored], len(content), marks=marks, md5=part.md5.hex()
        )
        result = make_stored(url=self.target.url_of(key), size=len(content), etag=etag)
        async with self.deliveries.store.transaction() as tx:
            assert await tx.advance(delivery, State.DONE, result=result)
            await tx.keep_content(
                delivery,
                until=await tx.now() + 2 * DAY,
                key=key,
                namespace=self.target.namespace,
            )
        return delivery

    async def put(self, name: str, content: bytes, of: Delivery) -> None:
        await self.objects.put_object(
            self.target,
            self.key(name),
            Part.of(content),
            marks_of(of),
            media_type="application/octet-stream",
            may=at_any_time,
        )

    async def state(self, delivery: Delivery) -> ContentState:
        found = await self.deliveries.tracking.one(TENANT, delivery.id)
        assert found is not None
        assert found.content is not None
        return found.content.state


@pytest.fixture(params=["s3", "file"])
def shelf(
    request: pytest.FixtureRequest,
    deliveries: Deliveries,
    sink: S3ObjectStore,
    target: S3Target,
    name: str,
    tmp_path: Path,
) -> Shelf:
    made = Shelf(deliveries=deliveries, objects=sink, target=target, name=name)
    if request.param == "file":
        (tmp_path / "archives").mkdir()
        settings: Settings = make_settings(tmp_path)
        folder = FileTarget(path=f"{tmp_path}/archives")
        made = replace(made, objects=FileStore(settings), target=folder)
    deliveries.tenants.give(TENANT, target=made.target)
    return made


async def test_an_archive_goes_in_time_with_what_is_beside_it(shelf: Shelf, tmp_path: Path) -> None:
    delivery = await shelf.deliver("a.zip", b"archive", FILES)
    await shelf.put(MANIFEST_NAME, b"{}", delivery)
    await shelf.deliveries.elapse(DAY)
    assert await shelf.kept.look() == 0
    assert await shelf.there("a.zip")
    await shelf.deliveries.elapse(DAY)
    assert await shelf.kept.look() == 1
    assert not await shelf.there("a.zip")
    assert not await shelf.there(MANIFEST_NAME)
    assert await shelf.state(delivery) is ContentState.REMOVED
    if isinstance(shelf.target, FileTarget):
        files = [name for name in left_in(tmp_path) if (tmp_path / name).is_file()]
        assert [name for name in files if not name.endswith(".json")] == []


async def test_files_go_in_time_with_their_manifest(shelf: Shelf) -> None:
    manifest = json.dumps({"files": [{"path": name} for name in FILES]}).encode()
    delivery = await shelf.deliver(MANIFEST_NAME, manifest, FILES)
    await shelf.put("another.bin", b"x", replace(delivery, tenant="another"))
    await shelf.deliveries.elapse(2 * DAY)
    assert await shelf.kept.look() == 1
    assert [await shelf.there(name) for name in (MANIFEST_NAME, *FILES)] == [False] * 3
    assert await shelf.there("another.bin")
    assert await shelf.state(delivery) is ContentState.REMOVED


async def test_what_a_later_delivery_has_put_in_its_place_stays(shelf: Shelf) -> None:
    first = await shelf.deliver("a.zip", b"archive", FILES)
    await shelf.deliveries.elapse(DAY)
    second = await shelf.deliver("a.zip", b"archive", FILES)
    await shelf.deliveries.elapse(DAY)
    assert await shelf.kept.look() == 1
    found = await shelf.objects.find(shelf.target, shelf.key("a.zip"))
    assert found is not None
    assert found.has(marks_of(second))
    assert await shelf.state(first) is ContentState.REMOVED
    assert await shelf.state(second) is ContentState.PRESENT


async def test_what_another_hand_has_removed_is_no_error(shelf: Shelf) -> None:
    delivery = await shelf.deliver("a.zip", b"archive", FILES)
    await shelf.objects.drop_aside(shelf.target, shelf.key("a.zip"))
    await shelf.deliveries.elapse(2 * DAY)
    assert await shelf.kept.look() == 1
    assert await shelf.state(delivery) is ContentState.REMOVED


async def test_what_is_to_be_removed_is_known_when_its_delivery_is_not(shelf: Shelf) -> None:
    """The janitor of the version before forgets it after some days."""
    await shelf.deliver("a.zip", b"archive", FILES)
    await shelf.deliveries.pool.execute("DELETE FROM delivery")
    await shelf.deliveries.elapse(2 * DAY)
    assert await shelf.kept.look() == 1
    assert not await shelf.there("a.zip")


async def test_the_service_tells_when_and_removes_it_then_and_what_a_command_names(
    stack: Stack, apart: dict[str, str], client: Client, make_product: Callable[..., str]
) -> None:
    quick = apart | {"DELIVERY_RECONCILE_INTERVAL": "1", "DELIVERY_DELIVERED_TTL_HOURS": "0.001"}
    product = make_product({f"f{number}.bin": noise(1000, str(number)) for number in range(40)})
    environment = {**stack.environment, **quick}
    async with running_service(stack, extra=quick):
        for more in ({}, {"delivery": {"format": "files"}}):
            body = request_for(product, **more)
            answer = await client.answer(body)
            assert answer["expires"].endswith("Z")
            await _until_gone(client, body["correlationId"])
    kept = quick | {"DELIVERY_DELIVERED_TTL_HOURS": "0"}
    async with running_service(stack, extra=kept):
        body = request_for(product)
        answer = await client.answer(body)
        assert "expires" not in answer
        name = body["correlationId"]
        dry = await asyncio.to_thread(
            delivery, "purge", "--older-than", "0h", "--dry-run", **environment
        )
        assert re.match(r"1 deliveries, .* would be removed from targets", dry.stdout)
        assert await client.objects(name) != []
        said = await asyncio.to_thread(delivery, "remove", name, **environment)
        assert said.stdout == f"{name} is being removed from its target\n"
        await _until_gone(client, name)
        found = await asyncio.to_thread(_shown, name, environment)
        assert (found["state"], found["content"]) == ("DONE", "removed")
        again = await asyncio.to_thread(delivery, "remove", name, **environment)
        assert again.stdout == f"{name} is removed from its target\n"
        none = await asyncio.to_thread(delivery, "purge", "--older-than", "0h", **environment)
        assert none.stdout == "0 deliveries, 0 B, are being removed from targets\n"
        wrong = await asyncio.to_thread(delivery, "purge", "--older-than", "soon", **environment)
        assert wrong.returncode == 2
        assert "is no age such as 12h, 30d or 8w" in wrong.stderr


async def _until_gone(client: Client, name: str) -> None:
    async with asyncio.timeout(60):
        while await client.objects(name):
            await asyncio.sleep(0.2)


def _shown(name: str, environment: dict[str, str]) -> dict[str, Any]:
    """Return what is told of a delivery, once its content is removed."""
    while True:
        shown: dict[str, Any] = json.loads(delivery("show", name, "--json", **environment).stdout)
        if shown["content"] == "removed":
            return shown
