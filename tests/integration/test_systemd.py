"""The units of compose/systemd, started by a real systemd in namespaces of its own.

It sees this machine's files; what it writes to is gone with it. Limits of memory are not played:
they need control groups that a machine may keep to itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest
from yarl import URL

from compose.embedded.processes import Child, free_port, running, start, wait_until
from compose.embedded.stack import ROOT, Stack
from tests.client import Client, contents, request_for

UNITS = ROOT / "compose" / "systemd"
SYSTEMD = Path("/lib/systemd/systemd")
# What a machine has, and units are ordered by; empty ones here, as nothing else is to be started.
TARGETS = ("basic", "multi-user", "network-online", "shutdown", "sysinit")
NAMESPACES = ("--mount", "--pid", "--uts", "--cgroup", "--ipc")
# Those of the secrets that addresses of the embedded stack have in them.
ADDRESSES = {"amqp-password": "DELIVERY_AMQP_URL", "database-password": "DELIVERY_DATABASE_URL"}

INIT = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
umount -R -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
for place in etc opt; do
    mkdir -p "/run/$place/upper" "/run/$place/work"
    mount -t overlay -o "lowerdir=/$place,upperdir=/run/$place/upper,workdir=/run/$place/work" \\
        overlay "/$place"
done
cp -r "$PLAYED/etc/." /etc/rs-delivery
chmod -R go= /etc/rs-delivery
mkdir -p /opt/python /opt/src /opt/site /opt/rs-delivery/bin
mount --bind "$PLAYED_PYTHON" /opt/python
mount --bind "$PLAYED_SOURCE" /opt/src
mount --bind "$PLAYED_SITE" /opt/site
cp "$PLAYED/delivery" /opt/rs-delivery/bin/delivery
# As at a boot: a unit's credentials are mounted by a child of systemd, for systemd to find.
mount --make-rshared /
exec "$PLAYED_SYSTEMD" --system --unit=basic.target --log-target=console --show-status=no
"""
# Stands for the program of a virtual environment, whose Python may be where a unit can't look.
PROGRAM = f"""#!/bin/sh
PYTHONPATH=/opt/src:/opt/src/web/client:/opt/site
LD_LIBRARY_PATH=/opt/python/lib
export PYTHONPATH LD_LIBRARY_PATH
exec /opt/python/bin/python{sysconfig.get_python_version()} -m app.cli "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A systemd, and how it is told what to do."""

    child: Child
    pid: int

    async def ctl(self, *arguments: str) -> str:
        """Call systemctl there. Raises CalledProcessError."""
        entered = ("nsenter", "--target", str(self.pid), *NAMESPACES)
        done = await asyncio.to_thread(
            subprocess.run,
            [*entered, "systemctl", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr}\n{self.child.tail(60)}"
        return done.stdout

    async def shown(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit."""
        told = await self.ctl("show", unit, *(f"--property={name}" for name in names))
        return dict(line.split("=", 1) for line in told.splitlines())


def secrets_apart(environment: dict[str, str]) -> dict[str, str]:
    """Take the secrets out of an environment, as credentials by their names."""
    found = {}
    for name, variable in ADDRESSES.items():
        url = URL(environment[variable])
        found[name] = url.password or "none"
        environment[variable] = str(url.with_password(None))
    for name in ("rs-order-token-secret", "secret-keys", "s3-key", "s3-secret"):
        found[name] = environment.pop("DELIVERY_" + name.upper().replace("-", "_"))
    return found


def can_play() -> str:
    """Return why a systemd can't be played here; empty if it can."""
    missing = [name for name in ("unshare", "nsenter", "systemctl") if not shutil.which(name)]
    if not SYSTEMD.exists():
        missing.append("systemd")
    if missing:
        return f"{', '.join(missing)} not installed"
    if os.geteuid() != 0:
        return "only root may make the namespaces that systemd takes"
    tried = "mount --make-rprivate / && mount -t cgroup2 none /mnt && mount -t overlay -o "
    tried += "lowerdir=/etc:/opt overlay /mnt"
    done = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "--mount-proc", "sh", "-c", tried],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces for systemd here: {done.stderr.strip()}" if done.returncode else ""


@pytest.fixture
async def machine(
    stack: Stack, apart: dict[str, str], tmp_path: Path
) -> AsyncIterator[tuple[Machine, dict[str, str]]]:
    """A systemd with the units, and settings of the embedded stack; nothing is started yet."""
    if why := can_play():
        pytest.skip(why)
    units, etc = tmp_path / "units", tmp_path / "etc"
    shutil.copytree(UNITS, units, ignore=shutil.ignore_patterns("*.env"))
    # There is no journal.
    log = f"[Service]\nStandardOutput=append:{tmp_path}/log\nStandardError=inherit\n"
    (units / "rs-delivery-.service.d" / "played.conf").write_text(log)
    for name in TARGETS:
        (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    environment = {**stack.environment, **apart, "DELIVERY_WEB_PORT": str(free_port())}
    (etc / "credentials").mkdir(parents=True)
    for name, secret in secrets_apart(environment).items():
        (etc / "credentials" / name).write_text(secret + "\n")
    lines = [f'{name}="{value}"\n' for name, value in environment.items()]
    (etc / "rs-delivery.env").write_text("".join(lines))
    (tmp_path / "delivery").write_text(PROGRAM)
    (tmp_path / "delivery").chmod(0o755)
    child = start(
        "systemd",
        ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", "sh", "-c", INIT],
        log=tmp_path / "log",
        environment={
            "container": "namespaces",
            "SYSTEMD_UNIT_PATH": str(units),
            "PLAYED": str(tmp_path),
            "PLAYED_PYTHON": sys.base_prefix,
            "PLAYED_SOURCE": str(ROOT),
            "PLAYED_SITE": sysconfig.get_path("purelib"),
            "PLAYED_SYSTEMD": str(SYSTEMD),
        },
        stop_signal="SIGKILL",
    )
    async with running(child):
        found = Machine(child=child, pid=await systemd_of(child))
        yield found, environment
        if found.child.running:
            with contextlib.suppress(AssertionError):
                await found.ctl("stop", "rs-delivery-*")


async def systemd_of(child: Child) -> int:
    """Return the process, once it takes commands."""
    pids: list[int] = []

    async def there() -> None:
        for process in psutil.Process(child.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                inside = Path(f"/proc/{process.pid}/root/run/systemd/private")
                if process.name() == "systemd" and inside.exists():
                    pids.append(process.pid)
                    return
        raise OSError("systemd is not there yet")

    await wait_until(there, child)
    return pids[0]


def status_of(machine: Machine, pid: str) -> dict[str, str]:
    """Return what the kernel tells of a process, by its id there."""
    lines = Path(f"/proc/{machine.pid}/root/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def test_a_worker_and_the_http_server_are_started_deliver_and_are_stopped(
    machine: tuple[Machine, dict[str, str]], client: Client, make_product: Callable[..., str]
) -> None:
    systemd, environment = machine
    units = ("rs-delivery-worker@1.service", "rs-delivery-web.service")
    await systemd.ctl("start", *units)  # returns when both have told that they work
    for unit in units:
        told = await systemd.shown(unit, "SubState", "MainPID", "NotifyAccess", "WatchdogUSec")
        assert told["SubState"] == "running"
        status = status_of(systemd, told["MainPID"])
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert "0" not in status["Uid"].split()
        assert told["WatchdogUSec"] == "1min"
    body = request_for(make_product({"a.txt": b"by systemd"}))
    await client.send(body)
    done = await client.wait_for(body["correlationId"], "DONE", "ERROR", seconds=120)
    assert done["status"] == "DONE", done
    assert contents(await client.fetch(done["url"])) == {"a.txt": b"by systemd"}
    url = f"http://127.0.0.1:{environment['DELIVERY_WEB_PORT']}"
    async with aiohttp.ClientSession(url) as http:
        assert (await http.get("/health/ready")).status == 200
    await systemd.ctl("stop", *units)
    for unit in units:
        told = await systemd.shown(unit, "ActiveState", "Result", "ExecMainStatus")
        assert told == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}


async def test_a_mistake_in_a_setting_is_not_started_again(
    machine: tuple[Machine, dict[str, str]], tmp_path: Path
) -> None:
    systemd, _ = machine
    drop_in = tmp_path / "units" / "rs-delivery-web.service.d"
    drop_in.mkdir()
    (drop_in / "wrong.conf").write_text("[Service]\nEnvironment=DELIVERY_LOG_LEVEL=loud\n")
    await systemd.ctl("daemon-reload")
    with pytest.raises(AssertionError):
        await systemd.ctl("start", "rs-delivery-web.service")
    told = await systemd.shown("rs-delivery-web.service", "ActiveState", "ExecMainStatus")
    assert told == {"ActiveState": "failed", "ExecMainStatus": "2"}
    assert "DELIVERY_LOG_LEVEL: " in systemd.child.log.read_text()
