"""Each request that is made of a container, once, within a deadline; all else is made of these."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from azure.core import MatchConditions
from azure.storage.blob import BlobBlock, BlockState, ContentSettings, UserDelegationKey
from azure.storage.blob.aio import ContainerClient
from prometheus_client import Gauge

from app.delivery.object_store import CLOCK_SKEW, LinkAsked, PartBody
from app.errors import TargetRefusedError, WrongObjectError
from app.telemetry import tracing
from sinks.stores.azure.blocks import BlockId, StagedBlock
from sinks.stores.azure.breaker import SIGNS
from sinks.stores.azure.clients import AzureClients
from sinks.stores.azure.requests import (
    COMMIT_TIMEOUT,
    LOST_BLOCKS,
    NO_BLOB,
    NO_RANGE,
    NOT_MET,
    code_of,
    translate_errors,
)
from sinks.stores.azure.session import answers_closed
from sinks.stores.azure.target import AzureTarget
from sinks.stores.breaker import Breakers
from sinks.stores.deadlines import CALL_TIMEOUT, for_part


class NotMetError(Exception):
    """A request was not carried out: the blob is not as its condition says."""


class BlocksGoneError(Exception):
    """A list was not carried out: a block that it names is not staged any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A blob as Azure describes it."""

    version: str  # Azure's own ETag, which every change of it changes
    size: int  # bytes
    metadata: Mapping[str, str]


class AzureCalls:
    """Requests to Azure. A condition is the version that a blob must have; None: it must not be.

    Every one may raise TargetUnavailableError and TargetRefusedError.
    """

    def __init__(
        self,
        clients: AzureClients,
        *,
        up: Gauge | None = None,
        short: float = CALL_TIMEOUT,
        commit: float = COMMIT_TIMEOUT,
    ) -> None:
        self.clients = clients
        self.breakers = Breakers(self.look_at_container, SIGNS, up=up)
        self._short = short  # seconds
        self._commit = commit  # seconds

    @contextlib.asynccontextmanager
    async def _call(
        self,
        target: AzureTarget,
        verb: str,
        action: str,
        *,
        key: str = "",
        part: int | None = None,
        seconds: float | None = None,
    ) -> AsyncIterator[ContainerClient]:
        """Give the client for one call: every call goes through here, and tells the breaker."""
        async with self.clients.of(target) as client:
            with (
                _traced(verb, target, key, part),
                self.breakers.watching(target, quick=seconds is None),
                answers_closed(),
            ):
                async with translate_errors(target, action, seconds or self._short):
                    yield client

    def check_tenant(self, target: AzureTarget, marks: Mapping[str, str]) -> None:
        """Raise TargetForbiddenError where the tenant of the marks may put nothing."""
        self.clients.check_tenant(target, marks)

    async def look_at_container(self, target: AzureTarget) -> None:
        """Raise DeliveryError unless the container is there and may be listed."""
        async with self._call(target, "look", "look") as client:
            pages = client.list_blob_names(results_per_page=1).by_page()
            async for _ in pages:
                break

    async def names(self, target: AzureTarget, beginning: str) -> list[str]:
        """Return the names of the blobs that begin so."""
        async with self._call(target, "list", f"list {beginning}…", key=beginning) as client:
            return [name async for name in client.list_blob_names(name_starts_with=beginning)]

    async def describe(self, target: AzureTarget, name: str) -> Blob | None:
        """Describe a blob; None if there is none."""
        try:
            async with self._call(target, "find", f"describe {name}", key=name) as client:
                found = await client.get_blob_client(name).get_blob_properties()
        except TargetRefusedError as error:
            if code_of(error) in NO_BLOB:
                return None
            raise
        return Blob(version=found.etag, size=found.size, metadata=found.metadata or {})

    async def make_empty(self, target: AzureTarget, name: str, metadata: Mapping[str, str]) -> None:
        """Make an empty blob where there is none. Raises NotMetError."""
        with _conditional():
            async with self._call(target, "begin", f"begin {name}", key=name) as client:
                await client.get_blob_client(name).upload_blob(
                    b"",
                    length=0,
                    metadata=dict(metadata),
                    match_condition=MatchConditions.IfMissing,
                )

    async def set_metadata(
        self, target: AzureTarget, name: str, metadata: Mapping[str, str], *, version: str
    ) -> None:
        """Give a blob other metadata, and so another version. Raises NotMetError."""
        with _conditional(NO_BLOB):
            async with self._call(target, "mark", f"mark {name}", key=name) as client:
                await client.get_blob_client(name).set_blob_metadata(
                    dict(metadata), **_condition(version)
                )

    async def remove(self, target: AzureTarget, name: str, *, version: str | None = None) -> None:
        """Remove a blob, whichever version it has if none is named; one that is gone is fine.

        Raises NotMetError.
        """
        condition = {} if version is None else _condition(version)
        try:
            with _conditional():
                async with self._call(target, "delete", f"remove {name}", key=name) as client:
                    await client.get_blob_client(name).delete_blob(**condition)
        except TargetRefusedError as error:
            if code_of(error) not in NO_BLOB:
                raise

    async def stage(self, target: AzureTarget, name: str, block: BlockId, body: PartBody) -> None:
        """Stage a block; Azure compares its MD5. Raises WrongObjectError if it has other bytes."""

        # A generator is read once: no part of the libraries can send the request again.
        async def pieces() -> AsyncIterator[bytes | memoryview]:
            async for piece in body:
                yield piece

        async with self._call(
            target,
            "put part",
            f"take part {block.number} of {name}",
            key=name,
            part=block.number,
            seconds=for_part(len(body)),
        ) as client:
            told = await client.get_blob_client(name).stage_block(
                str(block),
                pieces(),  # type: ignore[arg-type] # what is iterated over asynchronously is sent so
                length=len(body),
                transactional_content_md5=bytearray(block.md5),
            )
        if (stored := told.get("content_md5")) is not None and bytes(stored) != block.md5:
            raise WrongObjectError(
                f"Azure stored part {block.number} of {name} as {bytes(stored).hex()}, sent was "
                f"{block.md5.hex()}"
            )

    async def staged(self, target: AzureTarget, name: str) -> list[StagedBlock]:
        """Return the blocks of ours that are staged under a name, and not committed."""
        try:
            async with self._call(
                target, "list parts", f"list parts of {name}", key=name
            ) as client:
                _, found = await client.get_blob_client(name).get_block_list("uncommitted")
        except TargetRefusedError as error:
            if code_of(error) in NO_BLOB:
                return []
            raise
        return [
            StagedBlock(id=read, size=block.size)
            for block in found
            if (read := BlockId.read(block.id)) is not None
        ]

    async def commit(
        self,
        target: AzureTarget,
        name: str,
        blocks: Sequence[BlockId],
        *,
        metadata: Mapping[str, str],
        media_type: str,
        md5: bytes | None = None,
        version: str | None = None,
        anyway: bool = False,
    ) -> None:
        """Make a blob of staged blocks; all others that are staged under its name are discarded.

        On a condition, unless `anyway`: raises NotMetError. Raises BlocksGoneError.
        """
        with _conditional(), _of_blocks():
            async with self._call(
                target, "complete", f"complete {name}", key=name, seconds=self._commit
            ) as client:
                await client.get_blob_client(name).commit_block_list(
                    [_uncommitted(block) for block in blocks],
                    content_settings=ContentSettings(
                        content_type=media_type,
                        content_md5=bytearray(md5) if md5 is not None else None,
                    ),
                    metadata=dict(metadata),
                    **({} if anyway else _condition(version)),
                )

    async def read(self, target: AzureTarget, name: str, *, size: int) -> list[bytes]:
        """Return the first bytes of a blob, in pieces; none if it is not there or empty."""
        found: list[bytes] = []
        try:
            async with self._call(
                target, "read aside", f"give {name}", key=name, seconds=for_part(size)
            ) as client:
                blob = client.get_blob_client(name)
                download = await blob.download_blob(offset=0, length=size)
                found.extend([piece async for piece in download.chunks()])
        except TargetRefusedError as error:
            if code_of(error) in NO_BLOB:
                return []
            raise
        return found

    async def read_range(
        self, target: AzureTarget, name: str, *, offset: int, length: int
    ) -> tuple[Blob | None, list[bytes]]:
        """Return some bytes of a blob, by one request, and what comes with them of it.

        None where it is not there, or has not as many.
        """
        try:
            async with self._call(
                target, "read", f"give {name}", key=name, seconds=for_part(length)
            ) as client:
                blob = client.get_blob_client(name)
                download = await blob.download_blob(offset=offset, length=length)
                pieces = [piece async for piece in download.chunks()]
                told = download.properties
        except TargetRefusedError as error:
            if code_of(error) in (*NO_BLOB, *NO_RANGE):
                return None, []
            raise
        found = Blob(version=told.etag, size=told.size, metadata=told.metadata or {})
        return found, pieces

    async def delegation_key(self, target: AzureTarget, asked: LinkAsked) -> UserDelegationKey:
        """Return a key that signs in the name of this service's identity, as long as is asked."""
        with _traced("sign", target, "", None), self.breakers.watching(target), answers_closed():
            async with (
                translate_errors(target, "give a key that signs links", self._short),
                self.clients.account(target) as account,
            ):
                # Azure's clock may be behind: a key that is not good yet signs nothing. A key is
                # good for 7 days from its start at most, which MAX_LINK leaves room for.
                start = asked.at - CLOCK_SKEW
                return await account.get_user_delegation_key(start, asked.until)

    async def aclose(self) -> None:
        """End all probes, close all clients."""
        await self.breakers.close()
        await self.clients.aclose()


def _traced(
    verb: str, target: AzureTarget, key: str, part: int | None = None
) -> AbstractContextManager[None]:
    """Trace a request."""
    return tracing.span(
        f"Azure {verb}",
        kind=tracing.CLIENT,
        attributes={
            "server.address": target.endpoint,
            "azure.container": target.container,
            "azure.blob": key,
            "azure.block_number": part,
        },
    )


def _uncommitted(block: BlockId) -> BlobBlock:
    return BlobBlock(str(block), BlockState.UNCOMMITTED)


def _condition(version: str | None) -> dict[str, Any]:
    if version is None:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": version, "match_condition": MatchConditions.IfNotModified}


@contextlib.contextmanager
def _conditional(also: Sequence[str] = ()) -> Iterator[None]:
    try:
        yield
    except TargetRefusedError as error:
        if code_of(error) in (*NOT_MET, *also):
            raise NotMetError from error
        raise


@contextlib.contextmanager
def _of_blocks() -> Iterator[None]:
    try:
        yield
    except TargetRefusedError as error:
        if code_of(error) in LOST_BLOCKS:
            raise BlocksGoneError(code_of(error)) from error
        raise
