"""The units of compose/systemd, held against the program, and judged by systemd-analyze."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from app.cli import EXIT_FAULT, EXIT_MISTAKE, EXIT_UNAVAILABLE
from app.cli.commands import Commands
from app.settings import Settings, environment_names
from app.settings.files import may_be_in_a_file

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "compose" / "systemd"
SHARED = FOLDER / "rs-delivery-.service.d" / "10-rs-delivery.conf"
UNITS = sorted(FOLDER.glob("*.service"))
EXPOSURE = 2.0  # of 10, at most; 1.2 by systemd 252, and each version counts otherwise
SIZES = {"M": 1024**2, "G": 1024**3}


def entries(*files: Path) -> list[tuple[str, str]]:
    """Return what units set, in order."""
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return [
        (name, value)
        for name, sign, value in (line.partition("=") for line in lines)
        if sign and not name.startswith(("#", ";"))
    ]


def value_of(file: Path, name: str) -> str:
    (value,) = [value for named, value in entries(SHARED, file) if named == name]
    return value


def environment(*files: Path) -> dict[str, str]:
    pairs = [value for name, value in entries(*files) if name == "Environment"]
    return dict(pair.split("=", 1) for value in pairs for pair in value.split())


def test_units_set_settings_that_there_are() -> None:
    settings = {env: name for name, env in environment_names().items()}
    example = dict(entries(FOLDER / "rs-delivery.env"))
    for name in [*environment(SHARED, *UNITS), *example]:
        if name.startswith("PYTHON"):
            continue
        setting = settings[name.removesuffix("_FILE")]
        if name.endswith("_FILE"):
            assert may_be_in_a_file(Settings.model_fields[setting]), name
    for name in example.keys() - {"DELIVERY_TENANTS"}:  # they are no secret
        assert not may_be_in_a_file(Settings.model_fields[settings[name]]) or "URL" in name


def test_the_example_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in entries(FOLDER / "rs-delivery.env"):
        monkeypatch.setenv(name, value)
    assert Settings().tenants


def test_secrets_are_credentials_each_under_its_name() -> None:
    loaded = dict(
        value.split(":", 1) for name, value in entries(SHARED) if name == "LoadCredential"
    )
    named = {name: value for name, value in environment(SHARED).items() if name.endswith("_FILE")}
    assert {value.removeprefix("%d/") for value in named.values()} == loaded.keys()
    for name, file in named.items():
        credential = file.removeprefix("%d/")
        assert name == f"DELIVERY_{credential.upper().replace('-', '_')}_FILE"
        assert loaded[credential] == f"/etc/rs-delivery/credentials/{credential}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_of_the_program(unit: Path) -> None:
    program, command, *others = value_of(unit, "ExecStart").split()
    assert program == "/opt/rs-delivery/bin/delivery"
    assert not others
    commands = Commands("delivery")
    found = commands.get_command(click.Context(commands), command)
    assert found is not None
    found.make_context(command, [])
    assert command in unit.name


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_process_has_the_time_and_the_memory_that_it_takes(unit: Path) -> None:
    stop = float(value_of(unit, "TimeoutStopSec"))
    assert stop >= Settings.model_fields["shutdown_grace"].default + 15
    limit = value_of(unit, "MemoryMax")
    held = 0 if "web" in unit.name else int(Settings.model_fields["worker_memory"].default)
    assert int(limit[:-1]) * SIZES[limit[-1]] >= held + 512 * SIZES["M"]
    # A loop that is held for so long has lost its leases.
    assert float(value_of(unit, "WatchdogSec")) >= 2 * Settings.model_fields["lease_ttl"].default


def test_what_a_new_start_can_mend_is_started_again() -> None:
    prevented = {int(code) for code in value_of(UNITS[0], "RestartPreventExitStatus").split()}
    assert prevented == {EXIT_MISTAKE}
    assert not prevented & {EXIT_FAULT, EXIT_UNAVAILABLE}
    assert value_of(UNITS[0], "Restart") == "on-failure"
    assert value_of(UNITS[0], "Type") == "notify"
    assert value_of(UNITS[0], "ExecReload") == "/bin/kill -HUP $MAINPID"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine with the units, their program, and what units are ordered by."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    units = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(FOLDER, units)
    for program in ("opt/rs-delivery/bin/delivery", "bin/kill"):
        made = tmp_path / program
        made.parent.mkdir(parents=True)
        made.write_text("#!/bin/sh\n")
        made.chmod(0o755)
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    return tmp_path


def instance(unit: Path) -> str:
    return unit.name.replace("@.", "@1.")


def analyze(machine: Path, *arguments: str) -> str:
    command = ["systemd-analyze", *arguments[:1], f"--root={machine}", *arguments[1:]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    told = ended.stdout + ended.stderr
    if "--root" in told or "nrecognized option" in told:
        pytest.skip("this systemd-analyze looks at no other root: it is older than 252")
    assert ended.returncode == 0, told
    return told


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_to_mend(unit: Path, machine: Path) -> None:
    told = analyze(machine, "verify", instance(unit))
    assert "rs-delivery" not in told


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_process_is_as_little_exposed_as_is_told(unit: Path, machine: Path) -> None:
    told = analyze(machine, "security", "--offline=yes", "--no-pager", instance(unit))
    (exposure,) = re.findall(r"Overall exposure level for .*: ([\d.]+)", told)
    assert float(exposure) <= EXPOSURE
