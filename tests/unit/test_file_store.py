"""A folder does what every store does."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest

from app.settings import Settings
from sinks.stores.file.managed import FileStore
from sinks.stores.file.names import MARKER
from sinks.stores.file.target import FileTarget
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
