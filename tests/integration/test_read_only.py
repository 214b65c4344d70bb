"""The service in what a container gives it: bubblewrap makes one of this machine's files.

The root is read-only, /tmp is in memory; the user has no name and no capabilities, and can gain
none. What is not played: limits of memory, a filter of system calls, and the image itself.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from compose.embedded.processes import Child, start
from compose.embedded.stack import ROOT, Stack, running_service
from tests.client import Client, contents, request_for

BOX = (
    "bwrap",
    *("--ro-bind", "/", "/", "--tmpfs", "/tmp"),  # noqa: S108 - its own
    *("--ro-bind", str(ROOT), str(ROOT)),
    *("--dev", "/dev", "--proc", "/proc"),
    *("--unshare-user", "--uid", "10001", "--gid", "10001", "--cap-drop", "ALL"),
    *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"),
    *("--setenv", "HOME", "/nonexistent", "--setenv", "LOGNAME", "delivery"),
    *("--setenv", "PYTHONDONTWRITEBYTECODE", "1", "--chdir", str(ROOT), "--"),
)
SEEN = """
import os, re
status = open("/proc/self/status").read()
print(os.getuid(), *re.findall(r"(?:CapEff|CapBnd|NoNewPrivs):\\s*(\\w+)", status))
for place in ("/", "/etc", "/var/tmp", os.getcwd()):
    try:
        open(os.path.join(place, "written"), "w")
    except OSError as error:
        print(place, error.strerror)
open("/tmp/written", "w")
"""


def in_box(arguments: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BOX, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: apt-get install bubblewrap")
    if why := in_box(["true"]).stderr:
        pytest.skip(f"bubblewrap makes no namespaces here: {why.strip()}")


def start_in_box(
    name: str,
    arguments: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    cwd: Path,
) -> Child:
    return start(name, [*BOX, *arguments], log=log, environment=environment, cwd=cwd)


running_in_box = functools.partial(running_service, start=start_in_box)


def test_the_box_is_as_little_as_a_container() -> None:
    seen = in_box([sys.executable, "-c", SEEN])
    assert seen.stderr == ""
    first, *others = seen.stdout.splitlines()
    assert first == f"10001 {'0' * 16} {'0' * 16} 1"
    assert len(others) == 4
    assert all(other.endswith("Read-only file system") for other in others)


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_a_process_delivers_and_lives_with_nothing_to_write_to(
    command: str,
    stack: Stack,
    apart: dict[str, str],
    client: Client,
    make_product: Callable[..., str],
) -> None:
    async with running_in_box(stack, command=command, extra=apart) as (child, url):
        body = request_for(make_product({"a.txt": b"from a box"}))
        await client.send(body)
        done = await client.wait_for(body["correlationId"], "DONE", "ERROR", seconds=120)
        assert done["status"] == "DONE", done
        assert contents(await client.fetch(done["url"])) == {"a.txt": b"from a box"}
        port = "DELIVERY_WORKER_PORT" if command == "worker" else "DELIVERY_WEB_PORT"
        environment = {**stack.environment, **apart, port: url.rpartition(":")[2]}
        told = await asyncio.to_thread(
            in_box, [sys.executable, "-m", "app.cli", "health"], **environment
        )
        assert (told.returncode, told.stdout) == (0, f"{url}/health/live answers\n"), told.stderr
        assert child.running
    assert "Traceback" not in child.log.read_text()
