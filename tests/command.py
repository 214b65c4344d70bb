"""The `delivery` command, as an operator calls it."""

from __future__ import annotations

import os
import subprocess
import sys

from compose.embedded.processes import Child, wait_until
from compose.embedded.stack import ROOT


def delivery(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env=os.environ | {"DELIVERY_START_TIMEOUT": "1"} | environment,
    )


async def logged(child: Child, text: str, count: int = 1) -> None:
    """Return once a running program has logged something, so many times."""

    async def there() -> None:
        if child.log.read_text().count(text) < count:
            raise OSError(f"{text} was not logged yet")

    await wait_until(there, child)
