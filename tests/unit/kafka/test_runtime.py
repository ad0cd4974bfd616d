from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from infra.kafka import runtime
from infra.kafka.errors import RuntimeUnavailableError
from infra.kafka.runtime import Jar, default_cache_dir, ensure_runtime, find_java, is_intact, read_coordinates


def test_the_list_is_one_broker_and_its_log_binding() -> None:
    jars = read_coordinates()
    assert len(jars) == len({(jar.group, jar.artifact) for jar in jars}) == 46
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) and jar.size_bytes > 1000 for jar in jars)
    versions = {jar.artifact: jar.version for jar in jars}
    assert {versions[name] for name in ("kafka_2.13", "kafka-clients", "kafka-server")} == {runtime.KAFKA_VERSION}
    assert versions["log4j-slf4j-impl"] == versions["log4j-core"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TOUCHSTONE_CACHE_DIR": "/c", "XDG_CACHE_HOME": "/x"}, Path("/c")),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/touchstone")),
        ({"XDG_CACHE_HOME": "relative is to be ignored"}, Path.home() / ".cache/touchstone"),
        ({}, Path.home() / ".cache/touchstone"),
    ],
)
def test_where_the_cache_is(environ: dict[str, str], expected: Path) -> None:
    assert default_cache_dir(environ) == expected


def java_home(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").touch(mode=0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


@pytest.mark.parametrize(("version", "feature"), [("17.0.15", 17), ("21", 21), ("25-ea", 25)])
def test_a_java_of_the_machine_is_taken_when_named(tmp_path: Path, version: str, feature: int) -> None:
    java = find_java(java_home(tmp_path, version))
    assert (java.feature_version, java.full_version) == (feature, version)


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "16"])
def test_an_old_java_is_named_with_the_remedy(tmp_path: Path, version: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match=rf"Java {version} is too old.*17 or newer.*Unset"):
        find_java(java_home(tmp_path, version))


def test_a_wrong_home_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"TOUCHSTONE_JAVA_HOME=.*there is no .*bin/java"):
        find_java(tmp_path)


def test_a_java_that_does_not_run_is_named(tmp_path: Path) -> None:
    home = java_home(tmp_path, "x")
    (home / "release").unlink()
    with pytest.raises(RuntimeUnavailableError, match="cannot be run"):
        find_java(home)


def test_the_java_of_pip_is_recent_enough() -> None:
    assert find_java().feature_version >= runtime.MIN_JAVA_VERSION


@pytest.fixture
def jar() -> Jar:
    return Jar("org.example", "thing", "1.0", 5, hashlib.sha256(b"right").hexdigest())


def test_a_jar_is_intact_by_size_and_hash(tmp_path: Path, jar: Jar) -> None:
    path = tmp_path / jar.file_name
    assert not is_intact(path, jar)
    for content, intact in ((b"right", True), (b"wrong", False), (b"righ", False)):
        path.write_bytes(content)
        assert is_intact(path, jar) is intact


class Source:
    """Stands for the machine's Maven repository and the remote one."""

    def __init__(self, folder: Path, *, local: bytes | None, remote: bytes | None) -> None:
        self.folder, self.contents, self.asked = folder, {True: local, False: remote}, list[bool]()

    def __call__(self, jar: Jar, local: bool) -> Path:
        self.asked.append(local)
        content = self.contents[local] if self.contents[local] is not None else self.contents[False]
        if content is None:
            raise ConnectionRefusedError("no route")
        path = self.folder / f"found-{local}"
        path.write_bytes(content)
        return path


def bring(monkeypatch: pytest.MonkeyPatch, cache: Path, jar: Jar, source: Source) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(runtime, "_fetcher", lambda _staging: source)
    monkeypatch.setattr(runtime, "read_coordinates", lambda: (jar,))
    ensure_runtime(cache_dir=cache, say=said.append)
    return said


def test_missing_jars_are_brought_once(tmp_path: Path, jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(tmp_path, local=None, remote=b"right")
    said = bring(monkeypatch, tmp_path / "cache", jar, source)
    assert "bringing 1 jars" in said[0]
    assert bring(monkeypatch, tmp_path / "cache", jar, source) == []
    [home] = (tmp_path / "cache").iterdir()
    assert [path.relative_to(home) for path in home.rglob("*") if path.is_file()] == [Path("jars", jar.file_name)]


def test_a_damaged_local_copy_is_passed_over(tmp_path: Path, jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(tmp_path, local=b"wrong", remote=b"right")
    bring(monkeypatch, tmp_path / "cache", jar, source)
    assert source.asked == [True, False]


def test_a_changed_jar_is_refused(tmp_path: Path, jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"other content.*proxy or mirror"):
        bring(monkeypatch, tmp_path / "cache", jar, Source(tmp_path, local=b"wrong", remote=b"wrong"))
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_no_way_to_download_says_what_to_do(tmp_path: Path, jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        RuntimeUnavailableError, match=r"org.example:thing:1.0 could not be brought[\s\S]*copy the folder"
    ):
        bring(monkeypatch, tmp_path / "cache", jar, Source(tmp_path, local=None, remote=None))


def test_a_cache_that_cannot_be_written_names_the_setting(
    tmp_path: Path, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RuntimeUnavailableError, match="Set TOUCHSTONE_CACHE_DIR"):
        bring(monkeypatch, tmp_path / "cache", jar, Source(tmp_path, local=None, remote=b"right"))
