"""JSON as it is sent and appended."""

from __future__ import annotations

import json
from typing import Any


def dumps(value: Any) -> bytes:
    """Encode as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
