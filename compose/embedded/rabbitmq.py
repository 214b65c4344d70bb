"""RabbitMQ from Debian's package, as a child with a node name, ports and a home of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from yarl import URL

from compose.embedded.processes import (
    Server,
    StackError,
    free_port,
    listens,
    running,
    start,
    wait_until,
)
from compose.embedded.server_tls import ServerTls

PACKAGE = Path("/usr/lib/rabbitmq/lib")  # where Debian puts it
VHOST = "regards.multitenant.manager"
_ENVIRONMENT = "environment.json"  # what its tools need to find it


def _server() -> Path:
    # The script of the package itself: the wrapper on the PATH changes the user.
    found = sorted(PACKAGE.glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if not found:
        raise StackError(
            "RabbitMQ is not installed: run `apt-get install rabbitmq-server` as root (or `make "
            "setup`, which does), or set DELIVERY_AMQP_URL to a RabbitMQ that runs"
        )
    return found[-1]


def _definitions(password: str) -> dict[str, object]:
    user = {"name": "regards", "password": password, "tags": "administrator"}
    grant = {"user": "regards", "vhost": VHOST, "configure": ".*", "write": ".*", "read": ".*"}
    return {"users": [user], "vhosts": [{"name": VHOST}], "permissions": [grant]}


def _tls(tls: ServerTls, port: int) -> str:
    """Return the lines for a listener that demands a certificate of the CA."""
    return (
        "listeners.tcp = none\n"
        f"listeners.ssl.default = 127.0.0.1:{port}\n"
        f"ssl_options.cacertfile = {tls.ca}\n"
        f"ssl_options.certfile = {tls.certificate}\n"
        f"ssl_options.keyfile = {tls.key}\n"
        "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
        # The certificate's common name is a user, for who asks for EXTERNAL.
        "auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n"
        "ssl_cert_login_from = common_name\n"
    )


@contextlib.asynccontextmanager
async def rabbitmq(folder: Path, *, tls: ServerTls | None = None) -> AsyncIterator[Server]:
    """Run RabbitMQ; what is durable survives its restart.

    With `tls`, it is spoken to in no other way, and the address names the client's files.
    """
    program = _server()
    epmd = shutil.which("epmd")
    if epmd is None:
        raise StackError("Erlang is not complete: `epmd` is missing; reinstall rabbitmq-server")
    home = folder / "rabbitmq"
    home.mkdir(mode=0o700)  # a password is in it
    password = secrets.token_urlsafe(12)
    port, dist_port, epmd_port = free_port(), free_port(), free_port()
    (home / "definitions.json").write_text(json.dumps(_definitions(password)))
    plugins = "[rabbitmq_auth_mechanism_ssl].\n" if tls else "[].\n"
    (home / "enabled_plugins").write_text(plugins)
    (home / "rabbitmq.conf").write_text(
        f"load_definitions = {home / 'definitions.json'}\n"
        "log.console = true\nlog.console.level = warning\nlog.file = false\n"
        "disk_free_limit.absolute = 50MB\n" + (_tls(tls, port) if tls else "")
    )
    environment = {
        "HOME": str(home),
        "RABBITMQ_NODENAME": f"delivery-{port}@localhost",
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_DIST_PORT": str(dist_port),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
        # Its schedulers would spin for a while before they sleep: the stack shares its cores.
        "+sbwt none +sbwtdcpu none +sbwtdio none",
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    if tls is None:
        environment |= {"RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(port)}
    # Started here and in the foreground: the one that Erlang would start outlives everything.
    daemon = start(
        "epmd",
        [epmd, "-port", str(epmd_port), "-address", "127.0.0.1"],
        log=home / "epmd.log",
        environment=environment,
    )
    (home / _ENVIRONMENT).write_text(json.dumps(environment))
    async with running(daemon):
        await wait_until(lambda: listens(epmd_port), daemon)
        child = start("RabbitMQ", [program], log=folder / "rabbitmq.log", environment=environment)
        async with running(child):
            url = f"amqp://regards:{password}@127.0.0.1:{port}/{VHOST}"
            if tls is not None:
                url = (
                    f"amqps://regards:{password}@localhost:{port}/{VHOST}?cafile={tls.ca}"
                    f"&certfile={tls.client_certificate}&keyfile={tls.client_key}"
                )
            server = Server(url=url, child=child, answers=lambda: answers(url))
            await wait_until(lambda: listens(port), child)
            await wait_until(server.answers, child)
            yield server


async def control(folder: Path, *arguments: str | Path) -> str:
    """Run `rabbitmqctl` on the server that was started in this folder; return what it says.

    Raises StackError.
    """
    environment = json.loads((folder / "rabbitmq" / _ENVIRONMENT).read_text())
    process = await asyncio.create_subprocess_exec(
        _server().with_name("rabbitmqctl"),
        *arguments,
        env=os.environ | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise StackError(f"rabbitmqctl {arguments[0]} failed:\n{output.decode()}")
    return output.decode()


async def answers(url: str) -> None:
    """Raise OSError unless RabbitMQ takes a connection there."""
    # One that failed is closed, too. Of one that is not, aio-pika makes the closing when it is
    # collected, in whatever thread that is: where no loop runs, a warning comes of it.
    connection = aio_pika.Connection(URL(url))
    try:
        await connection.connect(timeout=5)
    except CONNECTION_EXCEPTIONS as error:
        raise OSError(str(error)) from error
    finally:
        await connection.close()
