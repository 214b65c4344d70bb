"""The command line: a user's mistake is one sentence and an exit code, never a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import __version__
from app.settings import Settings
from app.store.schema import steps
from compose.embedded.stack import ROOT, USER
from tests.command import delivery
from tests.integration.conftest import Deliveries


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_version_is_told() -> None:
    assert delivery("--version").stdout == f"delivery, version {__version__}\n"


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DELIVERY_AMQP_URL", "amqp://u:geheim@127.0.0.1:1/v", "no RabbitMQ to be used at"),
        ("DELIVERY_DATABASE_URL", "postgresql://u:geheim@127.0.0.1:1/d", "no PostgreSQL answers"),
        ("DELIVERY_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1", "no Kafka broker answers at"),
        ("DELIVERY_RS_ORDER_TOKEN_SECRET", "", "DELIVERY_RS_ORDER_TOKEN_SECRET is not set"),
        ("DELIVERY_MAX_TRANSFERS", "many", "DELIVERY_MAX_TRANSFERS: "),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_sentence(
    environment: None, variable: str, value: str, sentence: str
) -> None:
    ended = delivery("worker", DELIVERY_LOG_LEVEL="ERROR", **{variable: value})
    # What doesn't answer may be away for now: then a supervisor should start it again.
    assert ended.returncode == (69 if sentence.startswith("no ") else 2)
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "geheim" not in ended.stderr


@pytest.mark.parametrize("command", ["web", "worker", "serve"])
def test_nothing_starts_with_a_secret_that_can_be_guessed(environment: None, command: str) -> None:
    """Before anything is opened, or changed."""
    ended = delivery(
        command,
        DELIVERY_DEVELOPMENT="false",
        DELIVERY_JWT_SECRET="geheim",
        DELIVERY_DATABASE_URL="postgresql://u:p@127.0.0.1:1/d",
    )
    assert ended.returncode == 2
    assert "DELIVERY_JWT_SECRET has fewer than 32 bytes" in ended.stderr
    assert "geheim" not in ended.stderr


def test_a_wrong_password_is_told(environment: None) -> None:
    url = os.environ["DELIVERY_AMQP_URL"]
    wrong = "amqp://regards:geheim@" + url.split("@")[1]
    ended = delivery("worker", DELIVERY_AMQP_URL=wrong, DELIVERY_LOG_LEVEL="CRITICAL")
    assert ended.returncode == 2
    ended = delivery("worker", DELIVERY_AMQP_URL=wrong)
    assert "refuses the user or the password" in ended.stderr
    assert "geheim" not in ended.stderr


def test_a_port_that_is_taken_is_told(environment: None, taken_port: int) -> None:
    ended = delivery("web", DELIVERY_WEB_PORT=str(taken_port), DELIVERY_WEB_HOST="127.0.0.1")
    assert ended.returncode == 2
    assert f"can't listen on 127.0.0.1 port {taken_port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_migrate_says_what_it_did(database: str) -> None:
    first = delivery("migrate", DELIVERY_DATABASE_URL=database)
    applied = "".join(f"applied {name}\n" for _, name, _ in steps())
    assert (first.returncode, first.stdout) == (0, applied)
    second = delivery("migrate", DELIVERY_DATABASE_URL=database)
    assert (second.returncode, second.stdout) == (0, "nothing to do\n")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "can't read"),
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ('{"correlationId": 1}', "correlationId must be a text"),
        ('{"delivery": "tar"}', "delivery must be an object"),
    ],
)
def test_a_request_file_that_cannot_be_read_is_told(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    file = tmp_path / "request.json"
    if content is not None:
        file.write_text(content)
    ended = delivery("submit", str(file), "--format", "tar")
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_web_alone_answers_and_ends_at_sigterm(settings: Settings, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "web"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"DELIVERY_WEB_PORT": "0", "DELIVERY_LOG_FORMAT": "json"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "web_listening" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    process.stderr.close()


async def test_a_list_for_a_user_without_a_name_is_empty(
    environment: None, database: str, deliveries: Deliveries
) -> None:
    """A script's variable that is not set asks for no user's deliveries, not for all users'."""
    await deliveries.granted("c")
    here = {"DELIVERY_DATABASE_URL": database}
    every = await asyncio.to_thread(delivery, "list", "--json", **here)
    assert every.stdout.count('"correlationId"') == 1, every.stderr
    none = await asyncio.to_thread(delivery, "list", "--json", "--user", "", **here)
    assert (none.returncode, none.stdout) == (0, "")


async def test_what_is_left_of_quotas_is_told(
    environment: None, database: str, deliveries: Deliveries
) -> None:
    await deliveries.granted("c")
    here = {"DELIVERY_DATABASE_URL": database}
    told = await asyncio.to_thread(delivery, "quota", "--user", USER, **here)
    assert told.returncode == 0, told.stderr
    assert f"user {USER}" in told.stdout
    assert "requests over a quota: wait; bytes over one: wait" in told.stdout
    shown = await asyncio.to_thread(delivery, "quota", "--json", **here)
    assert json.loads(shown.stdout)["tenant"]["active"] == {"used": 1}
