"""The Helm chart: rendered with several values, and held against the program and Kubernetes.

`make chart` gets what it takes (helm, kubeconform, Kubernetes' schemas), and runs this.
"""

from __future__ import annotations

import copy
import functools
import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from jsonschema import Draft7Validator

from app import __version__
from app.cli.commands import Commands
from app.settings import Settings, environment_names
from app.settings.files import may_be_in_a_file
from compose.embedded import kubernetes
from tests.unit.test_monitoring import NAME, known
from web.api.health import Health
from web.api.metrics import MetricsApi
from web.site import create_probe_site

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "compose" / "helm" / "rs-delivery"
ALERTS = ROOT / "compose" / "monitoring" / "alerts.yml"
GIVEN = sorted((CHART / "ci").glob("*-values.yaml"))
# Of custom resources no schema is here.
CUSTOM = ("PrometheusRule", "ScaledObject", "ServiceMonitor")
KINDS = {
    "minimal": "Deployment Job NetworkPolicy PodDisruptionBudget Service ServiceAccount",
    "full": "ConfigMap Deployment HorizontalPodAutoscaler Ingress Job NetworkPolicy "
    "PodDisruptionBudget PrometheusRule ScaledObject Service ServiceAccount ServiceMonitor",
    "plain": "Deployment HorizontalPodAutoscaler Service",
}
SIZES = {"Mi": 1024**2, "Gi": 1024**3}

Resource = dict[str, Any]


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text("utf-8"))


