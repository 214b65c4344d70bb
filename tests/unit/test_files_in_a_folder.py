"""Files that are delivered as they are, on a shared file system."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.delivery.manifest import MANIFEST_NAME
from app.delivery.object_store import FoundObject, Upload
from sinks.stores.file.managed import FileStore
from sinks.stores.file.names import HIDDEN, MARKER, beside
from sinks.stores.file.target import FileTarget
from tests.contract.archiver import Making
from tests.contract.files import FilesContract
from tests.unit.test_archiver_contract import streaming
from tests.unit.test_file_store import make_settings


class Folder:
    """A folder's store, whatever target is named, and what there is: as a twin shows it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._store = FileStore(make_settings(root))
        self._target = FileTarget(path=str(root))

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._store, name)
        return lambda _, *arguments, **options: act(self._target, *arguments, **options)

    def objects(self, _: object) -> dict[str, Any]:
        """Return what is there, by key; not what calls that are under way have hidden."""
        found: dict[str, Any] = {}
        for folder, folders, files in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
            for path in (Path(folder) / name for name in files if name != MARKER):
                found[path.relative_to(self._root).as_posix()] = self._shown(path)
        return found

    def _shown(self, path: Path) -> Any:
        (note,) = (path.parent / beside(path.name)).glob("*.json")
        noted = json.loads(note.read_text())
        found = FoundObject(size=path.stat().st_size, etag=noted["etag"], marks=noted["marks"])
        content = path.read_bytes()  # of which a folder keeps no MD5
        md5 = hashlib.md5(content).hexdigest()
        return SimpleNamespace(
            content=content, found=found, media_type=noted["media_type"], md5=md5
        )

    def open(self) -> list[Upload]:
        """Return all uploads that are open.

        But those of files, whose calls may be under way in a thread as their delivery fails: what
        clears its folder ends them.
        """
        folder = self._root / "c" / beside(MANIFEST_NAME)
        said = {path.parent.stem: path.read_text() for path in folder.glob("*/about.json")}
        return [
            Upload(container=about["container"], key=about["key"], upload_id=upload_id)
            for upload_id, about in ((each, json.loads(text)) for each, text in said.items())
        ]


class TestInAFolder(FilesContract):
    """All that is asked of an archiver, where each file has a note beside it."""

    @pytest.fixture
    def making(self, tmp_path: Path) -> Making:
        """Files, a folder, and the archiver that streams."""
        store: Any = Folder(tmp_path)
        return Making(make=streaming, archive_name=MANIFEST_NAME, store=store)
