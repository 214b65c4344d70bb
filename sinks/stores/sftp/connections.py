"""Connections to SFTP servers: one for each target, shared by all its calls.

What the machine has for its own users (`~/.ssh`, agents, known hosts) is never looked at: a target
names its host key and signs in with what it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from app.errors import TargetRefusedError, TargetUnavailableError
from app.network.hosts import AllowedHosts
from sinks.stores.sftp.host_key import HostKey
from sinks.stores.sftp.requests import LOST, forbidden, said
from sinks.stores.sftp.target import SftpTarget

_IDLE_TIMEOUT = 60.0  # seconds without a call, after which a connection is closed
_CONNECT_TIMEOUT = 5.0  # seconds for each address
_LOGIN_TIMEOUT = 15.0  # seconds
_OPEN_TIMEOUT = 20.0  # seconds for all of it
# Without what a server could choose to keep this process busy: groups of its own making, or of 6144
# bits and more.
_KEY_EXCHANGES = (
    "-diffie-hellman-group-exchange-*,diffie-hellman-group17-*,diffie-hellman-group18-*,rsa2048-*"
)
# With the processors' own instructions it takes half of what ChaCha20 does, which comes first else.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"


@dataclass(kw_only=True, eq=False)
class _Open:
    """A connection that is open.

    What asks for little has a session of its own: it would wait behind what others send, for longer
    than it may, where a line is slow. Where a server opens one only, both are the same.
    """

    connection: asyncssh.SSHClientConnection
    bulk: asyncssh.SFTPClient
    small: asyncssh.SFTPClient
    calls: int = 0  # that are under way
    answered: int = 0  # calls


@dataclass
class _Line:
    """The way to one server, as one user."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    open: _Open | None = None
    retired: set[_Open] = field(default_factory=set)  # that serve what they have begun, no more
    calls: int = 0  # that are under way
    closing: asyncio.TimerHandle | None = None  # once none is


@dataclass(frozen=True, kw_only=True)
class Use:
    """One call's use of a connection."""

    line: _Line
    open: _Open
    sftp: asyncssh.SFTPClient  # to ask
    bulk: bool
    before: int  # calls that were answered when it began

    def not_answered(self) -> None:
        """Let go of a connection that did not answer this call, with all that is open in it.

        Of a part that hangs, bytes stay in memory as long: that others are answered is not enough.
        The next call opens another connection, and the others end in this one, each by its own
        deadline. A small call that waited in vain while others were answered asks again.
        """
        if not self.bulk and self.open.answered > self.before:
            return
        if self.line.open is self.open:
            self.line.open = None
        if self.open.calls:
            self.line.retired.add(self.open)
        else:
            self.open.connection.abort()

    def drop(self) -> None:
        """Let go of a connection, which is not used again."""
        self.open.connection.abort()
        if self.line.open is self.open:
            self.line.open = None


_SignedIn = tuple[str | int | None, ...]


def _signed_in(target: SftpTarget) -> _SignedIn:
    return (
        target.host,
        target.port,
        target.user,
        target.host_key,
        target.key,
        target.password,
    )


