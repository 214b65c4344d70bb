"""Apache Kafka with users, certificates, and the rights that the documentation gives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from app.errors import BrokerUnavailableError, ConfigurationError, NotReachableError
from app.settings import Settings
from compose.embedded.apache_kafka import Security, apache_kafka, missing
from compose.embedded.processes import Server
from compose.embedded.stack import Stack
from streams.channels import REQUESTS
from streams.kafka.lag import ConsumerLag
from streams.kafka.log import open_event_log
from streams.kafka.refusals import REFUSALS
from streams.kafka.topic_check import differences
from streams.kafka.topics import Topics, ensure_topics
from tests.certificates import Authority
from tests.client import Client, request_for
from tests.command import delivery
from tests.integration.acls import allow, documented
from tests.service import running_service

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or ""),
    pytest.mark.timeout(400),
]

SERVICE, TOPICS = "rs-delivery", "rs-delivery-topics"
PASSWORDS = {
    SERVICE: "of-the-service",
    TOPICS: "of-topics",
    "powerless": "of-nothing",
    "groupless": "of-topics",
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A broker with listeners for users and for certificates."""

    server: Server
    security: Security
    authority: Authority

    def user(self, name: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """Return the variables of a user with a password."""
        return {
            "DELIVERY_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.security.sasl_port}",
            "DELIVERY_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "DELIVERY_KAFKA_SASL_MECHANISM": mechanism,
            "DELIVERY_KAFKA_USERNAME": name,
            "DELIVERY_KAFKA_PASSWORD": PASSWORDS[name],
            "DELIVERY_KAFKA_CA": str(self.authority.file),
            "DELIVERY_KAFKA_PARTITIONS": "2",
        }

    def certificate(self, authority: Authority, *, expired: bool = False) -> dict[str, str]:
        """Return the variables of the service with a certificate."""
        certificate, key = authority.issue(SERVICE, expired=expired)
        return {
            "DELIVERY_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.security.tls_port}",
            "DELIVERY_KAFKA_SECURITY_PROTOCOL": "SSL",
            "DELIVERY_KAFKA_CA": str(self.authority.file),
            "DELIVERY_KAFKA_CERTIFICATE": str(certificate),
            "DELIVERY_KAFKA_KEY": str(key),
            "DELIVERY_KAFKA_PARTITIONS": "2",
        }


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """The broker, with exactly the documented rights."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    certificate, key = authority.issue("broker", "127.0.0.1")
    security = Security(certificate=certificate, key=key, ca=authority.file, users=PASSWORDS)
    async with apache_kafka(tmp_path_factory.mktemp("kafka"), security=security) as (server,):
        for name, principals in (
            (SERVICE, [f"User:{SERVICE}", f"User:CN={SERVICE}"]),
            (TOPICS, [f"User:{TOPICS}"]),
        ):
            rights = documented(f"User:{name}")
            assert rights
            for principal in principals:
                await allow(server.url, rights, to=principal)
            if name == SERVICE:
                of_topics = [right for right in rights if right.resource == "topic"]
                await allow(server.url, of_topics, to="User:groupless")
        yield Cluster(server=server, security=security, authority=authority)


@pytest.fixture(autouse=True)
def no_refusals() -> Iterator[None]:
    """What brokers of other tests refused is forgotten; they are gone."""
    yield
    REFUSALS.__init__()  # type: ignore[misc]


def settings_of(variables: dict[str, str], **changes: object) -> Settings:
    """Return settings as the environment would give them."""
    values: dict[str, object] = {
        name.removeprefix("DELIVERY_").lower(): value for name, value in variables.items()
    }
    return Settings(**values | changes)  # type: ignore[arg-type]


async def there_are(cluster: Cluster) -> set[str]:
    """Return the topics of the broker, as its administrator."""
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.server.url)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def test_the_service_delivers_with_each_way_to_sign_in_and_the_documented_rights(
    stack: Stack,
    environment: None,
    database: str,
    client: Client,
    make_product: Callable[..., str],
    cluster: Cluster,
) -> None:
    """And its topics are made by a user of their own."""
    here = {"DELIVERY_DATABASE_URL": database}
    migrated = await asyncio.to_thread(delivery, "migrate", **here)
    assert migrated.returncode == 0, migrated.stderr
    there = await there_are(cluster)  # an earlier test may have made some
    made = await asyncio.to_thread(delivery, "topics", "apply", **here, **cluster.user(TOPICS))
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("created delivery.") == len(set(Topics().all) - there)
    assert await there_are(cluster) >= set(Topics().all)
    more = cluster.user(TOPICS) | {"DELIVERY_KAFKA_PARTITIONS": "3"}
    grown = await asyncio.to_thread(delivery, "topics", "apply", **here, **more)
    assert grown.returncode == 0, grown.stderr

    for way in (
        cluster.user(SERVICE, "SCRAM-SHA-512"),
        cluster.user(SERVICE, "SCRAM-SHA-256"),
        cluster.user(SERVICE, "PLAIN"),
        cluster.certificate(cluster.authority),
    ):
        extra = here | way | {"DELIVERY_KAFKA_PARTITIONS": "3"}
        body = request_for(make_product({"a.txt": b"a", "b.txt": b"b"}))
        async with running_service(stack, extra=extra) as (child, address):
            await client.send(body)
            await client.wait_for(body["correlationId"], "DONE")
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{address}/health/ready") as answer,
            ):
                assert answer.status == 200
            told = await asyncio.to_thread(delivery, "doctor", "--json", **extra)
            findings = [json.loads(line) for line in told.stdout.splitlines()]
            assert {finding["ok"] for finding in findings if finding["part"] == "kafka"} == {True}
            for command in (["topics", "check"], ["dlt", "list"], ["watch", "--once"]):
                ended = await asyncio.to_thread(delivery, *command, **extra)
                assert ended.returncode == 0, ended.stderr
        assert client.said(body["correlationId"]) == ["GRANTED", "DONE"]
        log = child.log.read_text()
        assert "Traceback" not in log
        assert "AuthorizationFailed" not in log
        assert "kafka_refuses" not in log


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_a_password_that_is_wrong_is_told_at_once(cluster: Cluster, mechanism: str) -> None:
    wrong = settings_of(cluster.user(SERVICE, mechanism), kafka_password=SecretStr("guessed"))
    with pytest.raises(ConfigurationError) as raised:
        await ensure_topics(wrong)
    assert not isinstance(raised.value, NotReachableError)
    address = f"127.0.0.1:{cluster.security.sasl_port}"
    assert f"{address} does not sign user {SERVICE} in by {mechanism}" in str(raised.value)
    assert "correct DELIVERY_KAFKA_USERNAME or DELIVERY_KAFKA_PASSWORD" in str(raised.value)
    assert "guessed" not in str(raised.value)


async def test_a_worker_with_a_wrong_password_says_so_in_one_sentence_and_ends(
    environment: None, database: str, cluster: Cluster
) -> None:
    here = cluster.user(SERVICE) | {
        "DELIVERY_KAFKA_PASSWORD": "guessed",
        "DELIVERY_DATABASE_URL": database,
    }
    ended = await asyncio.to_thread(delivery, "worker", **here, DELIVERY_START_TIMEOUT="60")
    assert ended.returncode == 2, ended.stderr
    assert "delivery: Kafka refuses this service: 127.0.0.1:" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "guessed" not in ended.stderr
    told = await asyncio.to_thread(delivery, "doctor", "--json", **here)
    (finding,) = [
        finding
        for finding in map(json.loads, told.stdout.splitlines())
        if finding["part"] == "kafka"
    ]
    assert (finding["ok"], finding["check"]) == (False, "access")
    assert "does not sign user rs-delivery in" in finding["message"]


async def test_a_ca_that_is_not_the_brokers_is_told_at_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    other = settings_of(cluster.user(SERVICE), kafka_ca=str(Authority(tmp_path).file))
    with pytest.raises(NotReachableError, match="not of a CA that is trusted here"):
        await ensure_topics(other)


@pytest.mark.parametrize("kind", ["none", "of another CA", "expired"])
async def test_a_certificate_of_ours_that_is_not_taken_is_told(
    cluster: Cluster, tmp_path: Path, kind: str
) -> None:
    """With what the broker says, where its end of the connection does not cut that off."""
    issuer = Authority(tmp_path) if kind == "of another CA" else cluster.authority
    way = cluster.certificate(issuer, expired=kind == "expired")
    if kind == "none":
        way |= {"DELIVERY_KAFKA_CERTIFICATE": "", "DELIVERY_KAFKA_KEY": ""}
    told = "it may want a certificate" if kind == "none" else "it does not take the certificate"
    with pytest.raises(NotReachableError, match=told):
        await ensure_topics(settings_of(way, start_timeout=1))


@pytest.mark.parametrize(
    ("listener", "protocol"),
    [("sasl_port", "SSL"), ("tls_port", "PLAINTEXT"), ("plain", "SSL"), ("plain", "SASL_SSL")],
)
async def test_a_listener_of_another_kind_is_told(
    cluster: Cluster, listener: str, protocol: str
) -> None:
    port = getattr(cluster.security, listener, None) or cluster.server.url.rpartition(":")[2]
    way = cluster.user(SERVICE) if protocol == "SASL_SSL" else {}
    if protocol == "SSL":
        way["DELIVERY_KAFKA_CA"] = str(cluster.authority.file)
    way |= {
        "DELIVERY_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "DELIVERY_KAFKA_SECURITY_PROTOCOL": protocol,
    }
    with pytest.raises(NotReachableError, match="DELIVERY_KAFKA_SECURITY_PROTOCOL"):
        await ensure_topics(settings_of(way, start_timeout=1))


async def test_rights_that_are_missing_are_told(cluster: Cluster) -> None:
    powerless = settings_of(cluster.user("powerless"))
    with pytest.raises(ConfigurationError, match=r"this user may not create it.* has the rights"):
        await ensure_topics(powerless)
    with pytest.raises(BrokerUnavailableError, match=r"this user may not: .* has the rights"):
        await differences(powerless)

    groupless = settings_of(cluster.user("groupless"))
    await ensure_topics(settings_of(cluster.user(TOPICS)))
    with pytest.raises(BrokerUnavailableError, match=r"this user may not: .* has the rights"):
        await ConsumerLag(groupless).measure()
    async with open_event_log(powerless) as events:
        with pytest.raises(BrokerUnavailableError, match=r"this user may not: .* has the rights"):
            await events.append(events.topics.of(REQUESTS), key=b"k", value=b"v")
