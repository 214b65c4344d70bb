"""The places where archives may be put: for each a server that costs little, our store, and a copy.

A place is told to the process that transfers as JSON: what is noted of a target.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncssh
from azure.storage.blob import BlobBlock
from azure.storage.blob.aio import BlobServiceClient

from app.delivery.object_store import ObjectStore
from app.delivery.targets import Target
from app.settings import Settings
from sinks.stores.azure import managed as azure
from sinks.stores.azure.target import AzureTarget
from sinks.stores.file.managed import FileStore
from sinks.stores.file.names import MARKER
from sinks.stores.file.target import FileTarget
from sinks.stores.gcs import managed as gcs
from sinks.stores.gcs.calls import MAX_SOURCES
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.gcs.tokens import AccountTokens
from sinks.stores.s3 import managed as s3
from sinks.stores.s3.target import S3Target
from sinks.stores.sftp import managed as sftp
from sinks.stores.sftp.target import SftpTarget
from tests import gcs_account
from tests.bench.processes import server
from tests.bench.upload import PART, Sending, to_s3
from tests.sftp_server import openssh


@dataclass(frozen=True, kw_only=True)
class Place:
    """One kind of target."""

    # Runs its server, where it needs one, with a folder for what is kept; gives the target.
    serve: Callable[[Path], AbstractContextManager[Target]]
    read: Callable[..., Target]  # with what is noted of one
    open: Callable[[Any], AbstractAsyncContextManager[ObjectStore[Any]]]
    # Gives what brings an object there in parts, as a program would that has no more to do.
    copy: Callable[[Any, str], AbstractAsyncContextManager[Sending]]
    # The same, and reads back what it has written, as ours does where nothing else compares it.
    copy_read_back: Callable[[Any, str], AbstractAsyncContextManager[Sending]] | None = None


def told(target: Target) -> str:
    """Return a target as `target_at` reads it."""
    return json.dumps(target.noted())


def target_at(place: Place, text: str) -> Target:
    """Return the target that was told."""
    noted = json.loads(text)
    noted.pop("kind", None)
    return place.read(**noted)


def s3_at(address: str) -> S3Target:
    """Return the bucket of a server of ours."""
    return S3Target(endpoint=address, region="eu-west-1", bucket="bench", key="k", secret="s")


@contextlib.contextmanager
def _s3(_folder: Path) -> Iterator[Target]:
    with server("null_s3") as address:
        yield s3_at(address)


@contextlib.contextmanager
def _azure(_folder: Path) -> Iterator[Target]:
    with server("null_azure") as address:
        yield AzureTarget(endpoint=f"{address}/a", account="a", container="bench", key="a2V5")


@contextlib.contextmanager
def _gcs(_folder: Path) -> Iterator[Target]:
    with server("null_gcs") as address:
        yield GcsTarget(endpoint=address, container="bench", credentials=gcs_account.credentials())


@contextlib.contextmanager
def _file(folder: Path) -> Iterator[Target]:
    (folder / MARKER).touch()
    yield FileTarget(path=str(folder))


@contextlib.contextmanager
def _sftp(folder: Path) -> Iterator[Target]:
    with asyncio.Runner() as runner:
        running = openssh(folder)
        started = runner.run(running.__aenter__())
        try:
            yield started.target
        finally:
            runner.run(running.__aexit__(None, None, None))


@contextlib.asynccontextmanager
async def _to_bucket(target: S3Target, key: str) -> AsyncIterator[Sending]:
    async with to_s3(target.endpoint, key) as sending:
        yield sending


@contextlib.asynccontextmanager
async def _to_container(target: AzureTarget, key: str) -> AsyncIterator[Sending]:
    assert target.key is not None
    blocks: dict[int, BlobBlock] = {}
    credential = {"account_name": target.account, "account_key": target.key}
    async with BlobServiceClient(target.endpoint, credential) as client:
        blob = client.get_blob_client(target.container, key)

        async def put(number: int, part: bytes) -> None:
            blocks[number] = BlobBlock(f"{number:08}")
            await blob.stage_block(blocks[number].id, part)

        async with Sending.by(put) as sending:
            yield sending
        await blob.commit_block_list([block for _, block in sorted(blocks.items())])


@contextlib.asynccontextmanager
async def _to_google(target: GcsTarget, key: str) -> AsyncIterator[Sending]:
    """Put parts as objects, and compose one of all: no other way takes several at once."""
    token = await AccountTokens(target.credentials).token()
    signed = {"Authorization": f"Bearer {token}"}
    bucket = f"{target.endpoint}/storage/v1/b/{target.container}/o"
    names: dict[int, str] = {}
    async with aiohttp.ClientSession(headers=signed, raise_for_status=True) as session:

        async def put(number: int, part: bytes) -> None:
            name = f"{key}.{number}"
            asked = {"uploadType": "media", "name": name}
            url = f"{target.endpoint}/upload/storage/v1/b/{target.container}/o"
            async with session.post(url, params=asked, data=part):
                names[number] = name

        async def compose(name: str, sources: list[str]) -> str:
            body = {"sourceObjects": [{"name": source} for source in sources], "destination": {}}
            async with session.post(f"{bucket}/{quote(name, safe='')}/compose", json=body):
                return name

        async with Sending.by(put) as sending:
            yield sending
        left = [name for _, name in sorted(names.items())]
        while len(left) > MAX_SOURCES:
            some = [left[n : n + MAX_SOURCES] for n in range(0, len(left), MAX_SOURCES)]
            left = [await compose(f"{sources[0]}+", sources) for sources in some]
        await compose(key, left)


@contextlib.asynccontextmanager
async def _to_folder(
    target: FileTarget, key: str, *, read_back: bool = False
) -> AsyncIterator[Sending]:
    made = Path(target.path, key)
    made.parent.mkdir(parents=True, exist_ok=True)
    unfinished = made.with_name(".unfinished")
    with unfinished.open("wb+") as file:

        def write(number: int, part: bytes) -> None:
            offset = (number - 1) * PART
            os.pwrite(file.fileno(), part, offset)
            if read_back:
                os.fdatasync(file.fileno())
                assert os.pread(file.fileno(), len(part), offset) == part

        async def put(number: int, part: bytes) -> None:
            await asyncio.to_thread(write, number, part)

        async with Sending.by(put) as sending:
            yield sending
        await asyncio.to_thread(os.fsync, file.fileno())
    unfinished.rename(made)


@contextlib.asynccontextmanager
async def _to_server(target: SftpTarget, key: str) -> AsyncIterator[Sending]:
    assert target.key is not None
    async with (
        asyncssh.connect(
            target.host,
            target.port,
            username=target.user,
            client_keys=[asyncssh.import_private_key(target.key)],
            known_hosts=([asyncssh.import_public_key(target.host_key)], [], []),
            config=[],
        ) as connection,
        connection.start_sftp_client() as client,
    ):
        made = PurePosixPath(target.path, key)
        unfinished = made.with_name(".unfinished")
        await client.makedirs(made.parent, exist_ok=True)
        async with client.open(unfinished, "wb") as file:

            async def put(number: int, part: bytes) -> None:
                await file.write(part, (number - 1) * PART)

            async with Sending.by(put) as sending:
                yield sending
        await client.posix_rename(unfinished, made)


@contextlib.asynccontextmanager
async def _folders(target: FileTarget) -> AsyncIterator[ObjectStore[Any]]:
    settings = Settings(file_roots=(target.path,), file_min_free=0)
    async with contextlib.aclosing(FileStore(settings)) as store:
        yield store


PLACES = {
    "s3": Place(serve=_s3, read=S3Target, open=lambda _: s3.open_store(), copy=_to_bucket),
    "azure": Place(
        serve=_azure, read=AzureTarget, open=lambda _: azure.open_store(), copy=_to_container
    ),
    "gcs": Place(serve=_gcs, read=GcsTarget, open=lambda _: gcs.open_store(), copy=_to_google),
    "file": Place(
        serve=_file,
        read=FileTarget,
        open=_folders,
        copy=_to_folder,
        copy_read_back=partial(_to_folder, read_back=True),
    ),
    "sftp": Place(serve=_sftp, read=SftpTarget, open=lambda _: sftp.open_store(), copy=_to_server),
}
