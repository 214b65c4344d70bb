"""A folder on an SFTP server: what tenants set of it, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel

from app.delivery.targets import Noted
from app.network.hosts import endpoint_of, server_of
from app.settings import Settings
from sinks.stores.sftp.settings import SftpSettings

_PLAIN = "/:@!$&'()*+,;=~"  # what a path of a URL may hold beside letters, digits, - . and _
ADVICE = "choose another host, or ask the operator to add it to DELIVERY_S3_ALLOWED_HOSTS"


@dataclass(frozen=True, kw_only=True, slots=True)
class SftpTarget(Noted):
    """See `app.delivery.targets.Target`."""

    kind: ClassVar[str] = "sftp"
    settings: ClassVar[type[BaseModel]] = SftpSettings

    host: str
    port: int = 22
    user: str
    host_key: str  # a public key, or a fingerprint: `HostKey.read`
    path: str  # of the folder, from the server's root on; without / at its end, unless it is that
    key: str | None = field(default=None, repr=False)  # a private key, in OpenSSH's or PEM form
    password: str | None = field(default=None, repr=False)
    prefix: str = ""  # of every key; ends with / unless empty

    def __str__(self) -> str:
        return f"folder {self.path} at {self.endpoint}"

    @property
    def endpoint(self) -> str:
        """The server, as its user sees it: what is / to one may be a folder of its own."""
        return self._server.replace("://", f"://{quote(self.user, safe='')}@", 1)

    @property
    def _server(self) -> str:
        return endpoint_of({"scheme": "sftp", "host": self.host, "port": self.port})

    @property
    def namespace(self) -> str:
        """Host and port: what one user sees as /a may be another's /b, so all are locked alike."""
        return server_of(self.endpoint)

    @property
    def container(self) -> str:
        """The folder, as it stands in URLs."""
        return self.path.strip("/") or "/"

    @property
    def leftovers(self) -> str:
        """What ends uploads that were left open."""
        return "hidden folders beside the archives, named .….rs-delivery-…, may be removed"

    @property
    def opened_with(self) -> Mapping[str, str]:
        """Return nothing: all is kept in one way."""
        return {}

    def url_of(self, key: str) -> str:
        """Return what clients call the object: it names no user.

        Names are written as they must be in a URL.
        """
        path = "/".join(part for part in (self.path.strip("/"), key) if part)
        return f"{self._server}/{quote(path, safe=_PLAIN)}"

    def noted(self) -> dict[str, Any]:
        """Return all fields, and the kind."""
        return {"kind": self.kind} | asdict(self)

    @classmethod
    def configured(cls, place: Mapping[str, Any]) -> SftpTarget:
        """Read an entry of `delivery_targets`."""
        prefix = (place.get("prefix") or "").strip("/")
        return cls(
            host=place["host"],
            port=place.get("port", 22),
            user=place["user"],
            host_key=place["host_key"],
            path=place["path"].rstrip("/") or "/",
            key=place.get("key"),
            password=place.get("password"),
            prefix=f"{prefix}/" if prefix else "",
        )

    @classmethod
    def flaw_of(cls, place: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:
        """Judge its host; the address that this leads to is judged at each connection."""
        flaw = settings.allowed_hosts.flaw_of(endpoint_of({"scheme": "sftp", "port": 22, **place}))
        return None if flaw is None else ("host", f"{flaw}: {ADVICE}")
