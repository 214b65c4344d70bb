"""Apache Kafka itself, without Docker: its jars from Maven, each broker a child process.

Brokers are controllers, too (KRaft). A module of its own beside `kafka.py`: it takes Java 17, Maven
and half a gigabyte of memory a broker, which the demo does not ask for.

    python -m compose.embedded.apache_kafka COMMAND…    # runs COMMAND against one broker
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from compose.embedded.processes import (
    Server,
    StackError,
    free_port,
    listens,
    running,
    start,
    wait_until,
)

_POM = Path(__file__).with_name("kafka-pom.xml")
_JARS = Path(__file__).resolve().parents[2] / ".tools" / "kafka"
_CLUSTER_ID = "rsDeliveryEmbedded0000"  # 22 characters of base64
_JAVA = 17  # the oldest that Kafka 4 runs on


@dataclass(frozen=True, kw_only=True)
class Security:
    """Two more listeners, for users and for certificates; no user may do what no ACL allows.

    Except on the plain listener: who comes there may do everything.
    """

    certificate: Path  # with which the broker shows itself (PEM)
    key: Path
    ca: Path  # of the certificates of clients
    users: Mapping[str, str]  # passwords, for PLAIN and SCRAM
    sasl_port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)

    def properties(self, home: Path) -> dict[str, object]:
        """Return what a broker is configured with, beside its listeners."""
        store = home / "broker.pem"
        store.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        module = "org.apache.kafka.common.security"
        users = " ".join(f'user_{name}="{word}"' for name, word in self.users.items())
        scram = f"{module}.scram.ScramLoginModule required;"
        return {
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
            "SASL:SASL_SSL,TLS:SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": store,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.ca,
            "listener.name.tls.ssl.client.auth": "required",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.sasl.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule "
            f"required {users};",
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": scram,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }

    @property
    def scram(self) -> list[str]:
        """Arguments that make the users, when the storage is made."""
        return [
            argument
            for name, word in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={word}]")
        ]


def missing() -> str | None:
    """Return what of Java and Maven is missing, as a sentence; None when all is there."""
    java = shutil.which("java")
    if java is None:
        return f"Apache Kafka needs Java {_JAVA} or newer, and there is no `java`"
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = output.partition('"')[2].partition(".")[0].partition('"')[0]
    if not version.isdigit() or int(version) < _JAVA:
        return f"Apache Kafka needs Java {_JAVA} or newer; `java` is {version or 'unknown'}"
    if not _JARS.is_dir() and shutil.which("mvn") is None:
        return "Apache Kafka comes by Maven, and there is no `mvn`"
    return None


def _fetched() -> Path:
    """Return the folder of the jars; Maven brings them the first time. Raises StackError."""
    if sentence := missing():
        raise StackError(sentence)
    _JARS.parent.mkdir(exist_ok=True)
    # Tests that run side by side bring them once.
    with _JARS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _JARS.is_dir():
            _bring()
    return _JARS


def _bring() -> None:
    with tempfile.TemporaryDirectory(dir=_JARS.parent) as name:
        folder = Path(name) / "jars"
        command: list[str | Path] = ["mvn", "-q", "-B", "-f", _POM]
        command += ["dependency:copy-dependencies", "-DincludeScope=runtime"]
        command += [f"-DoutputDirectory={folder}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(f"Maven did not bring Apache Kafka:\n{done.stdout[-2000:]}")
        folder.rename(_JARS)  # whole, or not at all


@contextlib.asynccontextmanager
async def apache_kafka(
    folder: Path, *, brokers: int = 1, security: Security | None = None
) -> AsyncIterator[list[Server]]:
    """Run a cluster; each server's address is its broker's. What it holds survives a restart.

    `security` is for a single broker. Raises StackError naming what is missing.
    """
    classpath = f"{await asyncio.to_thread(_fetched)}/*"
    java = ["java", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-cp", classpath]
    ports = [(free_port(), free_port()) for _ in range(brokers)]
    voters = ",".join(f"{n}@127.0.0.1:{port}" for n, (_, port) in enumerate(ports, start=1))
    async with contextlib.AsyncExitStack() as opened:
        paths = []
        for number, (port, controller_port) in enumerate(ports, start=1):
            home = folder / f"kafka-{number}"
            home.mkdir()
            advertised = f"PLAINTEXT://127.0.0.1:{port}"
            if security is not None:
                advertised += f",SASL://127.0.0.1:{security.sasl_port}"
                advertised += f",TLS://127.0.0.1:{security.tls_port}"
            properties: dict[str, object] = {
                "node.id": number,
                "process.roles": "broker,controller",
                "controller.quorum.voters": voters,
                "controller.listener.names": "CONTROLLER",
                "listeners": f"{advertised},CONTROLLER://127.0.0.1:{controller_port}",
                "advertised.listeners": advertised,
                "log.dirs": home / "data",
                "auto.create.topics.enable": "false",
                "offsets.topic.replication.factor": brokers,
                "offsets.topic.num.partitions": 4,
                "transaction.state.log.replication.factor": brokers,
                "transaction.state.log.min.isr": max(1, brokers - 1),
                "group.initial.rebalance.delay.ms": 500,
                "broker.session.timeout.ms": 6000,
            }
            if security is not None:
                properties |= security.properties(home)
            path = home / "server.properties"
            path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
            paths.append(path)
        scram = security.scram if security is not None else []
        await asyncio.gather(*(_format(java, path, scram) for path in paths))
        servers = []
        for number, ((port, _), path) in enumerate(zip(ports, paths, strict=True), start=1):
            child = start(
                f"Apache Kafka {number}",
                [*java, "kafka.Kafka", path],
                log=folder / f"kafka-{number}.log",
                cwd=path.parent,
            )
            await opened.enter_async_context(running(child))
            servers.append(
                Server(
                    url=f"127.0.0.1:{port}",
                    child=child,
                    answers=lambda port=port: listens(port),  # type: ignore[misc]
                )
            )
        for server in servers:
            await wait_until(server.answers, server.child)
        yield servers


async def _format(java: list[str], properties: Path, scram: list[str]) -> None:
    form: list[str | Path] = [*java, "kafka.tools.StorageTool", "format"]
    form += ["-t", _CLUSTER_ID, "-c", properties, *scram]
    run = partial(subprocess.run, form, capture_output=True, text=True, check=False)
    formatted = await asyncio.to_thread(run)
    if formatted.returncode:
        raise StackError(f"Kafka's storage can't be made:\n{formatted.stderr}")


async def _run(command: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="rs-delivery-kafka-") as folder:
        async with apache_kafka(Path(folder)) as (broker,):
            environment = os.environ | {"DELIVERY_KAFKA_BOOTSTRAP_SERVERS": broker.url}
            process = await asyncio.create_subprocess_exec(*command, env=environment)
            return await process.wait()


def main() -> int:
    """Run a command against one broker; where that can't be had, say so and succeed."""
    if sentence := missing():
        print(f"skipped: {sentence}")
        return 0
    try:
        return asyncio.run(_run(sys.argv[1:]))
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
