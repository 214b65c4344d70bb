"""An OpenID provider for tests: `oidc-provider`, a certified one, brought by npm.

A module of its own, as it takes Node.js, which the demo does not ask for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from compose.embedded.npm import NpmPackage
from compose.embedded.processes import (
    Server,
    free_port,
    listens,
    running,
    start,
    wait_until,
)

_PROVIDER = NpmPackage(
    name="oidc-provider",
    version="8.8.1",  # the newest for Node.js 20
    main=Path("oidc-provider", "lib", "index.js"),
)


def missing() -> str | None:
    """Return what it lacks to run here, in a sentence; None if nothing."""
    return _PROVIDER.missing()


@dataclass(frozen=True, kw_only=True)
class OidcProvider(Server):
    """Its issuer is `url`. Users have any name, which is their address, and any password."""

    file: Path  # of its settings, which it reads when it is started
    audience: str
    client: str  # a public one

    async def change(self, **settings: Any) -> None:
        """Start it again with other settings: `jwks`, `claims`."""
        changed = {**json.loads(self.file.read_text("utf-8")), **settings}
        self.file.write_text(json.dumps(changed), "utf-8")
        await self.restart()


@contextlib.asynccontextmanager
async def oidc_provider(
    folder: Path,
    *,
    jwks: Sequence[Mapping[str, Any]],
    claims: Mapping[str, Any],
    home: str,
    audience: str = "urn:rs-delivery",
    client: str = "rs-delivery-console",
    lifetime: int = 600,
) -> AsyncIterator[OidcProvider]:
    """Run it. It signs by the first of the private keys, and publishes all.

    `claims` are in each access token, beside the user; `home` is where users come back to; access
    tokens are good for `lifetime` seconds. Raises StackError naming what is missing.
    """
    library = await asyncio.to_thread(_PROVIDER.fetched)
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    said: dict[str, Any] = {
        "issuer": issuer,
        "port": port,
        "jwks": {"keys": [*jwks]},
        "audience": audience,
        "client": client,
        "home": home,
        "claims": claims,
        "lifetime": lifetime,
    }
    file = folder / "oidc-provider.json"
    file.write_text(json.dumps(said), "utf-8")
    script = Path(__file__).with_suffix(".mjs")
    child = start("oidc-provider", ["node", script, library, file], log=folder / "oidc.log")
    async with running(child):
        answers = partial(listens, port)
        await wait_until(answers, child)
        yield OidcProvider(
            url=issuer,
            child=child,
            answers=answers,
            file=file,
            audience=audience,
            client=client,
        )
