"""No Docker engine runs the tests: what compose and Dockerfile say is checked against the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.commands import COMMANDS
from app.errors import ConfigurationError
from app.settings import Settings, environment_names
from app.settings.files import may_be_in_a_file
from app.tenants.secret_rules import refuse_weak_secrets
from compose.rs_order.switches import SHOWN, Switches

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose" / "docker-compose.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    parsed = yaml.safe_load(COMPOSE.read_text())
    found: dict[str, Any] = parsed["services"]
    return found


def secret_file(mounted: str) -> Path:
    """Return what is mounted as /run/secrets/NAME."""
    name = mounted.removeprefix("/run/secrets/")
    given = yaml.safe_load(COMPOSE.read_text())["secrets"][name]["file"]
    return COMPOSE.parent / str(given)


def take(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment of a container, with the files of its secrets."""
    for name, value in environment.items():
        local = str(secret_file(value)) if name.endswith("_FILE") else value
        monkeypatch.setenv(name, local)


def test_the_service_is_given_settings_that_it_knows_and_accepts(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = services["delivery"]["environment"]
    named = {name.removesuffix("_FILE") for name in environment}
    assert named <= set(environment_names().values())
    take(environment, monkeypatch)
    Settings()


def test_secrets_are_files_and_each_service_has_those_that_it_names(
    services: dict[str, Any],
) -> None:
    declared = yaml.safe_load(COMPOSE.read_text())["secrets"]
    for service in services.values():
        environment = service.get("environment", {})
        named = {
            value.removeprefix("/run/secrets/")
            for name, value in environment.items()
            if name.endswith("_FILE")
        }
        assert named == set(service.get("secrets", []))
        assert named <= set(declared)
    for name, field in Settings.model_fields.items():
        if may_be_in_a_file(field) and name.endswith(("secret", "password", "keys")):
            assert f"DELIVERY_{name.upper()}" not in services["delivery"]["environment"]
    for name in declared:
        assert secret_file(name).read_text().strip()


def test_secrets_that_everybody_can_read_here_are_known_to_be_public(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator who takes the file for work removes the line that accepts them, and is told."""
    take(services["delivery"]["environment"], monkeypatch)
    refuse_weak_secrets(Settings(), http=True)
    monkeypatch.delenv("DELIVERY_DEVELOPMENT")
    with pytest.raises(ConfigurationError) as raised:
        refuse_weak_secrets(Settings(), http=True)
    for name in ("DELIVERY_RS_ORDER_TOKEN_SECRET", "DELIVERY_SECRET_KEYS"):
        assert name in str(raised.value)


def test_addresses_are_those_of_the_neighbours(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = services["delivery"]["environment"]
    take(environment, monkeypatch)
    settings = Settings()
    rabbit = services["rabbitmq"]["environment"]
    user, password = rabbit["RABBITMQ_DEFAULT_USER"], rabbit["RABBITMQ_DEFAULT_PASS"]
    vhost = rabbit["RABBITMQ_DEFAULT_VHOST"]
    assert environment["DELIVERY_AMQP_URL"] == f"amqp://{user}@rabbitmq:5672/{vhost}"
    assert settings.amqp_password.get_secret_value() == password
    postgres = services["postgres"]["environment"]
    assert environment["DELIVERY_DATABASE_URL"] == (
        f"postgresql://{postgres['POSTGRES_USER']}@postgres:5432/{postgres['POSTGRES_DB']}"
    )
    assert environment["DELIVERY_DATABASE_PASSWORD_FILE"] == postgres["POSTGRES_PASSWORD_FILE"]
    listeners = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"INTERNAL://{environment['DELIVERY_KAFKA_BOOTSTRAP_SERVERS']}" in listeners
    port = services["rs-order"]["command"][-1]
    assert environment["DELIVERY_RS_ORDER_URL"] == f"http://rs-order:{port}"
    standin = services["rs-order"]["environment"]
    name = "DELIVERY_RS_ORDER_TOKEN_SECRET_FILE"
    assert standin[name] == environment[name]
    assert standin["DELIVERY_AMQP_URL"] == (f"amqp://{user}:{password}@rabbitmq:5672/{vhost}")
    switches = {
        name.removeprefix("RS_ORDER_").lower(): value
        for name, value in standin.items()
        if name.startswith("RS_ORDER_")
    }
    assert Switches().changed(switches) == SHOWN
    users = yaml.safe_load(COMPOSE.read_text())["configs"]["s3-users"]["content"]
    assert f'"accessKey": "{environment["DELIVERY_S3_KEY"]}"' in users
    assert f'"secretKey": "{settings.s3_secret.get_secret_value()}"' in users
    assert environment["DELIVERY_DELIVERY_BUCKET"] in services["s3-bucket"]["command"][0]


def test_everything_that_is_waited_for_can_tell_that_it_is_well(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[name], name


def test_images_are_pinned_and_ports_are_on_loopback_only(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "build" not in service:
            assert re.search(r":v?[0-9][\w.-]*$", service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_the_dockerfile_fits_the_program(services: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE)
    for name in ("rs-order", "delivery"):
        assert services[name]["build"]["target"] in stages
    assert stages[-1] == "service"
    command = re.findall(r'^CMD \["(\w+)"\]$', dockerfile, re.MULTILINE)
    assert set(command) <= set(COMMANDS)
    assert f"EXPOSE {Settings.model_fields['web_port'].default}" in dockerfile
    assert "USER delivery" in dockerfile
    assert re.search(r'^HEALTHCHECK .* CMD \["delivery", "health"\]$', dockerfile, re.MULTILINE)
    assert "health" in COMMANDS
    for package in ("app", "streams", "sinks", "web"):
        assert f"COPY {package} {package}" in dockerfile


def test_docker_compose_itself_accepts_the_file() -> None:
    docker = shutil.which("docker")
    works = (
        docker
        and subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
        == 0
    )
    if not works:
        pytest.skip("the docker compose client is not installed")
    subprocess.run(
        ["docker", "compose", "-f", COMPOSE, "config", "--quiet"], check=True, timeout=60
    )


def test_what_is_built_here_runs_with_no_right_that_it_does_not_need(
    services: dict[str, Any],
) -> None:
    for name in ("delivery", "rs-order"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "mem_limit" in service
    assert services["delivery"]["healthcheck"]["test"] == ["CMD", "delivery", "health"]


def test_nothing_gains_rights_while_it_runs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
