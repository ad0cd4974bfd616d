"""A model is activated while events flow: by the log, in every partition, whatever happens to the workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from infra.clickhouse import activations
from infra.clickhouse.client import ClickHouse, quoted
from infra.kafka.publish import Publisher
from schemas.activation import CUSTOMER, encode_activation
from schemas.topics import TOUCHPOINTS
from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode
from services.cli.figures import read_lag, read_stored
from services.cli.learning.activation import Activated, activate
from services.cli.rebuild import rebuild
from services.cli.settings import load_settings
from services.cli.verify import verify
from services.scoring.due import due_sql
from services.scoring.risk.model import DEFAULT, RiskModel
from tests.e2e.checker import Expected, check
from tests.e2e.scoring.load import Producing, make_load, produce
from tests.e2e.scoring.parts import DEADLINE_S, NO_REVIEWS, Machine
from tests.fakes.models import ANXIOUS, CALM, model_like_default

pytestmark = pytest.mark.stack

SEED: Final = 20_261_122
ALL: Final[dict[str, Any]] = {"sample_size": None, "customer": None, "limit": 20, "as_json": True}
REVIEWS: Final = {"TOUCHSTONE_SCORING_REVIEW_INTERVAL_S": "0.5", "TOUCHSTONE_SCORING_WRITE_INTERVAL_MS": "50"}
FIRST, SECOND = model_like_default("anxious-1", ANXIOUS), model_like_default("calm-1", CALM)
Command = Callable[..., tuple[int, Any]]


def now_us() -> int:
    return time.time_ns() // 1000


def make_active(model: RiskModel, **options: Any) -> Activated:
    return activate(load_settings(), model.version, model.to_json(), now_us(), **options)


def reviews(tables: ClickHouse) -> list[tuple[str, int]]:
    return [
        (who, int(count))
        for who, count in tables.query(
            "SELECT customer_id, count() FROM touchstone.touchpoints FINAL WHERE kind = 'review_due' "
            "GROUP BY customer_id"
        )
    ]


def due(tables: ClickHouse) -> list[Any]:
    active = {at: latest.parameters for at, latest in activations.latest(tables).items()}
    statements = due_sql(range(4), active, 100, lambda text: quoted([text]), DEFAULT.to_json())
    return [row for statement in statements for row in tables.query(statement)]


def settled(stage: Machine, condition: Callable[[], bool], what: str) -> None:
    """Wait for the timer. It looks as seldom as its look is slow, so it must not be kept from it by the test's own."""
    asked_s = -1.0

    def seldom() -> bool:
        nonlocal asked_s
        if time.monotonic() < asked_s + 1.0:
            return False
        holds = condition()
        asked_s = time.monotonic()
        return holds

    stage.until(seldom, what, 3 * DEADLINE_S)


def by_partition(tables: ClickHouse) -> dict[int, int]:
    """Reviews of each partition."""
    return dict(
        tables.query(
            "SELECT log_partition, count() FROM touchstone.touchpoints FINAL WHERE kind = 'review_due' "
            "GROUP BY log_partition"
        )
    )


def differing_bands(tables: ClickHouse) -> int:
    [(count,)] = tables.query(
        "SELECT count() FROM touchstone.customer_scores AS v INNER JOIN touchstone.customer_state AS s FINAL "
        "ON v.customer_id = s.customer_id WHERE v.risk_band != toString(s.band)"
    )
    return int(count)


