"""The `delivery` command, as an operator calls it."""

from __future__ import annotations

import os
import subprocess

from compose.embedded.processes import Child, wait_until
from compose.embedded.stack import ROOT
from tests import nursery


def delivery(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return nursery.run(
        "app.cli",
        arguments,
        environment=os.environ | {"DELIVERY_START_TIMEOUT": "1"} | environment,
        folder=ROOT,
        seconds=60,
    )


async def logged(child: Child, text: str, count: int = 1) -> None:
    """Return once a running program has logged something, so many times."""

    async def there() -> None:
        if child.output().count(text) < count:
            raise OSError(f"{text} was not logged yet")

    await wait_until(there, child)
