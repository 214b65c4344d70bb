"""Azure's rules for one container, without a server: what a request does, and when, is the test's.

What is asked of `AzureCalls`, each request carried out as a whole when its turn has come.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.delivery.object_store import PartBody
from app.errors import TargetRefusedError
from sinks.stores.azure.blocks import BlockId, StagedBlock
from sinks.stores.azure.calls import Blob, BlocksGoneError, NotMetError
from sinks.stores.azure.target import AzureTarget
from tests.unit.every_order import Model

TARGET = AzureTarget(
    endpoint="https://a.blob.core.windows.net", account="a", container="c", key="a2V5"
)


@dataclass(kw_only=True)
class AzureModel(Model):
    """A container."""

    may_remove: bool = True
    blobs: dict[str, Blob] = field(default_factory=dict)
    blocks: dict[str, dict[BlockId, StagedBlock]] = field(default_factory=dict)  # by name
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def _version(self) -> str:
        return f'"v{next(self._versions)}"'

    def _check(self, name: str, version: str | None) -> None:
        there = self.blobs.get(name)
        if (there.version if there else None) != version:
            raise NotMetError

    def check_tenant(self, target: AzureTarget, marks: Mapping[str, str]) -> None:
        """Let every tenant."""

    async def names(self, target: AzureTarget, beginning: str) -> list[str]:
        await self.turn()
        return sorted(name for name in self.blobs if name.startswith(beginning))

    async def describe(self, target: AzureTarget, name: str) -> Blob | None:
        await self.turn()
        return self.blobs.get(name)

    async def make_empty(self, target: AzureTarget, name: str, metadata: Mapping[str, str]) -> None:
        await self.turn()
        self._check(name, None)
        self.blobs[name] = Blob(version=self._version(), size=0, metadata=dict(metadata))

    async def set_metadata(
        self, target: AzureTarget, name: str, metadata: Mapping[str, str], *, version: str
    ) -> None:
        await self.turn()
        self._check(name, version)
        self.blobs[name] = replace(
            self.blobs[name], version=self._version(), metadata=dict(metadata)
        )

    async def remove(self, target: AzureTarget, name: str, *, version: str | None = None) -> None:
        await self.turn()
        if not self.may_remove:
            raise TargetRefusedError(f"Azure refused to remove {name}")
        if version is not None and name in self.blobs:
            self._check(name, version)
        self.blobs.pop(name, None)

    async def stage(self, target: AzureTarget, name: str, block: BlockId, body: PartBody) -> None:
        await self.turn()
        self.blocks.setdefault(name, {})[block] = StagedBlock(id=block, size=len(body))

    async def staged(self, target: AzureTarget, name: str) -> list[StagedBlock]:
        await self.turn()
        return [*self.blocks.get(name, {}).values()]

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
        await self.turn()
        if not anyway:
            self._check(name, version)
        staged = self.blocks.get(name, {})
        if any(block not in staged for block in blocks):
            raise BlocksGoneError("InvalidBlockList")
        size = sum(staged[block].size for block in blocks)
        self.blobs[name] = Blob(version=self._version(), size=size, metadata=dict(metadata))
        self.blocks.pop(name, None)
