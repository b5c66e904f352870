"""What is deployed by: settings, commands, ports and paths in it are those of the gateway."""

import configparser
import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.schema.test_docs import SETTINGS
from tests.support.commands import parse

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = ("gateway", "worker", "migrate")
HEALTH = {"/healthz", "/readyz"}
IMAGE_PORT = 8000


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@cache
def manifests() -> list[dict[str, Any]]:
    return [
        manifest
        for kustomization in (KUBERNETES, KUBERNETES / "migrate")
        for name in read(kustomization / "kustomization.yaml")["resources"]
        for manifest in yaml.safe_load_all((kustomization / name).read_text())
    ]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in manifests() if each["kind"] == kind]


def pods() -> dict[str, dict[str, Any]]:
    """Return the pod templates by the name of what makes them."""
    makers = of_kind("Deployment") + of_kind("Job")
    return {each["metadata"]["name"]: each["spec"]["template"] for each in makers}


def test_every_setting_in_the_files_is_one() -> None:
    files = [ROOT / "compose.yaml", ROOT / "Dockerfile", *DEPLOY.rglob("*")]
    for path in files:
        if path.is_file() and path.suffix != ".py":
            named = set(re.findall(r"\b(?:GATEWAY|RUNCOMFY)_[A-Z_]*[A-Z]\b", path.read_text()))
            assert named <= SETTINGS, path


def test_the_image_starts_a_command_and_checks_it() -> None:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    said = dict(re.findall(r"^(ENTRYPOINT|CMD|USER|HEALTHCHECK|WORKDIR) (.*)$", text, re.MULTILINE))
    assert json.loads(said["ENTRYPOINT"]) == ["gateway"]
    assert parse(json.loads(said["CMD"])) == {"host": "0.0.0.0", "port": IMAGE_PORT}
    assert said["USER"] == "10001:10001"
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (check,) = json.loads(said["HEALTHCHECK"].partition(" CMD ")[2])
    assert {"gateway", check} == set(scripts)


def test_compose_runs_what_is_there_without_privileges() -> None:
    services = COMPOSE["services"]
    ports = {"gateway": IMAGE_PORT}
    for name in OURS:
        service = services[name]
        options = parse(service.get("command", ["serve", "--host", "0.0.0.0"]))
        if options.get("port"):
            assert options["host"] == "0.0.0.0"
            ports[name] = options["port"]
        assert service["image"] == "runcomfy-gateway:local"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == "/tmp"
        assert service["volumes"] == ["files:/data"]
        assert service["env_file"] == ".env"
    assert [name for name in OURS if "build" in services[name]] == ["migrate"]
    for name in ("gateway", "worker"):
        waits = services[name]["depends_on"]
        assert waits == {"migrate": {"condition": "service_completed_successfully"}}
        *_, command, url = services[name]["healthcheck"]["test"]
        assert command == "gateway-healthcheck"
        host, _, path = url.removeprefix("http://").partition("/")
        assert (host, f"/{path}" in HEALTH) == (f"127.0.0.1:{ports[name]}", True)
    assert services["gateway"]["ports"] == [f"127.0.0.1:${{API_PORT:-8000}}:{IMAGE_PORT}"]

    for name, service in services.items():
        if name not in OURS:
            assert re.fullmatch(r"[a-z/]+:v?\d[\w.-]+", service["image"]), "pin a version"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["logging"] == {"driver": "local"}, "or they fill the disk"
        for source, *_ in (mount.split(":") for mount in service["volumes"]):
            assert (ROOT / source).exists() if source[0] == "." else source in COMPOSE["volumes"]

    url = services["gateway"]["environment"]["GATEWAY_DATABASE_URL"]
    database = services["postgres"]["environment"]
    password = database["POSTGRES_PASSWORD"]
    assert url == (
        f"postgresql://{database['POSTGRES_USER']}:{password}@postgres/{database['POSTGRES_DB']}"
    )

    watched = read(DEPLOY / "prometheus" / "prometheus.yml")
    targets = [job["dns_sd_configs"][0] for job in watched["scrape_configs"]]
    assert {each["names"][0]: each["port"] for each in targets} == {
        "gateway": ports["gateway"],
        "worker": ports["worker"],
    }


def test_the_readme_names_the_logs_of_whatever_reads_a_wrong_setting_first() -> None:
    (told,) = re.findall(r"`docker compose logs ([\w ]+)`", (ROOT / "README.md").read_text())
    assert set(told.split()) == {"gateway", *COMPOSE["services"]["gateway"]["depends_on"]}


