"""What a file is called where it is saved: the header `Content-Disposition` (RFC 6266)."""

from __future__ import annotations

import re
from urllib.parse import quote

# What a quoted text of ASCII may hold there; what is told beside it is the whole name.
_OTHER = re.compile(r"[^A-Za-z0-9 !#$&'()+,.=@\[\]^_`{}~-]")


def attachment(name: str) -> str:
    """Return the header's value: the file is saved, never shown, under its last name."""
    last = name.rpartition("/")[2] or "download"
    plain = _OTHER.sub("_", last)
    told = f'attachment; filename="{plain}"'
    return told if plain == last else f"{told}; filename*=UTF-8''{quote(last, safe='')}"
