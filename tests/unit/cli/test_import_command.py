"""``touchstone import`` without Kafka: dry runs, refusals, exit codes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from infra.kafka.errors import ClusterUnreachableError
from services.cli import import_
from services.cli.console import CommandError, ExitCode

AT = "2025-03-01T10:00:00Z"
MAPPING = """\
dataset = "shop"
[fields]
customer_id = "who"
occurred_at = "at"
kind = { constant = "purchase" }
touchpoint = { constant = "checkout" }
amount = "paid"
currency = { constant = "EUR" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.toml").write_text(MAPPING)
    (tmp_path / "a.csv").write_text(f"who,at,paid\nc,{AT},1\nc,{AT},1\nd,{AT},-5\n")
    return tmp_path


class Log:
    """Stands for Kafka; goes away after some batches when told to."""

    def __init__(self, batches: int = 1000) -> None:
        self.values: list[bytes] = []
        self.batches = batches

    def append(self, keys: Sequence[str], values: Sequence[bytes], timestamp_ms: int) -> None:
        if self.batches == 0:
            raise ClusterUnreachableError("Kafka does not answer")
        self.batches -= 1
        self.values += values


def run(
    folder: Path, *arguments: str, log: Log | None = None, monkeypatch: pytest.MonkeyPatch | None = None
) -> tuple[int, str, str]:
    if log is not None and monkeypatch is not None:
        monkeypatch.setattr(import_, "_KafkaLog", lambda bootstrap: log)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(import_.import_file)
    result = CliRunner().invoke(
        app, [str(folder / "a.csv"), "-m", str(folder / "m.toml"), *arguments], catch_exceptions=False
    )
    return result.exit_code, result.stdout, result.stderr


def test_a_dry_run_judges_and_sends_nothing(folder: Path) -> None:
    code, out, err = run(folder, "--dry-run")
    assert code == ExitCode.NO
    assert "accepted (nothing was sent)" in out
    assert "row 3: out_of_range: amount: amount must be between" in err
    assert not list(folder.glob("*.rejected.ndjson"))


def test_refused_rows_are_kept_with_reason_columns_and_event(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    code, out, _ = run(folder, "--json", log=log, monkeypatch=monkeypatch)
    counts = json.loads(out)
    assert (code, counts["accepted"], counts["refused"], len(log.values)) == (1, 2, 1, 2)
    assert counts["reasons"] == {"out_of_range": 1}
    [line] = [json.loads(text) for text in Path(counts["rejected_file"]).read_text().splitlines()]
    assert (line["row"], line["reason"], line["field"]) == (3, "out_of_range", "/amount")
    assert line["columns"] == {"who": "d", "at": AT, "paid": "-5"}
    assert line["event"]["customer_id"] == "d"


def test_all_taken_is_exit_code_0_and_an_old_file_of_refusals_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, log=Log(), monkeypatch=monkeypatch)
    assert (folder / "a.csv.rejected.ndjson").exists()
    (folder / "a.csv").write_text(f"who,at,paid\nc,{AT},1\n")
    code, _, _ = run(folder, log=Log(), monkeypatch=monkeypatch)
    assert code == ExitCode.DONE
    assert not (folder / "a.csv.rejected.ndjson").exists()


def test_kafka_going_away_says_how_far_it_came(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match=r"does not answer\nstopped after 0 of 3 rows .* Run the same") as raised:
        run(folder, log=Log(batches=0), monkeypatch=monkeypatch)
    assert raised.value.code is ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [(None, "the mapping"), (MAPPING.replace("who", "whom"), "no column 'whom'"), ("x", "not TOML")],
)
def test_a_wrong_mapping_is_exit_code_2(folder: Path, mapping: str | None, expected: str) -> None:
    if mapping is None:
        (folder / "m.toml").unlink()
    else:
        (folder / "m.toml").write_text(mapping)
    with pytest.raises(CommandError, match=expected) as raised:
        run(folder, "--dry-run")
    assert raised.value.code is ExitCode.WRONG_USE


def test_refusals_that_cannot_be_kept_end_the_import(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="--rejected"):
        run(folder, "--rejected", str(folder / "missing" / "r"), log=Log(), monkeypatch=monkeypatch)


def test_the_simulators_file_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.cli.simulate import simulate

    simulate(customers=3, out=tmp_path / "a.ndjson", truth=tmp_path / "t.ndjson")
    example = Path(__file__).parents[3] / "docs" / "mappings" / "events.toml"
    log = Log()
    monkeypatch.setattr(import_, "_KafkaLog", lambda bootstrap: log)
    import_.import_file(tmp_path / "a.ndjson", example)
    assert len(log.values) == len((tmp_path / "a.ndjson").read_text().splitlines()) > 0
    assert len((tmp_path / "t.ndjson").read_text().splitlines()) == 3
