"""Verify tells what is equal, while the stream runs too, and finds each kind of damage that is done on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import pytest

from infra.clickhouse.client import ClickHouse
from infra.embedded.ports import free_port
from services.cli.console import CommandError, ExitCode
from services.cli.settings import StackSettings, load_settings
from services.cli.verification.against import Limits, by_log
from services.cli.verification.deployment import Deployment, deployment
from services.cli.verification.population import Population
from services.cli.verify import verify
from tests.e2e.operations.damage import change_state, remove
from tests.e2e.scoring.load import Producing, make_load, produce
from tests.e2e.scoring.parts import DEADLINE_S, Machine

pytestmark = pytest.mark.stack

SEED: Final = 20_260_410
EVERYBODY: Final[dict[str, Any]] = {"sample_size": None, "customer": None, "limit": 100, "as_json": True}
Command = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def scored(stage: Machine) -> Machine:
    """A machine that has scored some thousands of events, with repeats, disorder and poison, and still runs."""
    load = make_load(SEED, 1_600, "verify-", time.time_ns() // 1000)
    stage.start_worker(TOUCHSTONE_SCORING_WRITE_INTERVAL_MS="50")
    stage.until(lambda: stage.members() == 1, "the worker reads the log", 2 * DEADLINE_S)
    produce(stage.bootstrap, load.records)
    stage.until_quiet()
    return stage


def somebody(tables: ClickHouse, number: int) -> str:
    """Each number is another customer: an insert repeated to the letter would be dropped as a retry."""
    [(name,)] = tables.query(
        "SELECT customer_id FROM touchstone.customer_state FINAL WHERE felt > 3 AND spend_micros > 0 "
        f"ORDER BY customer_id LIMIT {number}, 1"
    )
    return str(name)


def found(document: Any, against: str) -> set[tuple[str, str]]:
    return {(shown["customer"], shown["column"]) for shown in document["checks"][against]["shown"]}


def test_a_running_stream_is_told_equal(scored: Machine, tables: ClickHouse, command: Command) -> None:
    more = make_load(SEED + 1, 1_000, "verify-", time.time_ns() // 1000)
    with Producing(scored.bootstrap, more.records, per_s=700):
        scored.until(lambda: not scored._is_quiet(), "there is something to do")
        code, document = command(verify, **EVERYBODY)
    assert (code, document["equal"]) == (0, True), document
    scored.settle()
    code, document = command(verify, **EVERYBODY)
    assert (code, document["equal"]) == (0, True), document
    [(customers,)] = tables.query("SELECT uniqExact(customer_id) FROM touchstone.customer_state")
    assert {against: check["customers"] for against, check in document["checks"].items()} == {
        "sql": customers,
        "log": customers,
    }
    assert document["checks"]["sql"]["moved_meanwhile"] == 0
    for account in document["sums"]:
        assert account["received"] == account["stored"] + account["duplicate"] + account["rejected"]
        assert min(account["stored"], account["duplicate"], account["rejected"]) > 0


def test_memory_stays_bounded_by_folding_shares(scored: Machine, command: Command) -> None:
    with deployment(load_settings()) as running:
        compared = list(by_log(running, Population(), Limits(customers=15, events=250)))
        whole = list(by_log(running, Population()))
    assert len(compared) > len(whole) == 4
    assert sum(part.customers for part in compared) == sum(part.customers for part in whole) > 40
    assert not [difference for part in (*compared, *whole) for difference in part.differences]


def test_a_sample_is_the_same_each_time(scored: Machine, command: Command) -> None:
    code, document = command(verify, **{**EVERYBODY, "sample_size": 7})
    assert (code, document["customers"]) == (0, 7)
    assert document["checks"]["log"]["customers"] == 7


def test_a_state_changed_by_hand_is_found(scored: Machine, tables: ClickHouse, command: Command) -> None:
    who, other = somebody(tables, 0), somebody(tables, 1)
    [(felt_before,)] = tables.query(f"SELECT felt FROM touchstone.customer_state FINAL WHERE customer_id = '{who}'")
    before = change_state(tables, who, felt=felt_before + 1, risk=0.123)
    code, document = command(verify, **EVERYBODY)
    assert code == 1
    assert found(document, "sql") == {(who, "felt")}
    assert found(document, "log") == {(who, "felt"), (who, "risk")}
    [felt] = [shown for shown in document["checks"]["sql"]["shown"] if shown["column"] == "felt"]
    assert (felt["stream"], felt["recomputed"]) == (felt_before + 1, felt_before)
    code, told = command(verify, **{**EVERYBODY, "customer": [who], "as_json": False})
    assert code == 1
    assert f"    felt: stream {felt_before + 1}, recomputed {felt_before}" in told
    assert command(verify, **{**EVERYBODY, "customer": [other]})[0] == 0
    change_state(tables, who, **before)


def test_floats_may_differ_by_the_order_of_additions_and_no_more(
    scored: Machine, tables: ClickHouse, command: Command
) -> None:
    who = somebody(tables, 2)
    [(sure,)] = tables.query(f"SELECT emotion_slow_w FROM touchstone.customer_state FINAL WHERE customer_id = '{who}'")
    assert sure > 0
    for factor, code in ((1 + 1e-12, 0), (1 + 1e-6, 1), (1 + 2e-12, 0)):
        change_state(tables, who, emotion_slow_w=sure * factor)
        assert command(verify, **{**EVERYBODY, "customer": [who]})[0] == code


def test_a_lost_and_a_stale_state_are_found(scored: Machine, tables: ClickHouse, command: Command) -> None:
    who = somebody(tables, 3)
    copy = "touchstone.kept_aside"
    tables.query(f"CREATE TABLE {copy} AS touchstone.customer_state")
    tables.query(f"INSERT INTO {copy} SELECT * FROM touchstone.customer_state FINAL WHERE customer_id = '{who}'")
    remove(tables, "customer_state", f"customer_id = '{who}'")
    code, document = command(verify, **EVERYBODY)
    assert (code, found(document, "sql"), found(document, "log")) == (1, {(who, "state")}, {(who, "state")})

    # As it was before its last event: equal to its own past, and still wrong.
    tables.query(f"INSERT INTO touchstone.customer_state SELECT * REPLACE(log_offset - 1 AS log_offset) FROM {copy}")
    code, document = command(verify, **{**EVERYBODY, "customer": [who]})
    assert (code, found(document, "sql"), found(document, "log")) == (1, {(who, "log_offset")}, {(who, "log_offset")})
    tables.query(f"INSERT INTO touchstone.customer_state SELECT * FROM {copy}")
    tables.query(f"DROP TABLE {copy}")
    assert command(verify, **{**EVERYBODY, "customer": [who]})[0] == 0


def test_an_event_lost_from_the_table_is_found(scored: Machine, tables: ClickHouse, command: Command) -> None:
    who = somebody(tables, 4)
    [(partition, offset)] = tables.query(
        f"SELECT log_partition, log_offset FROM touchstone.touchpoints FINAL WHERE customer_id = '{who}' "
        "AND kind = 'purchase' ORDER BY log_offset LIMIT 1"
    )
    place = f"customer_id = '{who}' AND log_offset = {offset}"
    tables.query("CREATE TABLE touchstone.kept_aside AS touchstone.touchpoints")
    tables.query(f"INSERT INTO touchstone.kept_aside SELECT * FROM touchstone.touchpoints WHERE {place}")
    remove(tables, "touchpoints", place)
    code, document = command(verify, **EVERYBODY)
    assert code == 1
    assert {(who, "events"), (who, "spend_micros"), (who, "activities")} <= found(document, "sql")
    assert {customer for customer, _ in found(document, "sql")} == {who}
    assert not found(document, "log")
    [account] = [account for account in document["sums"] if not account["balanced"]]
    assert (account["partition"], account["missing_at"], account["surplus"]) == (partition, [offset], 0)
    tables.query("INSERT INTO touchstone.touchpoints SELECT * FROM touchstone.kept_aside")
    tables.query("DROP TABLE touchstone.kept_aside")
    assert command(verify, **{**EVERYBODY, "customer": [who]})[0] == 0


def test_an_event_that_is_there_twice_is_found(scored: Machine, tables: ClickHouse, command: Command) -> None:
    who = somebody(tables, 5)
    [(partition, offset)] = tables.query(
        f"SELECT log_partition, log_offset FROM touchstone.touchpoints FINAL WHERE customer_id = '{who}' "
        "AND kind = 'purchase' ORDER BY log_offset DESC LIMIT 1"
    )
    tables.query(
        "INSERT INTO touchstone.touchpoints SELECT * REPLACE(toFixedString('the other one!!!', 16) AS event_id) "
        f"FROM touchstone.touchpoints WHERE customer_id = '{who}' AND log_offset = {offset}"
    )
    code, document = command(verify, **{**EVERYBODY, "customer": [who]})
    assert code == 1
    assert (who, "events") in found(document, "sql")
    assert not found(document, "log")
    [account] = [account for account in document["sums"] if not account["balanced"]]
    assert (account["partition"], account["missing"], account["surplus_at"]) == (partition, 0, [offset])
    remove(tables, "touchpoints", "event_id = 'the other one!!!'")
    assert command(verify, **{**EVERYBODY, "customer": [who]})[0] == 0


def test_what_cannot_be_checked_is_neither_equal_nor_different(
    scored: Machine, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError) as nobody:
        command(verify, **{**EVERYBODY, "customer": ["nobody at all"]})
    assert nobody.value.code is ExitCode.WRONG_USE
    whole = deployment

    @contextmanager
    def cut(settings: StackSettings) -> Iterator[Deployment]:
        with whole(settings) as found:
            yield replace(found, begins=dict.fromkeys(found.begins, 1))

    monkeypatch.setattr("services.cli.verify.deployment", cut)
    code, document = command(verify, **{**EVERYBODY, "sample_size": 3})
    assert (code, list(document["checks"])) == (0, ["sql"])
    monkeypatch.undo()
    monkeypatch.chdir(scored.folder)
    monkeypatch.setenv("TOUCHSTONE_KAFKA_BOOTSTRAP", f"127.0.0.1:{free_port()}")
    with pytest.raises(CommandError) as unreachable:
        verify(**EVERYBODY)
    assert unreachable.value.code is ExitCode.UNREACHABLE
