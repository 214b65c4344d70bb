"""What a process reads again while it works: each part by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.errors import ConfigurationError
from app.run.reloads import Reloads
from app.settings import Settings, load_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the tenants are in."""
    file = tmp_path / "tenants"
    file.write_text("sentinel\n")
    monkeypatch.delenv("DELIVERY_TENANTS", raising=False)
    monkeypatch.setenv("DELIVERY_TENANTS_FILE", str(file))
    return file


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("delivery_reloads_total", {"outcome": outcome}) or 0


def of(logs: list[Any], event: str) -> list[Any]:
    return [entry for entry in logs if entry["event"] == event]


async def test_a_part_is_given_what_its_files_hold_now(file: Path, logs: list[Any]) -> None:
    given = []

    async def take(settings: Settings) -> str:
        given.append(settings.tenants)
        return "another"

    reloads, before = Reloads(load_settings()), counted("done")
    reloads.add("tenants", take, settings=("tenants",))
    file.write_text("sentinel\nswot\n")
    await reloads.reload()
    assert given == [("sentinel", "swot")]
    assert [(entry["part"], entry["changed"]) for entry in of(logs, "part_reloaded")] == [
        ("tenants", "another")
    ]
    assert of(logs, "reloaded") == [
        {"event": "reloaded", "log_level": "info", "failed": [], "need_restart": []}
    ]
    assert (reloads.failed(), counted("done")) == ({}, before + 1)


async def test_a_part_that_is_wrong_is_told_and_keeps_no_other_from_being_read(
    file: Path, logs: list[Any]
) -> None:
    taken = []

    async def take(settings: Settings) -> None:
        taken.append(settings.tenants)

    async def refuse(_settings: Settings) -> None:
        raise ConfigurationError("the key is none; make another")

    async def break_down(_settings: Settings) -> None:
        raise KeyError("x")

    reloads, before = Reloads(load_settings()), counted("failed")
    reloads.add("tenants", take, settings=("tenants",))
    reloads.add("keys", refuse)
    reloads.add("lines", break_down)
    reloads.add("last", take)
    file.write_text("sentinel\na b\n")
    await reloads.reload()
    assert taken == [("sentinel",)]  # by the last one; the first is not asked
    told = {entry["part"]: entry for entry in of(logs, "part_not_reloaded")}
    assert told.keys() == {"tenants", "keys", "lines"}
    assert {entry["log_level"] for entry in told.values()} == {"error"}
    assert "DELIVERY_TENANTS_FILE names: line 2: 'a b' is no name" in told["tenants"]["cause"]
    assert "correct the file, and send SIGHUP again" in told["tenants"]["advice"]
    assert told["keys"]["cause"] == "the key is none; make another"
    assert "a fault of this program" in told["lines"]["cause"]
    assert {name: cause for name, (_, cause) in reloads.failed().items()} == {
        name: entry["cause"] for name, entry in told.items()
    }
    assert counted("failed") == before + 1
    assert REGISTRY.get_sample_value("delivery_reload_failed_parts") == 3
    file.write_text("sentinel\n")
    await reloads.reload()
    assert reloads.failed().keys() == {"keys", "lines"}
    assert REGISTRY.get_sample_value("delivery_reload_failed_parts") == 2
    assert taken == [("sentinel",)] * 3


async def test_a_file_that_does_not_go_with_other_settings_is_told_of_each_part_that_reads_none(
    file: Path, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that was taken away, and is good all the same, must not be told as gone."""
    url = file.with_name("url")
    url.write_text("amqps://rabbit.example")
    monkeypatch.setenv("DELIVERY_AMQP_URL_FILE", str(url))
    monkeypatch.setenv("DELIVERY_AMQP_CA", str(file))
    taken = []

    async def take(settings: Settings) -> None:
        taken.append(settings)

    reloads = Reloads(load_settings())
    reloads.add("tenants", take, settings=("tenants",))
    url.write_text("amqp://rabbit.example")
    await reloads.reload()
    (told,) = of(logs, "part_not_reloaded")
    assert (taken, told["part"]) == ([], "tenants")
    assert "DELIVERY_AMQP_CA" in told["cause"]


async def test_what_no_part_reads_again_needs_a_restart(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    password = tmp_path / "password"
    password.write_text("one")
    monkeypatch.setenv("DELIVERY_AMQP_PASSWORD_FILE", str(password))
    reloads = Reloads(load_settings())
    await reloads.reload()
    assert of(logs, "reload_needs_restart") == []
    password.write_text("another-secret")
    file.write_text("swot\n")
    await reloads.reload()
    await reloads.reload()  # it goes on to
    settings = [entry["setting"] for entry in of(logs, "reload_needs_restart")]
    assert settings == ["DELIVERY_AMQP_PASSWORD", "DELIVERY_TENANTS"] * 2
    assert "another-secret" not in str(logs)


async def test_a_second_signal_waits_for_the_reload_that_is_under_way(
    file: Path, logs: list[Any]
) -> None:
    begun, go_on, seen = asyncio.Event(), asyncio.Event(), []
    under_way = 0

    async def take(settings: Settings) -> None:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        seen.append(settings.tenants)
        begun.set()
        await go_on.wait()
        under_way -= 1

    @contextlib.asynccontextmanager
    async def telling() -> AsyncIterator[None]:
        told.append("begins")
        yield
        told.append("ends")

    told: list[str] = []
    reloads = Reloads(load_settings(), telling=telling)
    reloads.add("tenants", take, settings=("tenants",))
    running = asyncio.create_task(reloads.run())
    reloads.ask()
    await begun.wait()
    begun.clear()
    file.write_text("swot\n")
    for _ in range(3):
        reloads.ask()
    assert told == ["begins"]
    go_on.set()
    await begun.wait()
    assert seen == [("sentinel",), ("swot",)]
    assert told[:3] == ["begins", "ends", "begins"]
    running.cancel()
    await asyncio.wait([running])