def merged(under: Any, over: Any) -> Any:
    """Put values over others, as helm does: null takes one away."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    both = {name: merged(under.get(name), value) for name, value in over.items()}
    return {name: value for name, value in (under | both).items() if value is not None}


def name_of(file: Path) -> str:
    return file.name.removesuffix("-values.yaml")


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if kubernetes.missing():
        pytest.skip(f"not here: {', '.join(kubernetes.missing())}; `make chart` gets them")
    program = kubernetes.HELM.program(kubernetes.HOME)
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@functools.cache
def render(values: Path) -> str:
    """Return what helm makes of values, in one text."""
    version = ("--kube-version", kubernetes.VERSIONS[-1])
    made = helm("template", "d", CHART, "-n", "regards", *version, "-f", values)
    assert made.returncode == 0, made.stderr
    return made.stdout


def resources(text: str) -> list[Resource]:
    return [manifest for manifest in yaml.safe_load_all(text) if manifest is not None]


@pytest.fixture(scope="module", params=GIVEN, ids=name_of)
def values(request: pytest.FixtureRequest) -> Path:
    given: Path = request.param
    return given


@pytest.fixture(scope="module")
def rendered(values: Path) -> list[Resource]:
    return resources(render(values))


def of_kind(rendered: list[Resource], *kinds: str) -> list[Resource]:
    return [manifest for manifest in rendered if manifest["kind"] in kinds]


def pods(rendered: list[Resource]) -> Iterator[tuple[Resource, Resource]]:
    """Give each pod's specification, and the container in it."""
    for manifest in of_kind(rendered, "Deployment", "Job"):
        pod = manifest["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        yield pod, container


def environment(container: Resource) -> dict[str, str]:
    names = [entry["name"] for entry in container["env"]]
    assert len(set(names)) == len(names), names
    return {entry["name"]: entry["value"] for entry in container["env"]}


def bytes_of(size: str) -> int:
    return int(size[:-2]) * SIZES[size[-2:]]


# What needs no helm.


def test_the_chart_is_of_this_version_of_the_program() -> None:
    chart = read(CHART / "Chart.yaml")
    assert chart["appVersion"] == __version__
    assert chart["kubeVersion"] == f">={kubernetes.VERSIONS[0]}-0"


def test_alerts_of_the_chart_are_those_of_the_container() -> None:
    """One file, not two: helm takes what the link leads to."""
    link = CHART / "files" / "alerts.yml"
    assert link.is_symlink()
    assert link.resolve() == ALERTS


@pytest.mark.parametrize("file", [CHART / "values.yaml", *GIVEN], ids=lambda file: file.name)
def test_values_name_settings_that_there_are(file: Path) -> None:
    values = read(file)
    settings = {env: name for name, env in environment_names().items()}
    assert values["settings"].keys() <= settings.keys()
    for name in values["secrets"].get("keys", {}):
        assert may_be_in_a_file(Settings.model_fields[settings[name]]), name
    for name in values["settings"].keys() - {"DELIVERY_TENANTS"}:  # they are no secret
        assert not may_be_in_a_file(Settings.model_fields[settings[name]]) or "URL" in name, name


@pytest.fixture(scope="module")
def accepts() -> Callable[[Resource], bool]:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    Draft7Validator.check_schema(schema)
    validator = Draft7Validator(schema)
    return lambda values: bool(validator.is_valid(values))


def with_value(path: str, value: object) -> Resource:
    """Return the least values with another one among them."""
    values: Resource = copy.deepcopy(merged(read(CHART / "values.yaml"), read(GIVEN[1])))
    *folders, last = path.split("/")
    inner = values
    for folder in folders:
        inner = inner[folder]
    inner[last] = value
    return values


@pytest.mark.parametrize("file", GIVEN, ids=name_of)
def test_values_of_the_examples_are_accepted(
    file: Path, accepts: Callable[[Resource], bool]
) -> None:
    assert accepts(merged(read(CHART / "values.yaml"), read(file)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image/repository", ""),
        ("image/digest", "latest"),
        ("secrets/existingSecret", ""),
        ("secrets/keys/DELIVERY_SECRET_KEYS_FILE", "secret-keys"),
        ("settings/DELIVERY_TENANTS", ""),
        ("settings/DELIVERY_MAX_TRANSFERS", 4),  # helm would write large ones as 1.3e+09
        ("settings/DELIVERY_S3_SECRET", "seen by all who may read the release"),
        ("settings/DELIVERY_SECRET_KEYS", "the same"),
        ("settings/DELIVERY_JWT_SECRET_FILE", "/run/secrets/jwt"),
        ("settings/DELIVERY_AMQP_URL", "amqp://delivery:password@rabbitmq/v"),
        ("settings/DELIVERY_WEB_PORT", "8080"),
        ("settings/DELIVERY_SHUTDOWN_GRACE", "1m"),
        ("settings/S3_ENDPOINT", "https://s3"),
        ("web/readiness", "well"),
        ("web/ingress/enabled", True),  # without a host
        ("worker/replica", 3),
    ],
)
def test_values_that_would_not_work_are_refused(
    path: str, value: object, accepts: Callable[[Resource], bool]
) -> None:
    assert accepts(with_value("worker/replicas", 3))
    assert not accepts(with_value(path, value))


SECRETS = [
    name
    for name, field in Settings.model_fields.items()
    if "SecretStr" in str(field.annotation) and not name.endswith("_url")  # see "address" for these
]


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_given_as_a_setting(name: str, accepts: Callable[[Resource], bool]) -> None:
    assert not accepts(with_value(f"settings/DELIVERY_{name.upper()}", "seen by all"))


# What helm makes.


def test_helm_finds_nothing_to_mend(values: Path) -> None:
    linted = helm("lint", "--strict", CHART, "-f", values)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_values_say_what_is_made(values: Path, rendered: list[Resource]) -> None:
    assert {manifest["kind"] for manifest in rendered} == set(KINDS[name_of(values)].split())
    named = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered]
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("version", kubernetes.VERSIONS)
def test_kubernetes_knows_every_field(values: Path, version: str) -> None:
    ended = conform(render(values), version)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def conform(text: str, version: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        kubernetes.KUBECONFORM.program(kubernetes.HOME),
        "-strict",
        *("-kubernetes-version", version, "-skip", ",".join(CUSTOM)),
        "-schema-location",
        f"{kubernetes.schemas(version)}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
    ]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    text = render(GIVEN[1]).replace("enableServiceLinks:", "enableServiceLink:", 1)
    assert "enableServiceLink" in conform(text, kubernetes.VERSIONS[-1]).stdout


def test_every_process_is_given_settings_that_it_knows(rendered: list[Resource]) -> None:
    settings = {env: name for name, env in environment_names().items()}
    for _, container in pods(rendered):
        for name in environment(container):
            setting = settings[name.removesuffix("_FILE")]
            if name.endswith("_FILE"):
                assert may_be_in_a_file(Settings.model_fields[setting]), name


