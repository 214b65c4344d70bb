"""What servers of the stack speak TLS with, where a test asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerTls:
    """A server's certificate, and what those who look whether it answers show to it."""

    ca: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path
