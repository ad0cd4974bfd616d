"""Files become scores: every row counted, a second import changes nothing, and neither does a kill."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from services.simulator import SimulationConfig, simulate
from tests.e2e.command import Touchstone, wait_for

pytestmark = pytest.mark.stack

NOW_US = 1_760_000_000_000_000
ROWS = 20_000

MAPPING = """\
dataset = "{dataset}"
attributes_column = "attributes"
[fields]
{fields}
occurred_at = "occurred_at"
[fields.amount]
column = "amount"
"""
FIELDS = (
    "customer_id", "source", "kind", "touchpoint", "channel", "journey_id", "outcome", "metric", "rating", "emotion",
    "intensity", "confidence", "currency", "case_id", "text",
)  # fmt: skip


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Half a year of a company, without ids; every fiftieth row comes twice."""
    events = simulate(SimulationConfig(customers=620, now_us=NOW_US, seed=5)).events[:ROWS]
    rows = [{**event, "attributes": json.dumps(event.get("attributes"))} for event in events]
    frame = pl.DataFrame(rows, infer_schema_length=None).drop("event_id")
    return pl.concat([frame, frame.gather_every(50)])


def write(touchstone: Touchstone, history: pl.DataFrame, dataset: str) -> tuple[Path, Path]:
    """The history with customers of this data set alone, and its mapping."""
    file, mapping = touchstone.folder / f"{dataset}.parquet", touchstone.folder / f"{dataset}.toml"
    history.with_columns(pl.col("customer_id").str.replace("sim", dataset)).write_parquet(file)
    mapping.write_text(MAPPING.format(dataset=dataset, fields="\n".join(f'{name} = "{name}"' for name in FIELDS)))
    return file, mapping


def sums_in_tables(touchstone: Touchstone, dataset: str) -> list[dict[str, Any]]:
    return touchstone.rows(
        "SELECT kind, count() AS events, sum(amount_micros) AS micros, uniqExact(customer_id) AS customers "
        f"FROM touchpoints FINAL WHERE startsWith(customer_id, '{dataset}-') AND kind != 'review_due' "
        "GROUP BY kind ORDER BY kind"
    )


def sums_in_file(history: pl.DataFrame) -> list[dict[str, Any]]:
    micros = (pl.col("amount").str.to_decimal(scale=2) * 1_000_000).cast(pl.Int64)
    return (
        history.group_by("kind")
        .agg(
            pl.len().alias("events"),
            pl.when(micros.is_not_null().any()).then(micros.sum()).alias("micros"),
            pl.col("customer_id").n_unique().alias("customers"),
        )
        .sort("kind")
        .to_dicts()
    )


def states(touchstone: Touchstone, dataset: str) -> list[dict[str, Any]]:
    """What scoring made of the events, without when it did so."""
    return touchstone.rows(
        "SELECT customer_id, events, felt, spend_micros, complaints_opened, first_event_at, last_event_at, "
        "round(emotion_slow_w, 6) AS w, round(emotion_slow_s, 6) AS s FROM customer_state FINAL "
        f"WHERE startsWith(customer_id, '{dataset}-') ORDER BY customer_id"
    )


def test_every_row_is_taken_and_the_sums_are_those_of_the_file(touchstone: Touchstone, history: pl.DataFrame) -> None:
    file, mapping = write(touchstone, history, "once")
    rejected = touchstone.settled()["events"]["rejected"]
    counts = touchstone.json("import", str(file), "-m", str(mapping))
    assert (counts["rows"], counts["accepted"], counts["refused"]) == (history.height, history.height, 0)
    before = touchstone.settled()["events"]
    assert before["rejected"] == rejected
    assert sums_in_tables(touchstone, "once") == sums_in_file(history)
    scored = states(touchstone, "once")

    touchstone.json("import", str(file), "-m", str(mapping))
    after = touchstone.settled()["events"]
    assert after["stored"] == before["stored"]
    assert after["duplicate"] == before["duplicate"] + history.height
    assert after["conflicting"] == before["conflicting"]
    assert sums_in_tables(touchstone, "once") == sums_in_file(history)
    assert states(touchstone, "once") == scored