def test_every_process_accepts_what_it_is_given(
    rendered: list[Resource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    given.write_text("anything, as far as a file is concerned\n")
    names = tmp_path / "tenants"
    made = [each["data"]["tenants"] for each in of_kind(rendered, "ConfigMap")]
    names.write_text(made[0] if made else "sentinel\n")
    for _, container in pods(rendered):
        with monkeypatch.context() as patched:
            for name, value in environment(container).items():
                patched.setenv(name, str(given) if name.endswith("_FILE") else value)
            if "DELIVERY_TENANTS_FILE" in environment(container):
                patched.setenv("DELIVERY_TENANTS_FILE", str(names))
            settings = Settings()
        if container["name"] != "migrate":
            assert settings.metrics_port
            assert settings.tenants


def test_secrets_are_files_of_the_secret_and_nothing_else(rendered: list[Resource]) -> None:
    for pod, container in pods(rendered):
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert mounts.keys() == volumes.keys()
        folder, there = mounts["secrets"]["mountPath"], volumes["secrets"]["secret"]
        assert mounts["secrets"]["readOnly"] is True
        files = {f"{folder}/{item['path']}" for item in there["items"]}
        named = environment(container)
        named.pop("DELIVERY_TENANTS_FILE", None)  # they are no secret
        for name, value in named.items():
            if name.endswith("_FILE"):
                assert value in files, name
            assert not re.search(r"(PASSWORD|SECRETS?|SECRET_KEYS|TOKEN)$", name), name
        assert "envFrom" not in container
        assert all("valueFrom" not in entry for entry in container["env"])
        if container["name"] != "migrate":
            assert files == {value for name, value in named.items() if name.endswith("_FILE")}


def test_tenants_are_in_a_file_where_they_are_not_in_the_settings(
    values: Path, rendered: list[Resource]
) -> None:
    made = {each["metadata"]["name"]: each["data"] for each in of_kind(rendered, "ConfigMap")}
    given = {"full": "d-rs-delivery-tenants", "plain": "tenants"}.get(name_of(values))
    if name_of(values) == "full":
        assert made == {given: {"tenants": "sentinel\nswot\n"}}
    for pod, container in pods(rendered):
        file = environment(container).get("DELIVERY_TENANTS_FILE")
        if container["name"] == "migrate" or given is None:
            assert file is None  # before an installation there is no ConfigMap of the chart yet
            continue
        (volume,) = [each for each in pod["volumes"] if each["name"] == "tenants"]
        assert volume["configMap"]["name"] == given
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "tenants"]
        assert "subPath" not in mount, "no change would be seen"
        assert file == f"{mount['mountPath']}/tenants"


@pytest.mark.parametrize(
    ("names", "existing", "setting", "good"),
    [
        (["sentinel", "swot"], "", None, True),
        ([], "tenants", None, True),
        ([], "", "sentinel", True),
        ([], "", None, False),
        (["sentinel"], "tenants", None, False),
        (["sentinel"], "", "sentinel", False),
        ([], "tenants", "sentinel", False),
        (["a b"], "", None, False),
        (["a", "a"], "", None, False),
    ],
)
def test_tenants_are_said_in_one_way(
    accepts: Callable[[Resource], bool],
    names: list[str],
    existing: str,
    setting: str | None,
    *,
    good: bool,
) -> None:
    values = with_value("tenants", {"names": names, "existingConfigMap": existing})
    values["settings"].pop("DELIVERY_TENANTS")
    if setting is not None:
        values["settings"]["DELIVERY_TENANTS"] = setting
    assert accepts(values) is good


def test_every_process_runs_without_rights(rendered: list[Resource]) -> None:
    """As the restricted standard of Pod Security asks, and with nothing to write to but /tmp."""
    for pod, container in pods(rendered):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        written = [v["name"] for v in pod["volumes"] if "emptyDir" in v]
        assert written == ["tmp"]
        (tmp,) = [m for m in container["volumeMounts"] if m["name"] == "tmp"]
        assert tmp["mountPath"] == "/tmp"  # noqa: S108 - the container's own
        assert "limits" in container["resources"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_the_user_is_that_of_the_image(rendered: list[Resource]) -> None:
    (uid,) = re.findall(r"--uid (\d+)", (ROOT / "Dockerfile").read_text())
    for pod, _ in pods(rendered):
        assert pod["securityContext"]["runAsUser"] == int(uid)


def test_services_of_a_cluster_set_no_setting(rendered: list[Resource]) -> None:
    """A Service `delivery-web` would be told of as DELIVERY_WEB_PORT=tcp://…."""
    assert all(pod["enableServiceLinks"] is False for pod, _ in pods(rendered))


def test_commands_are_those_of_the_program(rendered: list[Resource]) -> None:
    commands = Commands("delivery")
    context = click.Context(commands)
    for _, container in pods(rendered):
        assert "command" not in container  # the image's own
        first, *others = container["args"]
        command = commands.get_command(context, first)
        assert command is not None, first
        command.make_context(first, list(others))
        assert first == container["name"]


def test_probes_ask_for_what_is_answered_on_that_port(
    values: Path, rendered: list[Resource]
) -> None:
    answers = create_probe_site(Health({}), MetricsApi(None), access_log="off")
    paths = {resource.canonical for resource in answers.router.resources()}
    full = name_of(values) == "full"
    for _, container in pods(rendered):
        if container["name"] == "migrate":
            continue
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        named = environment(container)
        assert ports["metrics"] == named["DELIVERY_METRICS_PORT"]
        probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness")}
        probes["readiness"] = container["readinessProbe"]["httpGet"]
        assert {probe["path"] for probe in probes.values()} <= paths
        assert probes["startup"] == probes["liveness"]
        # Strangers may take all connections of the HTTP server: that is no reason to end it.
        assert probes["liveness"] == {"path": "/health/live", "port": "metrics"}
        if container["name"] == "worker":
            assert probes["readiness"] == {"path": "/health/ready", "port": "metrics"}
        else:
            assert ports["http"] == named["DELIVERY_WEB_PORT"]
            assert probes["readiness"] == {
                "path": "/health/ready" if full else "/health/live",
                "port": "http",
                "scheme": "HTTPS" if full else "HTTP",
            }
        assert bool(named.get("DELIVERY_WEB_TLS_CERTIFICATE")) is (
            full and container["name"] == "web"
        )
        starts = container["startupProbe"]
        lasts = starts["periodSeconds"] * starts["failureThreshold"]
        assert lasts > Settings.model_fields["start_timeout"].default


def test_a_process_has_the_time_that_it_takes_to_stop(rendered: list[Resource]) -> None:
    for pod, container in pods(rendered):
        if container["name"] == "migrate":
            continue
        grace = float(
            environment(container).get(
                "DELIVERY_SHUTDOWN_GRACE", Settings.model_fields["shutdown_grace"].default
            )
        )
        before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        assert pod["terminationGracePeriodSeconds"] >= grace + 15 + (
            float(before[1]) if before else 0
        )


def test_a_worker_has_the_memory_that_its_transfers_may_hold(rendered: list[Resource]) -> None:
    for _, container in pods(rendered):
        if container["name"] == "worker":
            held = int(
                environment(container).get(
                    "DELIVERY_WORKER_MEMORY", Settings.model_fields["worker_memory"].default
                )
            )
            resources = container["resources"]
            assert bytes_of(resources["limits"]["memory"]) >= held + 512 * SIZES["Mi"]
            assert bytes_of(resources["requests"]["memory"]) >= held
            assert "cpu" not in resources["limits"]


def test_what_selects_pods_finds_those_that_it_is_about(rendered: list[Resource]) -> None:
    labels = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["metadata"]["labels"]
        for manifest in of_kind(rendered, "Deployment", "Job")
    }

    def found(selector: dict[str, str]) -> set[str]:
        return {
            name.rpartition("-")[2]
            for name, has in labels.items()
            if selector.items() <= has.items()
        }

    for manifest in of_kind(rendered, "Deployment"):
        assert found(manifest["spec"]["selector"]["matchLabels"]) == {
            manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        }
    for manifest in of_kind(rendered, "PodDisruptionBudget", "NetworkPolicy"):
        selector = manifest["spec"].get("selector") or manifest["spec"]["podSelector"]
        role = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        assert found(selector["matchLabels"]) == {role}
    for manifest in of_kind(rendered, "HorizontalPodAutoscaler", "ScaledObject"):
        assert manifest["spec"]["scaleTargetRef"]["name"] in labels
    services = {manifest["metadata"]["name"]: manifest for manifest in of_kind(rendered, "Service")}
    assert found(services["d-rs-delivery-web"]["spec"]["selector"]) == {"web"}
    assert {"web", "worker"} <= found(services["d-rs-delivery-metrics"]["spec"]["selector"])
    for manifest in of_kind(rendered, "ServiceMonitor"):
        wanted = manifest["spec"]["selector"]["matchLabels"]
        chosen = [
            n for n, s in services.items() if wanted.items() <= s["metadata"]["labels"].items()
        ]
        assert chosen == ["d-rs-delivery-metrics"]
        ports = {port["name"] for port in services[chosen[0]]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in manifest["spec"]["endpoints"]} <= ports


def test_what_is_scaled_has_no_number_of_its_own(rendered: list[Resource]) -> None:
    scaled = [
        manifest["spec"]["scaleTargetRef"]["name"]
        for manifest in of_kind(rendered, "HorizontalPodAutoscaler", "ScaledObject")
    ]
    assert len(set(scaled)) == len(scaled)
    for manifest in of_kind(rendered, "Deployment"):
        assert ("replicas" in manifest["spec"]) is (manifest["metadata"]["name"] not in scaled)


def test_two_may_not_scale_the_same_workers() -> None:
    both = ("--set", "worker.keda.enabled=true", "--set", "worker.autoscaling.enabled=true")
    version = ("--kube-version", kubernetes.VERSIONS[-1])
    made = helm("template", "d", CHART, *version, "-f", GIVEN[1], *both)
    assert made.returncode != 0
    assert "leave one of them out" in made.stderr


def test_the_schema_is_changed_before_a_process_starts_or_by_it(
    values: Path, rendered: list[Resource]
) -> None:
    jobs = of_kind(rendered, "Job")
    assert bool(jobs) is (name_of(values) != "plain")
    for _, container in pods(rendered):
        if container["name"] != "migrate":
            at_start = environment(container)["DELIVERY_MIGRATE_AT_START"]
            assert at_start == ("false" if jobs else "true")
    for job in jobs:
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        pod = job["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] == "default"  # the chart's own comes later
    if name_of(values) == "full":
        (container,) = jobs[0]["spec"]["template"]["spec"]["containers"]
        named = environment(container)
        assert container["args"] == ["migrate", "--grant-to", "delivery_service"]
        assert named["DELIVERY_DATABASE_URL"].startswith("postgresql://delivery_owner@")
        assert named["DELIVERY_DATABASE_PASSWORD_FILE"].endswith("/database-owner-password")
        # No other process is given the password of the owner.
        assert str(rendered).count("database-owner-password'") == 3


def test_rules_of_prometheus_are_the_alerts_to_the_letter(rendered: list[Resource]) -> None:
    for rule in of_kind(rendered, "PrometheusRule"):
        assert rule["spec"] == read(ALERTS)
    for monitor in of_kind(rendered, "ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        jobs = set(re.findall(r'job="([^"]+)"', ALERTS.read_text()))
        assert [relabeling["replacement"] for relabeling in endpoint["relabelings"]] == [*jobs]


def test_workers_are_scaled_by_figures_that_there_are(
    rendered: list[Resource], tmp_path: Path
) -> None:
    for manifest in of_kind(rendered, "ScaledObject"):
        (trigger,) = manifest["spec"]["triggers"]
        query = trigger["metadata"]["query"]
        assert set(NAME.findall(query)) <= known()
        promtool = shutil.which("promtool")
        if promtool is None:
            pytest.skip("promtool is not installed: apt-get install prometheus")
        rules = {"groups": [{"name": "g", "rules": [{"record": "work", "expr": query}]}]}
        (tmp_path / "rules.yml").write_text(json.dumps(rules))
        up, of = 'delivery_database_up{job="rs-delivery",namespace="regards"', "delivery_active"
        where = 'job="rs-delivery",namespace="regards",tenant="t"'

        def told(value: float | None, *series: str) -> Resource:
            samples = [] if value is None else [{"labels": "work", "value": value}]
            return {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": number}
                    for name, _, number in (text.partition(" = ") for text in series)
                ],
                "promql_expr_test": [
                    {"expr": "work", "eval_time": "1m", "exp_samples": samples},
                ],
            }

        ready = f'{of}{{{where},state="READY",instance="a"}} = 3x2'
        again = f'{of}{{{where},state="READY",instance="b"}} = 3x2'
        runs = f'{of}{{{where},state="TRANSFERRING",instance="a"}} = 4x2'
        parked = f'delivery_parked{{{where},instance="a"}} = 2x2'
        held = f'delivery_quota_waiting{{{where},state="READY",instance="a"}} = 2x2'
        asks = f'delivery_quota_waiting{{{where},state="RECEIVED",instance="a"}} = 9x2'
        tests = {
            "rule_files": ["rules.yml"],
            "evaluation_interval": "1m",
            "tests": [
                told(5, ready, again, runs, parked, f'{up},instance="a"}} = 1x2'),
                told(3, ready, runs, parked, held, asks, f'{up},instance="a"}} = 1x2'),
                told(0, f'{up},instance="a"}} = 1x2'),
                told(None, f'{up},instance="a"}} = 0x2'),  # not known, which is not none
            ],
        }
        (tmp_path / "tests.yml").write_text(json.dumps(tests))
        ended = subprocess.run(
            [promtool, "test", "rules", "tests.yml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_what_may_come_in_is_named(values: Path, rendered: list[Resource]) -> None:
    for policy in of_kind(rendered, "NetworkPolicy"):
        spec = policy["spec"]
        role = policy["metadata"]["labels"]["app.kubernetes.io/component"]
        open_ports = {port["port"]: rule for rule in spec["ingress"] for port in rule["ports"]}
        assert open_ports.keys() == ({"metrics", "http"} if role == "web" else {"metrics"})
        assert open_ports["metrics"]["from"]
        full = name_of(values) == "full"
        assert spec["policyTypes"] == (["Ingress", "Egress"] if full else ["Ingress"])
        assert ("egress" in spec) is full


def test_an_image_is_named_by_its_digest_where_one_is_given(
    values: Path, rendered: list[Resource]
) -> None:
    ends = {"full": r"@sha256:[0-9a-f]{64}", "minimal": f":{__version__}", "plain": ":1"}
    for _, container in pods(rendered):
        assert re.fullmatch(
            rf"registry\.example\.org/rs-delivery{ends[name_of(values)]}", container["image"]
        )


def notes(folder: Path, *given: str) -> str:
    """Return what helm says of the chart once it is installed; no cluster is asked."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    said = textwrap.indent((chart / "templates" / "NOTES.txt").read_text("utf-8"), "    ")
    (chart / "templates" / "notes.yaml").write_text(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: notes}}\ndata:\n  said: |\n{said}"
    )
    values = CHART / "ci" / "minimal-values.yaml"
    only = ("--show-only", "templates/notes.yaml", "--kube-version", kubernetes.VERSIONS[-1])
    made = helm("template", "d", chart, "-f", values, *only, *given)
    assert made.returncode == 0, made.stderr
    return str(yaml.safe_load(made.stdout)["data"]["said"])


@pytest.mark.parametrize(
    ("given", "is_made"),
    [
        ((), True),
        (("secrets.keys.DELIVERY_JWT_PUBLIC_KEY=key",), False),
        (("settings.DELIVERY_OIDC_ISSUER=https://idp",), False),
        (("secrets.keys.DELIVERY_JWT_PUBLIC_KEY=key", "secrets.keys.DELIVERY_JWT_SECRET=s"), True),
    ],
)
def test_the_notes_tell_of_a_token_only_where_the_command_makes_one(
    tmp_path: Path, given: tuple[str, ...], *, is_made: bool
) -> None:
    """See `delivery token`: with keys of others, it has no secret to sign with."""
    said = notes(tmp_path, *(part for each in given for part in ("--set", each)))
    assert ("delivery token" in said) is is_made
    assert ("docs/sign-in.md" in said) is not is_made