def test_prometheus_and_grafana_find_what_they_are_given() -> None:
    services = COMPOSE["services"]
    mounted = {
        target: ROOT / source
        for name in ("prometheus", "grafana")
        for source, target, *_ in (mount.split(":") for mount in services[name]["volumes"])
    }
    rules = read(DEPLOY / "prometheus" / "prometheus.yml")["rule_files"]
    assert [mounted[path] for path in rules] == [DEPLOY / "alerts.yml"]
    (source,) = read(DEPLOY / "grafana" / "datasources" / "prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert services["prometheus"]["ports"][0].endswith(":9090")

    board = json.loads((DEPLOY / "dashboard.json").read_text())
    (variable,) = board["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", source["type"])
    asked = {panel["datasource"]["uid"] for panel in board["panels"]}
    assert asked == {f"${{{variable['name']}}}"}
    (provider,) = read(DEPLOY / "grafana" / "dashboards" / "gateway.yaml")["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(provider["options"]["path"])
    assert mounted[home] == DEPLOY / "dashboard.json"


@pytest.mark.parametrize("name", ["gateway", "worker", "gateway-migrate"])
def test_a_pod_runs_a_command_with_its_settings_and_no_privileges(name: str) -> None:
    pod = pods()[name]["spec"]
    (container,) = pod["containers"]
    options = parse(container["args"])
    ports = {each["name"]: each["containerPort"] for each in container.get("ports", [])}
    if name != "gateway-migrate":
        assert options["host"] == "0.0.0.0"
        assert list(ports.values()) == [options["port"]]
        annotations = pods()[name]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(options["port"])
        probes = {
            kind: container[f"{kind}Probe"]["httpGet"]
            for kind in ("startup", "liveness", "readiness")
        }
        assert {kind: probe["path"] for kind, probe in probes.items()} == {
            "startup": "/healthz",
            "liveness": "/healthz",
            "readiness": "/readyz",
        }
        assert {probe["port"] for probe in probes.values()} == set(ports)
        assert container["envFrom"] == [
            {"configMapRef": {"name": "gateway"}},
            {"secretRef": {"name": "gateway"}},
        ]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_kustomizations_are_of_this_release_and_their_parts_fit() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for folder in (KUBERNETES, KUBERNETES / "migrate"):
        (image,) = read(folder / "kustomization.yaml")["images"]
        assert (image["name"], image["newTag"]) == ("runcomfy-gateway", project["version"])
    assert {pod["spec"]["containers"][0]["image"] for pod in pods().values()} == {image["name"]}

    templates = {name: pod["metadata"]["labels"] for name, pod in pods().items()}
    for kind in ("Service", "Deployment", "PodDisruptionBudget"):
        for each in of_kind(kind):
            selector = each["spec"]["selector"]
            wanted = selector if kind == "Service" else selector["matchLabels"]
            assert wanted.items() <= templates[each["metadata"]["name"]].items(), kind
    (service,) = of_kind("Service")
    (container,) = pods()["gateway"]["spec"]["containers"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]

    (policy,) = of_kind("NetworkPolicy")
    (expression,) = policy["spec"]["podSelector"]["matchExpressions"]
    listening = {
        container["ports"][0]["containerPort"]
        for name in expression["values"]
        for container in pods()[name]["spec"]["containers"]
    }
    scraped = policy["spec"]["ingress"][1]["ports"]
    assert {each["port"] for each in scraped} == listening
    # Selectors would get it too, also those of what runs elsewhere: the policy's for DNS.
    (labels,) = read(KUBERNETES / "kustomization.yaml")["labels"]
    assert labels["includeSelectors"] is False

    (generated,) = read(KUBERNETES / "kustomization.yaml")["configMapGenerator"]
    secret = read(KUBERNETES / "secret.example.yaml")
    assert generated["name"] == secret["metadata"]["name"] == "gateway"
    keys = {literal.partition("=")[0] for literal in generated["literals"]} | set(
        secret["stringData"]
    )
    assert {key for key in keys if not key.startswith("AWS_")} <= SETTINGS
    assert not any(value for key, value in secret["stringData"].items() if "URL" not in key)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_where_the_readme_puts_it(path: Path) -> None:
    # Keys may come twice, as systemd's do.
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text())
    service = unit["Service"]
    binary, *words = service["ExecStart"].split()
    assert parse(words)["host"] == "127.0.0.1"
    readme = (ROOT / "README.md").read_text()
    for place in (binary, service["EnvironmentFile"], service["WorkingDirectory"]):
        assert place in readme
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert f"useradd --system --home-dir {service['WorkingDirectory']}" in readme
    # A wrong setting ends it for good, and nothing else does.
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "2")
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""


def test_the_units_differ_in_what_they_run_alone() -> None:
    gateway, worker = (path.read_text().splitlines() for path in reversed(UNITS))
    assert len(gateway) == len(worker)
    differing = {a.partition("=")[0] for a, b in zip(gateway, worker, strict=True) if a != b}
    assert differing == {"Description", "ExecStart"}
