"""No secret is told by anything that the service writes, however a start fails."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Mapping

import pytest
from pydantic import SecretStr
from yarl import URL

from app.settings import Settings
from app.settings.files import may_be_in_a_file
from app.tenants.vault import make_key
from compose.embedded.stack import Stack
from tests.client import Client, request_for
from tests.command import delivery
from tests.service import running_service

_NO_SECRETS = {"jwt_public_key", "s3_key", "tenants"}  # what may lie in a file, and be seen
_CANARY = "canary-of-more-than-32-bytes"


def canaries() -> dict[str, str]:
    """Return a secret of its own for every setting that has one, by its variable."""
    names = [name for name, field in Settings.model_fields.items() if may_be_in_a_file(field)]
    made = {name: f"{_CANARY}-{name}" for name in names if name not in _NO_SECRETS}
    made["secret_keys"] = make_key()
    return {f"DELIVERY_{name.upper()}": value for name, value in made.items()}


SECRETS = canaries()
# Addresses have theirs in them; a password apart would take its place.
ADDRESSES = {
    "DELIVERY_AMQP_URL": "amqp://u:{}@127.0.0.1:1/v",
    "DELIVERY_DATABASE_URL": "postgresql://u:{}@127.0.0.1:1/d",
}
APART = ("DELIVERY_AMQP_PASSWORD", "DELIVERY_DATABASE_PASSWORD")


def environment(**changes: str) -> dict[str, str]:
    """Return settings full of secrets, with addresses at which nothing answers."""
    made = dict(SECRETS)
    made |= {name: form.format(SECRETS[name]) for name, form in ADDRESSES.items()}
    made |= {
        "DELIVERY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "DELIVERY_RS_ORDER_URL": "http://127.0.0.1:1",
        "DELIVERY_S3_ENDPOINT": "http://127.0.0.1:1",
        "DELIVERY_LOG_LEVEL": "DEBUG",
        "DELIVERY_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "DELIVERY_KAFKA_SASL_MECHANISM": "PLAIN",
        "DELIVERY_KAFKA_USERNAME": "u",
    }
    return made | changes


def keeps_secrets(ended: subprocess.CompletedProcess[str], secrets: Mapping[str, str]) -> None:
    for name, secret in secrets.items():
        # Half of one is told by what reads a URL wrongly.
        for told in {secret, secret[: len(secret) // 2]}:
            assert told not in ended.stdout, name
            assert told not in ended.stderr, name


def test_every_secret_is_looked_for() -> None:
    secret = {
        f"DELIVERY_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if SecretStr.__name__ in str(field.annotation)
    }
    assert secret <= set(SECRETS)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("command", ["serve", "doctor", "dlq list", "token"])
def test_a_start_that_reaches_nothing_tells_no_secret(command: str, apart: bool) -> None:
    changes = {} if apart else dict.fromkeys(APART, "")
    ended = delivery(*command.split(), **environment(**changes))
    assert command == "token" or ended.returncode != 0
    keeps_secrets(ended, SECRETS)


@pytest.mark.parametrize("between", ["/", "@", "[", "%zz"])
@pytest.mark.parametrize("name", sorted(ADDRESSES))
def test_an_address_with_a_password_that_breaks_it_tells_no_secret(name: str, between: str) -> None:
    secret = f"{_CANARY}{between}and-more"
    url = ADDRESSES[name].format(secret)
    command = ["doctor"] if "AMQP" in name else ["list"]
    ended = delivery(*command, **environment(**dict.fromkeys(APART, ""), **{name: url}))
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    keeps_secrets(ended, {name: _CANARY, f"{name}, the rest": "and-more"})


@pytest.fixture
def refused(stack: Stack) -> dict[str, str]:
    """The real servers, which refuse these secrets."""
    real = {name: URL(stack.environment[name]) for name in ADDRESSES}
    return environment(
        **dict.fromkeys(APART, ""),
        **{name: str(url.with_password(SECRETS[name])) for name, url in real.items()},
        **{
            name: stack.environment[name]
            for name in (
                "DELIVERY_RS_ORDER_URL",
                "DELIVERY_S3_ENDPOINT",
                "DELIVERY_KAFKA_BOOTSTRAP_SERVERS",
            )
        },
    )


@pytest.mark.parametrize("command", ["serve", "doctor", "dlq list"])
def test_a_server_that_refuses_a_secret_does_not_make_it_known(
    refused: dict[str, str], stack: Stack, command: str
) -> None:
    ended = delivery(*command.split(), **refused)
    assert ended.returncode != 0
    keeps_secrets(ended, SECRETS)
    # RabbitMQ is met only where PostgreSQL lets the service in.
    database = {"DELIVERY_DATABASE_URL": stack.environment["DELIVERY_DATABASE_URL"]}
    keeps_secrets(delivery(*command.split(), **(refused | database)), SECRETS)


async def test_a_service_that_works_logs_no_secret(
    stack: Stack, client: Client, make_product: Callable[..., str]
) -> None:
    extra = {"DELIVERY_LOG_LEVEL": "DEBUG", "DELIVERY_JWT_SECRET": f"{_CANARY}-jwt"}
    async with running_service(stack, extra=extra) as (child, _address):
        answer = await client.answer(request_for(make_product({"a": b"a"})))
        assert answer["status"] == "DONE"
    secrets = [str(URL(stack.environment[name]).password) for name in ADDRESSES]
    secrets += [
        stack.environment[name]
        for name in (
            "DELIVERY_RS_ORDER_TOKEN_SECRET",
            "DELIVERY_SECRET_KEYS",
            "DELIVERY_S3_SECRET",
        )
    ]
    log = await asyncio.to_thread(child.log.read_text)
    for secret in (*secrets, extra["DELIVERY_JWT_SECRET"]):
        assert secret not in log