class SftpConnections:
    """Opens a connection when one is asked for, and again when it broke.

    One that was not used for `idle` seconds is closed: secrets change, and targets go. `hosts` are
    where tenants may deliver to, without: anywhere.
    """

    def __init__(self, *, hosts: AllowedHosts | None = None, idle: float = _IDLE_TIMEOUT) -> None:
        self._hosts = hosts
        self._idle = idle
        self._lines: dict[_SignedIn, _Line] = {}
        self._closed: set[asyncio.Task[None]] = set()
        self._ended = False

    def __len__(self) -> int:
        return sum(line.open is not None for line in self._lines.values())

    @contextlib.asynccontextmanager
    async def of(self, target: SftpTarget, *, bulk: bool = False) -> AsyncIterator[Use]:
        """Give the client of a target for one call; what breaks in it is not used again.

        `bulk`: it moves many bytes.

        Raises TargetForbiddenError; TargetRefusedError where the server is another one, or does not
        take the credentials; TargetUnavailableError while it can't be reached.
        """
        flaw = self._hosts.flaw_of(target.endpoint) if self._hosts else None
        if flaw is not None:
            raise forbidden(target, flaw)
        line = self._lines.setdefault(_signed_in(target), _Line())
        line.calls += 1
        if line.closing is not None:
            line.closing.cancel()
        try:
            async with line.opening:
                if line.open is None or line.open.connection.is_closed():
                    line.open = await self._connect_in_time(target)
                used = line.open
            sftp = used.bulk if bulk else used.small
            use = Use(line=line, open=used, sftp=sftp, bulk=bulk, before=used.answered)
            used.calls += 1
            try:
                yield use
            except TimeoutError:  # of one call: what becomes of the connection, `not_answered` says
                raise
            except LOST:
                use.drop()
                raise
            except asyncssh.SFTPError:
                used.answered += 1
                raise
            else:
                used.answered += 1
            finally:
                used.calls -= 1
                if not used.calls and used in line.retired:
                    line.retired.discard(used)
                    used.connection.abort()
        finally:
            line.calls -= 1
            if not line.calls:
                line.closing = asyncio.get_running_loop().call_later(
                    self._idle, self._forget, _signed_in(target)
                )

    def _forget(self, signed_in: _SignedIn) -> None:
        line = self._lines.get(signed_in)
        if line is None or line.calls:
            return
        del self._lines[signed_in]
        if line.open is not None:
            task = asyncio.create_task(_close(line.open))
            self._closed.add(task)
            task.add_done_callback(self._closed.discard)

    async def _connect_in_time(self, target: SftpTarget) -> _Open:
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT):
                opened = await self._connect(target)
        except TimeoutError as error:
            raise TargetUnavailableError(
                f"the SFTP server did not let this service in for {target} within "
                f"{_OPEN_TIMEOUT:g} s"
            ) from error
        if self._ended:
            opened.connection.abort()
            raise TargetUnavailableError(f"{target} is asked for nothing more: the process ends")
        return opened

    async def _connect(self, target: SftpTarget) -> _Open:
        pinned = HostKey.read(target.host_key)
        seen = _Client(pinned)
        refusal: asyncssh.Error | None = None
        credentials = await _credentials(target)
        for algorithms in pinned.algorithms:
            sock = await self._reach(target)
            try:
                return await _sign_in(target, sock, seen, algorithms, credentials)
            except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
                # A fingerprint may be that of a key of another type.
                refusal = error
            except BaseException:
                sock.close()  # which asyncssh may not have begun to use
                raise
        assert refusal is not None  # noqa: S101 - there is an algorithm
        if not seen.shown:
            raise TargetRefusedError(
                f"{target.endpoint} has no key of the type of host_key {pinned.fingerprint}, or "
                f"none of this service's algorithms ({said(refusal)}): correct host_key in the "
                "tenant's settings"
            ) from refusal
        raise TargetRefusedError(
            f"{target.endpoint} is not the server that is expected: it shows the host key "
            f"{' and '.join(seen.shown)}, pinned is {pinned.fingerprint}. Nothing was sent. Ask "
            "who runs it whether its key was changed, and correct host_key in the tenant's settings"
        ) from refusal

    async def _reach(self, target: SftpTarget) -> socket.socket:
        """Return a socket that is connected to an address where tenants may deliver to."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TargetUnavailableError(
                f"no SFTP server can be found for {target} ({said(error)})"
            ) from error
        flaw: str | None = None
        failed: OSError | None = None
        for family, kind, protocol, _, address in found:
            if self._hosts is not None:
                judged = self._hosts.flaw_of_address(target.endpoint, str(address[0]))
                if judged is not None:
                    flaw = judged
                    continue
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                failed = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        if failed is None and flaw is not None:
            raise forbidden(target, flaw)
        raise TargetUnavailableError(
            f"no SFTP server answers for {target} ({said(failed or OSError('no address'))})"
        ) from failed

    async def aclose(self) -> None:
        """Close all; what is being opened is closed once it is."""
        self._ended = True
        lines, self._lines = [*self._lines.values()], {}
        for line in lines:
            if line.closing is not None:
                line.closing.cancel()
            for retired in line.retired:
                retired.connection.abort()
            if line.open is not None:
                await _close(line.open)
        await asyncio.gather(*self._closed, return_exceptions=True)


async def _close(used: _Open) -> None:
    for sftp in (used.bulk, used.small):
        sftp.exit()
    used.connection.close()
    try:
        async with asyncio.timeout(1):
            await used.connection.wait_closed()
    except (TimeoutError, OSError, asyncssh.Error):
        used.connection.abort()


class _Client(asyncssh.SSHClient):
    """Takes the pinned key and no other."""

    def __init__(self, pinned: HostKey) -> None:
        self._pinned = pinned
        self.shown: list[str] = []  # fingerprints of other keys

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        """Whether a server may be spoken to."""
        shown = key.get_fingerprint("sha256")
        if shown != self._pinned.fingerprint:
            self.shown.append(shown)
        return shown == self._pinned.fingerprint


async def _credentials(target: SftpTarget) -> dict[str, Any]:
    if target.key is None:
        return {
            "password": target.password,
            "client_keys": None,
            "preferred_auth": ("password", "keyboard-interactive"),
        }
    try:
        # What it is made of is not checked: primes take a second, in which nothing else is done.
        # No server lets one in that is wrong.
        key = asyncssh.import_private_key(
            target.key.strip() + "\n", unsafe_skip_rsa_key_validation=True
        )
    except asyncssh.KeyImportError as error:
        raise TargetRefusedError(
            f"the private key of {target} can't be read: set it again in the tenant's settings"
        ) from error
    return {"client_keys": [key], "preferred_auth": ("publickey",)}


async def _sign_in(
    target: SftpTarget,
    sock: socket.socket,
    client: _Client,
    algorithms: tuple[str, ...],
    credentials: dict[str, Any],
) -> _Open:
    """Sign in over a connected socket. Raises what tells another host key as asyncssh does."""
    try:
        connection = await asyncssh.connect(
            target.host,
            target.port,
            sock=sock,
            client_factory=lambda: client,
            username=target.user,
            # Nothing is taken from this machine.
            config=None,
            known_hosts=lambda _host, _addr, _port: ((), (), ()),
            agent_path=None,
            x509_trusted_certs=None,
            gss_host=None,
            pkcs11_provider=None,
            client_host_keysign=False,
            env={},
            send_env=None,
            server_host_key_algs=algorithms,
            kex_algs=_KEY_EXCHANGES,
            encryption_algs=_CIPHERS,
            compression_algs=None,
            disable_trivial_auth=True,
            login_timeout=_LOGIN_TIMEOUT,
            keepalive_interval=15,
            keepalive_count_max=3,
            **credentials,
        )
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed):
        raise
    except asyncssh.PermissionDenied as error:
        means = "key" if target.key is not None else "password"
        raise TargetRefusedError(
            f"{target.endpoint} does not let the user {target.user} in with this {means}: correct "
            f"user or {means} in the tenant's settings, or let the user in there"
        ) from error
    except ValueError as error:  # before anything was sent: the process has no user's name
        raise TargetUnavailableError(
            f"{target} can't be asked ({said(error)}): set it where this service runs"
        ) from error
    except (*LOST, asyncssh.Error) as error:
        raise TargetUnavailableError(
            f"no SFTP server answers for {target} ({said(error)})"
        ) from error
    try:
        bulk = await connection.start_sftp_client()
        try:
            small = await connection.start_sftp_client()
        except asyncssh.ChannelOpenError:  # one session is all that the server opens
            small = bulk
    except asyncssh.ChannelOpenError as error:
        connection.abort()
        raise TargetUnavailableError(
            f"{target.endpoint} lets the user {target.user} in, and opens no SFTP session "
            f"({said(error)}): allow SFTP for that user, or more sessions at once"
        ) from error
    except (*LOST, asyncssh.Error) as error:
        connection.abort()
        raise TargetUnavailableError(
            f"{target.endpoint} speaks no SFTP to the user {target.user} ({said(error)}): allow "
            "SFTP for that user"
        ) from error
    except BaseException:
        connection.abort()
        raise
    return _Open(connection=connection, bulk=bulk, small=small)
