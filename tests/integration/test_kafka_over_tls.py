"""Kafka behind TLS, which asks for a certificate: deliveries go through it, refusals are told.

The embedded broker speaks no TLS, so a gate does that before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from app.errors import BrokerUnavailableError, NotReachableError
from app.settings import Settings
from compose.embedded.kafka import kafka
from compose.embedded.processes import Server, free_port
from compose.embedded.stack import Stack
from streams.channels import DEAD_LETTERS
from streams.kafka.brokers import client_arguments
from streams.kafka.log import open_event_log
from streams.kafka.refusals import REFUSALS
from streams.kafka.topics import ensure_topics
from tests.certificates import Authority
from tests.client import Client, request_for
from tests.command import delivery
from tests.integration.gate import Gate, gate
from tests.service import running_service


@dataclass(frozen=True, kw_only=True)
class Line:
    """A way to a broker: TLS, and a certificate is asked for."""

    gate: Gate
    tls: ssl.SSLContext  # what the gate shows
    authority: Authority
    port: int

    def show(self, name: str, *hosts: str, expired: bool = False) -> None:
        """Show another certificate on new connections."""
        self.tls.load_cert_chain(*self.authority.issue(name, *hosts, expired=expired))

    @property
    def values(self) -> dict[str, str]:
        """Settings that lead to it."""
        certificate, key = self.authority.issue("rs-delivery")
        return {
            "kafka_bootstrap_servers": f"127.0.0.1:{self.port}",
            "kafka_security_protocol": "SSL",
            "kafka_ca": str(self.authority.file),
            "kafka_certificate": str(certificate),
            "kafka_key": str(key),
        }


def variables(values: Mapping[str, str]) -> dict[str, str]:
    """Return settings as an operator exports them."""
    return {f"DELIVERY_{name.upper()}": value for name, value in values.items()}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom both sides trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Server, int]]:
    """A broker that sends its clients to another port."""
    port = free_port()
    async with kafka(tmp_path_factory.mktemp("kafka"), advertised_port=port) as server:
        yield server, port


@pytest.fixture
async def line(broker: tuple[Server, int], authority: Authority) -> AsyncIterator[Line]:
    """The gate before it."""
    server, port = broker
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    tls.verify_mode = ssl.CERT_REQUIRED
    async with gate(f"tcp://{server.url}", port=port, tls=tls) as opened:
        line = Line(gate=opened, tls=tls, authority=authority, port=port)
        line.show("broker", "127.0.0.1")
        yield line


@pytest.fixture(autouse=True)
def no_refusals() -> Iterator[None]:
    """What brokers of other tests refused is forgotten; they are gone."""
    yield
    REFUSALS.__init__()  # type: ignore[misc]


async def test_a_delivery_goes_through_kafka_over_tls(
    stack: Stack, database: str, client: Client, make_product: Callable[..., str], line: Line
) -> None:
    here = variables(line.values) | {"DELIVERY_KAFKA_GROUP": uuid4().hex[:8]}
    body = request_for(make_product({"a.txt": b"a", "b.txt": b"b"}))
    extra = here | {"DELIVERY_DATABASE_URL": database}
    async with running_service(stack, extra=extra) as (_, address):
        await client.send(body)
        await client.wait_for(body["correlationId"], "DONE")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{address}/health/ready") as answer,
        ):
            ready = answer.status
        told = await asyncio.to_thread(delivery, "doctor", "--json", **extra)
    assert ready == 200
    findings = [json.loads(text) for text in told.stdout.splitlines()]
    assert [finding["ok"] for finding in findings if finding["part"] == "kafka"] == [True] * 2
    for command in (["topics", "check"], ["dlt", "list"]):
        ended = await asyncio.to_thread(delivery, *command, **here)
        assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("ca", ["", "ca.pem"], ids=["of-the-system", "another"])
async def test_a_broker_whose_ca_is_not_trusted_is_told_at_once(
    settings: Settings, line: Line, tmp_path: Path, ca: str
) -> None:
    """Waiting for an operator to change a setting lasts for ever; `start_timeout` is a minute."""
    Authority(tmp_path)
    here = settings.model_copy(update=line.values | {"kafka_ca": ca and str(tmp_path / ca)})
    with pytest.raises(NotReachableError, match="not of a CA that is trusted here") as raised:
        async with asyncio.timeout(30):
            await ensure_topics(here)
    assert f"127.0.0.1:{line.port}: the server's certificate is" in str(raised.value)


@pytest.mark.parametrize("kind", ["none", "of another CA", "expired"])
async def test_a_certificate_of_ours_that_is_not_taken_is_told(
    settings: Settings, line: Line, tmp_path: Path, kind: str
) -> None:
    """This gate gives no reason, as Apache Kafka does (`test_kafka_cluster`)."""
    changes = {"kafka_certificate": "", "kafka_key": ""}
    if kind != "none":
        issuer = line.authority if kind == "expired" else Authority(tmp_path)
        files = map(str, issuer.issue("refused", expired=kind == "expired"))
        changes = dict(zip(changes, files, strict=True))
    here = settings.model_copy(update=line.values | changes | {"start_timeout": 0.5})
    told = "it may want a certificate" if kind == "none" else "it does not take the certificate"
    with pytest.raises(NotReachableError, match=told):
        await ensure_topics(here)


@pytest.mark.parametrize(
    ("host", "expired", "sentence"),
    [
        ("127.0.0.1", True, "the server's certificate is not good .*expired.*; renew it there"),
        ("kafka.example.org", False, "the server's certificate is for another name"),
    ],
)
async def test_a_certificate_of_a_broker_that_is_not_good_is_told(
    settings: Settings, line: Line, host: str, expired: bool, sentence: str
) -> None:
    line.show("bad", host, expired=expired)
    with pytest.raises(NotReachableError, match=sentence):
        await ensure_topics(settings.model_copy(update=line.values))


async def test_a_listener_for_tls_that_is_spoken_to_without_is_told(
    settings: Settings, line: Line
) -> None:
    """It might be a broker that is just being started: it is waited for, as for any."""
    changes = {"kafka_bootstrap_servers": f"127.0.0.1:{line.port}", "start_timeout": 0.5}
    with pytest.raises(NotReachableError, match="hangs up at once") as raised:
        await ensure_topics(settings.model_copy(update=changes))
    assert "DELIVERY_KAFKA_SECURITY_PROTOCOL is PLAINTEXT: compare it" in str(raised.value)


async def test_a_worker_that_is_refused_says_so_in_one_sentence_and_ends(
    stack: Stack, environment: None, database: str, line: Line, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    here = variables(line.values | {"kafka_ca": str(other.file), "database_url": database})
    ended = await asyncio.to_thread(delivery, "worker", **here, DELIVERY_START_TIMEOUT="60")
    assert ended.returncode == 69, ended.stderr
    address = f"127.0.0.1:{line.port}"
    said = (
        f"delivery: no Kafka broker can be used at {address}: {address}: the server's certificate"
    )
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    told = await asyncio.to_thread(delivery, "doctor", "--json", **here)
    (finding,) = [
        finding
        for finding in map(json.loads, told.stdout.splitlines())
        if finding["part"] == "kafka"
    ]
    assert (finding["ok"], finding["check"]) == (False, "access")
    assert "not of a CA that is trusted here" in finding["message"]
    for command in (["topics", "check"], ["dlt", "list"], ["watch", "--once"]):
        ended = await asyncio.to_thread(delivery, *command, **here)
        assert ended.returncode == 1
        assert "not of a CA that is trusted here" in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", [["worker"], ["web"], ["watch", "--once"], ["topics", "check"]])
async def test_a_file_that_is_missing_is_told_at_the_start(
    stack: Stack, environment: None, database: str, command: list[str]
) -> None:
    here = {
        "DELIVERY_DATABASE_URL": database,
        "DELIVERY_KAFKA_SECURITY_PROTOCOL": "SSL",
        "DELIVERY_KAFKA_CA": "/nowhere/ca.pem",
    }
    await asyncio.to_thread(delivery, "migrate", **here)
    ended = await asyncio.to_thread(delivery, *command, **here)
    assert ended.returncode == 2, ended.stderr
    assert (
        "delivery: DELIVERY_KAFKA_CA names '/nowhere/ca.pem', which can't be read" in ended.stderr
    )
    assert "Traceback" not in ended.stderr


async def test_a_certificate_that_expires_while_all_runs_is_told_until_it_is_renewed(
    settings: Settings, line: Line
) -> None:
    here = settings.model_copy(update=line.values)
    await ensure_topics(here)
    async with open_event_log(here) as events:
        await events.check()
        line.show("old", "127.0.0.1", expired=True)
        await line.gate.shut()
        await line.gate.let()
        with pytest.raises(BrokerUnavailableError, match=r"certificate is not good .*expired"):
            await events.check()
        line.show("new", "127.0.0.1")
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(BrokerUnavailableError):
                    await events.check()
                    break
        assert REFUSALS.now() == []
        await events.append(events.topics.of(DEAD_LETTERS), key=b"k", value=b"v")


async def test_a_certificate_of_ours_that_was_renewed_is_shown_without_a_restart(
    settings: Settings, line: Line, tmp_path: Path
) -> None:
    """Clients that live long have the context, which is the same for all."""
    strangers = Authority(tmp_path / "other").issue("rs-delivery")
    files = [tmp_path / "mine.pem", tmp_path / "mine-key.pem"]
    for source, file in zip(strangers, files, strict=True):
        shutil.copy(source, file)
    mine = {"kafka_certificate": str(files[0]), "kafka_key": str(files[1])}
    here = settings.model_copy(update=line.values | mine)
    with pytest.raises(NotReachableError):
        await ensure_topics(here.model_copy(update={"start_timeout": 0.5}))
    held = client_arguments(here)["ssl_context"]
    for source, file in zip(line.authority.issue("renewed"), files, strict=True):
        shutil.copy(source, file)
        os.utime(file, ns=(0, 0))  # another time, however coarse the clock
    assert client_arguments(here)["ssl_context"] is held
    await ensure_topics(here)
