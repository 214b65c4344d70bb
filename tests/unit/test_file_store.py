"""A folder does what every store does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest

from app.delivery.marks import marks_of
from app.settings import Settings
from sinks.pipeline.parts import Part
from sinks.stores.file.managed import FileStore
from sinks.stores.file.names import MARKER, beside
from sinks.stores.file.system import System
from sinks.stores.file.target import FileTarget
from tests.builders import at_any_time, make_delivery
from tests.contract.object_store import ObjectStoreContract, Place


def make_settings(root: Path, **more: object) -> Settings:
    """Return settings that allow a folder, which is marked if it is there."""
    if root.is_dir():
        mark(root)
    return Settings(**({"file_roots": (str(root),), "file_min_free": 0} | more))  # type: ignore[arg-type]


def mark(*roots: Path) -> None:
    """Do what an operator does once their file systems are mounted."""
    for root in roots:
        (root / MARKER).touch()


def left_in(folder: Path) -> list[str]:
    """Return what there is in a folder, and in all below it, but for its mark."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in names if name != MARKER)


async def content_of(url: str) -> bytes:
    """Return what a `file:` URL names."""
    return Path(unquote(urlsplit(url).path)).read_bytes()


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """A key in a folder of the test's own."""
    (tmp_path / "archives").mkdir()
    return Place(
        store=FileStore(make_settings(tmp_path)),
        target=FileTarget(path=f"{tmp_path}/archives"),
        kind=FileTarget,
        missing=FileTarget(path=f"{tmp_path}/gone"),
        content=content_of,
        key=f"{uuid4().hex}/a.zip",
    )


class TestFile(ObjectStoreContract):
    """All that is asked of every store."""


class Counting(System):
    """Counts what it is asked for, and the names that it tells of."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name != "calls":
            self.calls[name] += 1
        return super().__getattribute__(name)

    def names(self, folder: int) -> list[str]:
        found = super().names(folder)
        self.calls["told"] += len(found)
        return found


async def test_a_file_costs_the_same_however_many_there_are(tmp_path: Path) -> None:
    """So a delivery of many files in one folder takes as much for each of them."""
    system = Counting()
    store = FileStore(make_settings(tmp_path), system=system)
    target, marks = FileTarget(path=str(tmp_path)), marks_of(make_delivery())
    costs: list[Counter[str]] = []
    for name in ("first", "second", "last"):
        if name == "last":
            for number in range(1000):
                key = f"c/{number}.tif"
                (tmp_path / key).touch()
                (tmp_path / "c" / beside(key)).mkdir()  # what is noted of it
        for _ in range(2):  # it is put, and then replaced
            system.calls.clear()
            key = f"c/{name}.tif"
            await store.put_object(
                target, key, Part.of(b"x"), marks, media_type="image/tiff", may=at_any_time
            )
            assert await store.find(target, key) is not None
            assert await store.open_uploads(target, key) == []
            costs.append(system.calls.copy())
    assert costs[2:4] == costs[4:6]
