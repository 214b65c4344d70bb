"""SFTP servers for the tests: asyncssh's own in this process, and OpenSSH's as a child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from compose.embedded.processes import free_port, listens, running, start, wait_until
from compose.embedded.stack import ROOT
from sinks.stores.sftp.target import SftpTarget

USER, PASSWORD = "deliverer", "made-up password"


@dataclass(kw_only=True)
class SftpServer:
    """A server with a folder, and how to be let in."""

    port: int
    host_key: str  # its public key
    folder: Path  # of this machine, that the target's is
    path: str  # of the same, as the server calls it
    user: str = USER
    key: str | None = None
    password: str | None = None

    @property
    def target(self) -> SftpTarget:
        """The folder as a target."""
        return SftpTarget(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            host_key=self.host_key,
            path=self.path,
            key=self.key,
            password=self.password,
        )

    def file(self, url: str) -> Path:
        """Return the file that a URL of an object is about."""
        start = f"sftp://127.0.0.1:{self.port}{self.path}/"
        assert url.startswith(start)
        return self.folder / url.removeprefix(start)

    async def content(self, url: str) -> bytes:
        """Return the bytes of an object."""
        return await asyncio.to_thread(self.file(url).read_bytes)

    def left(self) -> list[str]:
        """Return all that is there, hidden or not."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


class Disk(asyncssh.SFTPServer):
    """What the server does with files; tests put in what happens before each request."""

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes], faults: Faults, root: Path) -> None:
        super().__init__(chan, chroot=os.fsencode(root))
        self.faults = faults

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in STEPS:
            return super().__getattribute__("faults").wrapped(name, found)
        return found


STEPS = frozenset(
    {"open", "close", "write", "read", "stat", "lstat", "setstat", "mkdir", "rmdir", "remove"}
    | {"rename", "posix_rename", "link", "fsync", "fstat", "scandir"}
)


@dataclass
class Faults:
    """What a server does instead of its work, and what it was asked for."""

    # Is told each step before it is taken; what it raises is answered. Awaited, if it is awaitable.
    before: Callable[[str, tuple[Any, ...]], Any] | None = None
    after: Callable[[str, tuple[Any, ...]], Any] | None = None
    between: Callable[[], Awaitable[None]] | None = None  # for what looks, and then acts
    steps: list[str] = field(default_factory=list)
    opened: list[Any] = field(default_factory=list)  # files: of a broken connection, some stay so

    def wrapped(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """Return a step with what comes before and after."""
        if name == "scandir":
            self.steps.append(name)
            return act

        async def step(*arguments: Any) -> Any:
            self.steps.append(name)
            await _called(self.before, name, arguments)
            done = act(*arguments)
            if asyncio.iscoroutine(done):
                done = await done
            if name == "open":
                self.opened.append(done)
            await _called(self.after, name, arguments)
            return done

        return step


async def _called(
    act: Callable[[str, tuple[Any, ...]], Any] | None, name: str, arguments: tuple[Any, ...]
) -> None:
    outcome = act(name, arguments) if act is not None else None
    if asyncio.iscoroutine(outcome):
        await outcome


class _LetIn(asyncssh.SSHServer):
    def __init__(self, keys: list[asyncssh.SSHKey], connections: set[Any], *, asks: bool) -> None:
        self._keys = keys
        self._asks = asks
        self._connections = connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connections.add(conn)

    def password_auth_supported(self) -> bool:
        return not self._asks

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)

    def kbdint_auth_supported(self) -> bool:
        return self._asks

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        return self.validate_password(username, responses[0])

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == USER and key in self._keys


@dataclass(kw_only=True)
class OwnServer(SftpServer):
    """asyncssh's server, whose faults tests choose."""

    faults: Faults = field(default_factory=Faults)
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)

    def break_connections(self) -> None:
        """Break off all of them."""
        for connection in self.connections:
            connection.abort()
        self.connections.clear()

    def break_off(self) -> None:
        """Break off all of them, and take no step in which that happens."""
        self.break_connections()
        raise asyncssh.SFTPFailure("broken off")


@contextlib.asynccontextmanager
async def own_server(
    folder: Path,
    *,
    disk: type[Disk] = Disk,
    host_keys: tuple[str, ...] = ("ssh-ed25519",),
    asks: bool = False,
) -> AsyncIterator[OwnServer]:
    """Run asyncssh's server on a folder, in which `archives` is the target's.

    Where it `asks`, it takes passwords as answers to a question alone, as servers with PAM do.
    """
    archives = folder / "archives"
    archives.mkdir(exist_ok=True)
    keys = [asyncssh.generate_private_key(kind) for kind in host_keys]
    own = asyncssh.generate_private_key("ssh-ed25519")
    server = OwnServer(
        port=free_port(),
        host_key=keys[0].export_public_key().decode().strip(),
        folder=archives,
        path="/archives",
        key=own.export_private_key().decode(),
    )
    async with await asyncssh.listen(
        "127.0.0.1",
        server.port,
        server_host_keys=keys,
        server_factory=lambda: _LetIn([own.convert_to_public()], server.connections, asks=asks),
        sftp_factory=lambda chan: disk(chan, server.faults, folder),
        allow_scp=False,
    ):
        yield server
        server.break_connections()
        for file in server.faults.opened:
            file.close()


def sshd() -> Path | None:
    """Return OpenSSH's server, if it is here: the machine's, or what `make setup` has unpacked."""
    places = (Path("/usr/sbin/sshd"), ROOT / ".tools/openssh/usr/sbin/sshd")
    return next((place for place in places if os.access(place, os.X_OK)), None)


@contextlib.asynccontextmanager
async def openssh(within: Path | None = None) -> AsyncIterator[SftpServer]:
    """Run OpenSSH's server for one user: that of this process, or an unprivileged one.

    So it needs no rights, and no user of its own. What it keeps lies `within` a folder.
    """
    program = sshd()
    assert program is not None
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with tempfile.TemporaryDirectory(prefix="openssh-", dir=within) as made:
        folder = Path(made)
        archives = folder / "archives"
        archives.mkdir()
        shutil.copy(program, folder / "sshd")  # where any user can run it
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name],
                check=True,
            )
        port = free_port()
        config = folder / "sshd_config"
        config.write_text(
            f"""
            ListenAddress 127.0.0.1
            Port {port}
            HostKey {folder}/host
            PidFile none
            AuthorizedKeysFile {folder}/user.pub
            StrictModes no
            UsePAM yes
            PasswordAuthentication no
            Subsystem sftp internal-sftp
            """
        )
        key, host_key = (folder / "user").read_text(), (folder / "host.pub").read_text().strip()
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
        child = start(
            "OpenSSH",
            [folder / "sshd", "-D", "-e", "-f", config],
            log=folder / "sshd.log",
            user=user.pw_name if os.geteuid() == 0 else None,
        )
        async with running(child):
            await wait_until(lambda: listens(port), child)
            yield SftpServer(
                port=port,
                host_key=host_key,
                folder=archives,
                path=str(archives),
                user=user.pw_name,
                key=key,
            )
