"""A folder does what every store does."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest

from app.settings import Settings
from sinks.stores.file.managed import FileStore
from sinks.stores.file.target import FileTarget
from tests.contract.object_store import ObjectStoreContract, Place


def make_settings(root: Path, **more: object) -> Settings:
    """Return settings that allow a folder, which need not be mounted."""
    defaults = {"file_roots": (str(root),), "file_roots_are_mounted": False, "file_min_free": 0}
    return Settings(**(defaults | more))  # type: ignore[arg-type]


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
