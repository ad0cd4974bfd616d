"""Risk of everybody as of now, in SQL: ``python -m benchmarks.as_of [--customers 1000000]``.

States of customers with 1 to 32 active days, merged into one part; then whole-population questions that an analyst or a
dashboard asks, by the documented default, by a model as learnt from purchases and by one that uses every feature. Time
that passed, and time of the server's process on the processors: on a machine that others use, only the second holds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from benchmarks.stack import Part, Stack
from infra.clickhouse import states as state_table
from infra.clickhouse.client import ClickHouse, quoted
from schemas.state_layout import FLOAT_INDEX, INT_INDEX
from schemas.tables import CUSTOMER_STATE, DATABASE
from services.learning.features import RHYTHM
from services.scoring import as_of
from services.scoring.decay import DAY_US
from services.scoring.risk.features import FEATURES
from services.scoring.risk.model import DEFAULT, RiskModel, Weight
from services.scoring.state import States

BATCH: Final = 50_000
RUNS: Final = 5


def weighing(version: str, names: Collection[str]) -> RiskModel:
    """A model that uses these features; how much each weighs costs nothing."""
    return RiskModel(version, weights={n: Weight(0.1, 0.0, -1e6, 1e6) if n in names else Weight() for n in FEATURES})


MODELS: Final = (DEFAULT, weighing("learnt from purchases", RHYTHM), weighing("every feature", FEATURES))
"""`touchstone fit` takes features by layers: where there are only purchases, the one of the own rhythm, whole. The
documented default uses ten features, none of which looks at the days one by one."""
QUESTIONS: Final[Mapping[str, str]] = {
    "mean risk": "avg({risk}), count()",
    "value at risk of those above 0.8": "sumIf({value_at_risk}, {risk} > 0.8)",
    "customers by band": "uniq({band_code}), countIf({band_code} = 2)",
}


def fill(client: ClickHouse, customers: int, now_us: int) -> None:
    """Plausible states: what matters here is that no two are alike and that none is trivial."""
    random = np.random.default_rng(5)
    for start in range(0, customers, BATCH):
        n = min(BATCH, customers - start)
        states = States.empty(n)
        today = now_us // DAY_US
        number = 1 + np.minimum(random.geometric(0.12, n) - 1, 31)
        days = np.sort(today - random.integers(1, 400, (n, 32)), axis=1)
        days[np.arange(32) < (32 - number)[:, None]] = 0
        states.activity_days[:] = days
        states.floats[:] = random.gamma(2.0, 1.0, states.floats.shape)
        for name in ("active_days", "activities"):
            states.ints[:, INT_INDEX[name]] = number
        states.ints[:, INT_INDEX["first_active_day"]] = days[np.arange(n), 32 - number]
        states.ints[:, INT_INDEX["last_activity_at"]] = days[:, -1] * DAY_US + 40_000_000
        states.ints[:, INT_INDEX["spend_micros"]] = number * 25_000_000
        for name in ("last_event_at", "last_contact_at", "worst_at", "last_feedback_at", "open_complaint_since"):
            states.ints[:, INT_INDEX[name]] = now_us - random.integers(0, 60 * DAY_US, n)
        states.ints[:, INT_INDEX["open_complaints"]] = random.random(n) < 0.1
        states.ints[:, INT_INDEX["events"]] = 3 * number
        states.ints[:, INT_INDEX["log_offset"]] = np.arange(start, start + n)
        states.floats[:, FLOAT_INDEX["risk"]] = 0.5
        names = [f"customer-{i:09d}" for i in range(start, start + n)]
        sets = (states.activity_days, states.cases, states.recent_ids)
        rows = state_table.StateRows(names, states.floats, states.ints, *sets, [""], [""])
        state_table.save(client, rows)
    client.query(f"OPTIMIZE TABLE {DATABASE}.{CUSTOMER_STATE.name} FINAL")


def seconds(client: ClickHouse, server: Part, statement: str) -> tuple[float, float]:
    """Passed and on the processors: medians of `RUNS`, after one that does not count."""
    passed, used = [], []
    for _ in range(RUNS + 1):
        start, start_cpu_s = time.perf_counter(), server.cpu_s()
        client.query(statement)
        passed.append(time.perf_counter() - start)
        used.append(server.cpu_s() - start_cpu_s)
    return statistics.median(passed[1:]), statistics.median(used[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description="Risk of everybody as of now, in SQL.")
    parser.add_argument("--customers", type=int, default=1_000_000)
    given = parser.parse_args()
    with Stack() as stack:
        stack.fresh_tables()
        with stack.clickhouse() as client:
            fill(client, given.customers, time.time_ns() // 1000)
            for model in MODELS:
                literal = quoted([model.to_json()])
                _, known = as_of.as_of(model=literal)
                for name, question in QUESTIONS.items():
                    asked = as_of.select({"answer": f"tuple({question.format(**known)})"}, model=literal)
                    passed, used = seconds(client, stack.part("clickhouse"), asked)
                    what = f"{model.version}: {name}, {given.customers:,} customers"
                    print(f"{what}: {passed:.2f} s, {used:.2f} CPU s", flush=True)


if __name__ == "__main__":
    main()