def test_a_killed_import_and_a_killed_worker_change_no_number(touchstone: Touchstone, history: pl.DataFrame) -> None:
    file, mapping = write(touchstone, history, "killed")
    settled = touchstone.settled()
    accepted, rejected = settled["lag"]["accepted"], settled["events"]["rejected"]
    with touchstone.start("import", str(file), "-m", str(mapping)) as first:
        wait_for(
            lambda: first.poll() is not None or touchstone.json("status")["lag"]["accepted"] > accepted,
            "some of it is in the log",
        )
        first.kill()
    worker = touchstone.pid_of("scoring-1")
    with touchstone.start("import", str(file), "-m", str(mapping), "--json") as second:
        os.kill(worker, signal.SIGKILL)
        out, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert json.loads(out)["accepted"] == history.height
    wait_for(lambda: touchstone.running_pid("scoring-1") not in (None, worker), "the worker is started again")
    assert touchstone.settled()["events"]["rejected"] == rejected
    assert sums_in_tables(touchstone, "killed") == sums_in_file(history)
    assert [{**row, "customer_id": ""} for row in states(touchstone, "killed")] == [
        {**row, "customer_id": ""} for row in states(touchstone, "once")
    ]


def test_refused_rows_are_kept_with_their_reason(touchstone: Touchstone) -> None:
    file, mapping = touchstone.folder / "bad.csv", touchstone.folder / "bad.toml"
    file.write_text("who,at,n\nbad-1,2025-03-01T10:00:00Z,9\nbad-2,2025-03-01T10:00:00Z,11\nbad-3,yesterday,3\n")
    mapping.write_text(
        'dataset = "bad"\n[fields]\ncustomer_id = "who"\noccurred_at = "at"\ntouchpoint = { constant = "web" }\n'
        'kind = { constant = "survey_response" }\nmetric = { constant = "nps" }\nrating = "n"\n'
    )
    counts = touchstone.json("import", str(file), "-m", str(mapping), code=1)
    assert (counts["accepted"], counts["refused"]) == (1, 2)
    lines = [json.loads(line) for line in Path(counts["rejected_file"]).read_text().splitlines()]
    assert [(line["row"], line["reason"], line["columns"]["who"]) for line in lines] == [
        (2, "out_of_range", "bad-2"),
        (3, "invalid_time", "bad-3"),
    ]


def test_simulated_customers_are_sent_scored_and_told(touchstone: Touchstone) -> None:
    before = touchstone.settled()
    sent = touchstone.json("simulate", "-n", "40", "--seed", "9")
    assert sent["sent"] == sent["accepted"] > 500
    after = touchstone.settled()
    assert after["ingest_since_start"]["accepted"] - before["ingest_since_start"]["accepted"] == sent["accepted"]
    [worst] = touchstone.rows(
        "SELECT customer_id, risk, score FROM customer_scores WHERE startsWith(customer_id, 'sim-') "
        "ORDER BY risk DESC LIMIT 1"
    )
    story = touchstone.json("customer", worst["customer_id"], "-n", "1000")
    assert story["risk"] == pytest.approx(worst["risk"], abs=0.01)
    assert len(story["touchpoints"]) == story["events"]
    assert story["touchpoints"][-1]["score_after"] == pytest.approx(story["score"], abs=15)
    assert worst["customer_id"] in touchstone.run("customer", worst["customer_id"])


def test_what_ingest_refused_can_be_looked_at(touchstone: Touchstone) -> None:
    import httpx

    url = touchstone.json("up")["ingest"]
    answer = httpx.post(f"{url}/v1/events", content=b'{"kind": "meeting", "customer_id": "r-1", "source": "e2e"}')
    assert answer.status_code == 422
    listed: list[dict[str, Any]] = []

    def is_listed() -> bool:
        listed[:] = touchstone.json("rejected", "--source", "e2e")
        return bool(listed)

    wait_for(is_listed, "the refused event is in the table")
    [entry] = listed
    assert (entry["stage"], entry["reason"], entry["customer_id"]) == ("ingest", "unknown_kind", "r-1")
    which = f"ingest/{entry['log_partition']}/{entry['log_offset']}"
    assert '"kind": "meeting"' in touchstone.run("rejected", which)
    assert touchstone.run("rejected", which, "--payload").startswith('{"kind"')
    assert "unknown_kind" in touchstone.run("rejected", "--count")
    touchstone.run("rejected", "ingest/0/999999", code=1)


def test_queries_have_clear_ends(touchstone: Touchstone) -> None:
    assert touchstone.run("sql", "SELECT 1 AS one, 'x' AS two") == "one\ttwo\n1\tx\n"
    touchstone.run("sql", "SELECT nothing", code=1)
    touchstone.run("sql", "DROP TABLE touchpoints", code=1)
    touchstone.run("customer", "nobody", code=1)
