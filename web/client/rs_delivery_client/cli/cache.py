"""What the service has told lately, kept for when it does not answer: only ever a help."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from rs_delivery_client.cli.place import Place


def read(place: Place, kind: str) -> Any:
    """Return what was kept last; None: nothing that can be read."""
    try:
        return json.loads(_path(place, kind).read_bytes())
    except (OSError, RuntimeError, ValueError):
        return None


def keep(place: Place, kind: str, content: Any) -> None:
    """Keep it, where no other user reads, in the place of what was kept before."""
    try:
        path = _path(place, kind)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(content, file)
        Path(name).replace(path)
    except (OSError, RuntimeError):
        return


def _path(place: Place, kind: str) -> Path:
    """Return where it is: by service and token, as each sees others'."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(f"{place.url}\0{place.token}".encode()).hexdigest()[:32]
    return Path(base) / "rs-delivery" / f"{kind}-{name}.json"
