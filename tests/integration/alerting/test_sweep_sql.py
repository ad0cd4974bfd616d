"""The sweep over the real view: its flags are what the stream's conditions say of the same customers."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from infra.clickhouse.client import ClickHouse
from services.alerting.adapters import Tables
from services.alerting.alert import AlertState, Phase
from services.alerting.rules.fields import FIELDS
from services.alerting.rules.model import sweep_condition
from tests.fakes.alerting import rule, rule_set
from tests.fakes.stream import FakeTables, make_core
from tests.integration.alerting.case_rows import NOW, happened, put_events, put_states

pytestmark = pytest.mark.stack

RULES = rule_set(
    rule("band", when="band <> 'low'", until="risk < 0.2"),
    rule("waits", when="complaint_hours >= 5 AND NOT worst_touchpoint = 'web'"),
    rule("answer", when="feedback_hours > 24"),
    rule("silent", when="silence_days > 2 * usual_gap_days AND usual_gap_days > 0", until="silence_days < 1"),
    rule("gold", when="segment IN ('gold', 'o''b') AND score < 70"),
    rule("not-gold", when="segment <> 'gold'"),
    rule("mixed", when="score / value_at_risk < 3 OR volatility BETWEEN 0.01 AND 0.9 OR trend < -1"),
    rule("sure", when="confidence > 0.3", until="confidence < 0.2 OR band = from_band"),
)
CUSTOMERS = ("regular", "lapsed", "complains", "unhappy", "o'b\\r", "new")


def records() -> list[bytes]:
    happenings = []
    for number, customer in enumerate(CUSTOMERS):
        for week in range(9):
            days = 7.0 * week + (0.2 if customer != "lapsed" else 120)
            if customer != "new" or week == 0:
                happenings.append(
                    (days, customer, "purchase", {"amount_micros": (number + 1) * 10**7, "currency": "EUR"})
                )
    happenings += [
        (0.5, "complains", "complaint_opened", {"case_id": "1", "touchpoint": "support"}),
        (0.1, "o'b\\r", "complaint_opened", {"case_id": "1", "touchpoint": "web"}),
        (3.0, "unhappy", "survey_response", {"metric": "nps", "rating": 1.0}),
        (30.0, "unhappy", "interaction", {"outcome": "succeeded", "attributes": {"segment": "gold"}}),
        (20.0, "unhappy", "interaction", {"outcome": "succeeded", "attributes": {"other": "x"}}),
        (30.0, "complains", "interaction", {"outcome": "succeeded", "attributes": {"segment": "gold"}}),
        (10.0, "complains", "interaction", {"outcome": "succeeded", "attributes": {"segment": "lead"}}),
        (9.0, "o'b\\r", "interaction", {"outcome": "succeeded", "attributes": {"segment": "o'b"}}),
    ]
    happenings.sort(key=lambda each: -each[0])
    return [
        happened(f"e{number}", customer, NOW - timedelta(days=days), kind, **more)
        for number, (days, customer, kind, more) in enumerate(happenings)
    ]


SEGMENTS = {"unhappy": "gold", "complains": "lead", "o'b\\r": "o'b"}


@pytest.fixture
def scored(clickhouse: ClickHouse) -> ClickHouse:
    said = records()
    core = make_core(FakeTables())
    core.take(0, np.arange(len(said)), list(said), [0] * len(said), ())
    put_states(clickhouse, core.snapshot(core.cache.find(list(CUSTOMERS))))
    put_events(clickhouse, said)
    return clickhouse


def test_flags_are_what_the_streams_conditions_say(scored: ClickHouse) -> None:
    stands = [AlertState("band", customer, Phase.FIRING, 1, "a", 1, 0, 0, 0) for customer in CUSTOMERS]
    tables = Tables(scored)
    tables.write_states(stands)  # so that all are candidates
    found = {each.customer_id: each for each in tables.candidates(RULES)}
    assert found.keys() == set(CUSTOMERS)

    columns = [name for name, field in FIELDS.items() if field.column]
    asked = ", ".join(FIELDS[name].column for name in columns)
    rows = scored.query(f"SELECT {asked}, customer_id FROM touchstone.customer_scores ORDER BY customer_id")
    seen = pl.DataFrame(rows, schema=[*columns, "customer_id"], orient="row").with_columns(
        segment=pl.col("customer_id").replace_strict(SEGMENTS, default="")
    )
    for place, each in enumerate(RULES.rules):
        leaves = each.until.holds() if each.until is not None else each.when.fails()
        said = seen.select("customer_id", enters=each.when.holds() & ~leaves, leaves=leaves)
        for customer, enters, left in said.iter_rows():
            flags = bool(found[customer].enters[place]), bool(found[customer].leaves[place])
            assert flags == (enters, left), f"rule {each.name}, {customer}"
    entered = [any(candidate.enters[place] for candidate in found.values()) for place in range(len(RULES.rules))]
    assert sum(entered) >= 6, "the customers should try most rules"


def test_candidates_are_those_who_would_enter_and_those_with_whom_a_rule_stands(scored: ClickHouse) -> None:
    rules = rule_set(rule("waits", when="complaint_hours >= 5"))
    tables = Tables(scored)
    assert [each.customer_id for each in tables.candidates(rules)] == ["complains"]
    tables.write_states(
        [
            AlertState("waits", "regular", Phase.FIRING, 1, "a", 1, 0, 0, 0),
            AlertState("waits", "new", Phase.PENDING, 1, "a", 1, 0, 0, 0),
            AlertState("waits", "lapsed", Phase.IDLE, 1, "a", 1, 2, 0, 0),
        ]
    )
    found = {each.customer_id: each for each in tables.candidates(rules)}
    assert found.keys() == {"complains", "regular", "new"}
    ends = dict(scored.query("SELECT customer_id, max(log_offset) FROM touchstone.touchpoints GROUP BY customer_id"))
    assert {customer: each.log_offset for customer, each in found.items()} == {who: ends[who] for who in found}


def test_the_unknown_enters_nothing(scored: ClickHouse) -> None:
    entered, left = sweep_condition(rule_set(rule(when="score / 0 > 1")).rules[0])
    rows = scored.query(f"SELECT DISTINCT {entered}, {left} FROM touchstone.customer_scores")
    assert rows == [(0, 0)]
