"""Google Cloud Storage's rules for one bucket, without a server: what is asked of `GcsCalls`.

Each request is carried out as a whole when its turn has come; what a request does, and when, is the
test's.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.delivery.object_store import PartBody
from sinks.stores.gcs.calls import NONE, NotMetError, Stored
from sinks.stores.gcs.target import GcsTarget
from tests.unit.every_order import Model

TARGET = GcsTarget(container="b", credentials="identity")


@dataclass(kw_only=True)
class GcsModel(Model):
    """A bucket."""

    objects: dict[str, Stored] = field(default_factory=dict)
    names_given: list[str] = field(default_factory=list)
    generations: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def _check(self, name: str, generation: str | None) -> None:
        there = self.objects.get(name)
        if generation not in (None, NONE if there is None else there.generation):
            raise NotMetError

    def check_tenant(self, target: GcsTarget, marks: Mapping[str, str]) -> None:
        """Let every tenant."""

    async def listed(self, target: GcsTarget, beginning: str) -> list[Stored]:
        await self.turn()
        return [stored for name, stored in self.objects.items() if name.startswith(beginning)]

    async def names(self, target: GcsTarget, beginning: str) -> list[str]:
        await self.turn()
        found = [name for name in self.objects if name.startswith(beginning)]
        parted = [name.removeprefix(beginning).partition("/") for name in found]
        return [*dict.fromkeys(f"{beginning}{first}{slash}" for first, slash, _ in parted)]

    async def describe(self, target: GcsTarget, name: str) -> Stored | None:
        await self.turn()
        return self.objects.get(name)

    async def insert(
        self,
        target: GcsTarget,
        name: str,
        body: PartBody,
        *,
        verb: str,
        action: str,
        media_type: str,
        metadata: Mapping[str, str] | None = None,
        generation: str | None = None,
        part: int | None = None,
    ) -> None:
        await self.turn()
        self._check(name, generation)
        self.names_given.append(name)
        self.objects[name] = Stored(
            name=name,
            generation=str(next(self.generations)),
            size=len(body),
            crc32c=0,
            md5=hashlib.md5(body.read()).digest(),
            metadata=dict(metadata or {}),
            media_type=media_type,
        )

    async def compose(
        self,
        target: GcsTarget,
        name: str,
        sources: Sequence[Stored],
        *,
        media_type: str,
        metadata: Mapping[str, str] | None = None,
        generation: str,
    ) -> Stored:
        await self.turn()
        assert 1 <= len(sources) <= 32
        for source in sources:
            self._check(source.name, source.generation)
        self._check(name, generation)
        self.names_given.append(name)
        self.objects[name] = Stored(
            name=name,
            generation=str(next(self.generations)),
            size=sum(source.size for source in sources),
            crc32c=0,
            metadata=dict(metadata or {}),
            media_type=media_type,
        )
        return self.objects[name]

    async def remove(self, target: GcsTarget, name: str, *, generation: str | None = None) -> None:
        await self.turn()
        if name in self.objects:
            self._check(name, generation)
        self.objects.pop(name, None)