def test_models_take_turns_while_events_flow_and_workers_die(
    stage: Machine, tables: ClickHouse, command: Command
) -> None:
    load = make_load(SEED, 900, "models-", now_us())
    thirds = [load.records[start::3] for start in range(3)]
    worker = stage.start_worker(**REVIEWS)
    stage.until(lambda: stage.members() == 1, "the worker reads the log", 2 * DEADLINE_S)
    with Producing(stage.bootstrap, thirds[0], per_s=400):
        stage.until(lambda: stage.committed() > 0, "it is at work")
        first = make_active(FIRST)
    assert first.complete, first.told()
    assert first.sent == first.partitions == (0, 1, 2, 3)
    stage.until_quiet()

    # Killed with the second activation on its way; another goes on from wherever that was.
    with Producing(stage.bootstrap, thirds[1], per_s=400):
        stage.kill_worker(worker)
        second = make_active(SECOND, shown_s=0)
        assert (second.sent, second.waiting) == (first.partitions, first.partitions)
        assert "in partitions 0, 1, 2, 3 once" in second.told()
    stage.start_worker(**REVIEWS)
    stage.until(lambda: len(activations.latest(tables)) == 4, "activations are there", 2 * DEADLINE_S)
    again = make_active(SECOND)
    assert again.complete, again.told()
    produce(stage.bootstrap, thirds[2])
    stage.until_quiet()
    assert {at.version for at in activations.latest(tables).values()} == {SECOND.version}

    # By the timer alone: who is in another band by the new model is judged once, without an event of their own.
    settled(stage, lambda: not differing_bands(tables), "all are in the bands of the second model")
    before = dict(reviews(tables))
    back = make_active(FIRST)
    assert back.complete
    assert differing_bands(tables)
    settled(stage, lambda: not differing_bands(tables), "and of the first one again")
    stage.until_quiet()
    moved = {who: count - before.get(who, 0) for who, count in reviews(tables) if count != before.get(who, 0)}
    assert moved
    assert max(moved.values()) == 1
    assert make_active(FIRST).sent == (), "it is active already"
    stage.settle()

    versions = {
        str(version) for (version,) in tables.query("SELECT DISTINCT model_version FROM touchstone.loyalty_signals")
    }
    assert {FIRST.version, SECOND.version, DEFAULT.version} <= versions
    check(stage.bootstrap, tables, Expected(SEED))
    code, document = command(verify, **ALL)
    assert (code, document["equal"], document["not_compared"]) == (0, True, []), document
    for account in document["sums"]:
        counted = sum(account[name] for name in ("stored", "duplicate", "rejected", "activations"))
        assert account["received"] == counted
        assert account["activations"] >= 3
    code, document = command(rebuild, swap=False, limit=20, as_json=True)
    assert (code, document["equal"], document["not_compared"]) == (0, True, []), document
    where = locate(load_settings())
    assert read_stored(load_settings(), where, read_lag(where).committed).unaccounted == 0


def test_partitions_that_an_activation_did_not_reach_are_left_in_peace_until_it_does(
    stage: Machine, tables: ClickHouse, command: Command
) -> None:
    """The view works with the new model already; the timer must not, where the old one judges."""
    model = model_like_default("anxious-2", {**ANXIOUS, "bands.elevated_enter": 0.26, "bands.high_enter": 0.42})
    publisher = Publisher(stage.bootstrap)
    value = encode_activation(model.version, model.to_json(), 2, now_us())
    publisher.publish(TOUCHPOINTS, [CUSTOMER], [value], now_us() // 1000, [2])
    publisher.close()
    before = by_partition(tables)
    stage.start_worker(**REVIEWS)
    stage.until(lambda: activations.latest(tables)[2].version == model.version, "one partition has the model")
    settled(stage, lambda: not due(tables), "everybody is in the band of their partition's model")
    stage.until_quiet()
    assert {at for at, count in by_partition(tables).items() if count > before.get(at, 0)} == {2}

    rest = make_active(model)
    assert rest.complete, rest.told()
    assert rest.sent == (0, 1, 3)
    settled(stage, lambda: not differing_bands(tables), "all are in the bands of the model")
    stage.settle()
    code, document = command(verify, **ALL)
    assert (code, document["equal"]) == (0, True), document


def test_what_cannot_judge_is_refused_here_and_in_the_log(stage: Machine, tables: ClickHouse, command: Command) -> None:
    other = model_like_default("other-kinds", {"activity_kinds": ["referral"]})
    with pytest.raises(CommandError, match="makes them anew") as refused:
        make_active(other)
    assert refused.value.code is ExitCode.WRONG_USE
    with pytest.raises(CommandError, match="give this one another version"):
        make_active(model_like_default(FIRST.version, CALM))

    # Somebody writes them to the log all the same.
    unusable = (("other-kinds", other.to_json()), ("bad", "{"))
    values = [encode_activation(version, parameters, 1, now_us()) for version, parameters in unusable]
    publisher = Publisher(stage.bootstrap)
    publisher.publish(TOUCHPOINTS, [CUSTOMER] * 2, values, now_us() // 1000, [1, 1])
    publisher.close()
    stage.start_worker(**NO_REVIEWS)
    stage.until_quiet()
    stage.end_workers()
    assert activations.latest(tables)[1].version == "anxious-2"
    rows = tables.query("SELECT detail FROM touchstone.rejected_events FINAL WHERE reason = 'unusable_model'")
    assert len(rows) == 2
    code, document = command(verify, **ALL)
    assert (code, document["equal"]) == (0, True), document
    assert not tables.query(f"SELECT 1 FROM touchstone.customer_state WHERE customer_id = '{CUSTOMER}'")
