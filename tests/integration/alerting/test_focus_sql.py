"""Windows of felt experience as ClickHouse gives them, against the readings one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.events import write_events
from infra.clickhouse.settings import ClickHouseSettings
from schemas.decode import COLUMNS
from services.alerting.focus import DAY_US, FIRST_MONDAY_US, HOUR_US, FocusRule, judge
from services.alerting.focus_measure import SUMS, WINDOWS
from services.alerting.focus_sql import HISTORY_AFTER_US, felt_windows_sql
from tests.servers import clickhouse_server

pytestmark = pytest.mark.stack

BEGIN_US: Final = FIRST_MONDAY_US + 2700 * 7 * DAY_US
DAYS: Final = 32
END_US: Final = BEGIN_US + DAYS * DAY_US


@pytest.fixture(scope="session")
def clickhouse_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    """A running server without tables of ours."""
    with clickhouse_server(tmp_path_factory.mktemp("clickhouse")) as address:
        yield address


def felt(seed: int = 1) -> pl.DataFrame:
    """Readings of customers over the days; on the last one checkout is felt badly. The valence has four decimals."""
    random = np.random.default_rng(seed)
    rows = [
        (f"c{customer}", BEGIN_US + day * DAY_US + int(random.integers(0, DAY_US)), part, round(float(valence), 4))
        for day in range(DAYS)
        for part in ("checkout", "delivery")
        for customer in random.choice(200, 80, replace=False)
        for valence in random.normal(-0.3 if (day, part) == (DAYS - 1, "checkout") else 0.3, 0.3, 1 + customer % 2)
    ]
    return pl.DataFrame(rows, schema=["customer_id", "at", "touchpoint", "valence"], orient="row")


def store(client: ClickHouse, told: pl.DataFrame, received_at: pl.Expr) -> None:
    """As events, valence on ease with weight 0.5 and on emotion with weight 1."""
    given: dict[str, Any] = {
        "event_id": pl.Series([number.to_bytes(16, "big") for number in range(told.height)], dtype=pl.Binary),
        "customer_id": pl.col("customer_id"),
        "occurred_at": pl.col("at"),
        "received_at": received_at,
        "source": pl.lit("shop"),
        "kind": pl.lit("interaction"),
        "touchpoint": pl.col("touchpoint"),
        "channel": pl.lit("web"),
        "attributes": pl.Series([{}], dtype=COLUMNS["attributes"]).new_from_index(0, told.height),
    }
    events = told.select(
        (given[name] if name in given else pl.lit(None)).cast(dtype).alias(name) for name, dtype in COLUMNS.items()
    )
    valence = np.zeros((told.height, 3), dtype=np.float32)
    valence[:, 1:] = told["valence"].to_numpy()[:, None]
    weight = np.tile(np.array([0.0, 0.5, 1.0], dtype=np.float32), (told.height, 1))
    write_events(client, events, valence, weight, 0, np.arange(told.height, dtype=np.int64))


def expected(told: pl.DataFrame) -> pl.DataFrame:
    w, s, q = pl.col("w"), pl.col("s"), pl.col("q")
    day = (pl.col("at") - BEGIN_US) // DAY_US * DAY_US + BEGIN_US
    sums = {"w": w, "s": s, "q": q, "ww": w * w, "ss": s * s, "qq": q * q, "ws": w * s, "wq": w * q, "sq": s * q}
    valence = pl.col("valence")
    return (
        told.group_by(day.alias("start_us"), pl.col("touchpoint").alias("part"), "customer_id")
        .agg(pl.len(), w=1.5 * pl.len().cast(pl.Float64), s=1.5 * valence.sum(), q=1.5 * (valence**2).sum())
        .group_by("start_us", "part")
        .agg(
            pl.len().alias("customers"),
            pl.col("len").sum().alias("readings"),
            *(e.sum().alias(n) for n, e in sums.items()),
        )
        .select(pl.col(name).cast(type_) for name, type_ in WINDOWS.items())
        .sort("part", "start_us")
    )


def read(client: ClickHouse, window_us: int = DAY_US, end_us: int = END_US) -> pl.DataFrame:
    found = client.frame(felt_windows_sql("touchpoint", window_us, FIRST_MONDAY_US, BEGIN_US, end_us))
    return found.select(pl.col(name).cast(type_) for name, type_ in WINDOWS.items())


def test_windows_are_those_of_the_readings(clickhouse: ClickHouse) -> None:
    told = felt()
    store(clickhouse, told, pl.col("at") + 60_000_000)
    late = (pl.col("at") + 60_000_000).alias("at")
    wanted, found = expected(told.with_columns(late)).filter(pl.col("start_us") < END_US), read(clickhouse)
    assert found.drop(SUMS).equals(wanted.drop(SUMS))
    for name in SUMS:
        assert_allclose(found[name].to_numpy(), wanted[name].to_numpy(), rtol=1e-5)
    assert read(clickhouse).equals(found), "to the last digit"
    hours = read(clickhouse, HOUR_US)
    assert hours["readings"].sum() == found["readings"].sum()
    by_channel = clickhouse.frame(felt_windows_sql("channel", DAY_US, FIRST_MONDAY_US, BEGIN_US, END_US))
    assert set(by_channel["part"]) == {"web"}
    assert by_channel.height == DAYS


def test_a_bad_day_fires(clickhouse: ClickHouse) -> None:
    store(clickhouse, felt(), pl.col("at"))
    rule = FocusRule("felt-worse", "touchpoint", "felt")
    [alert] = judge(rule, read(clickhouse), END_US, {}, "rules-1")
    assert alert.subject == "touchpoint=checkout"
    assert alert.facts["customers"] == 80.0
    assert judge(rule, read(clickhouse, end_us=END_US - DAY_US), END_US - DAY_US, {}, "rules-1") == []


def test_imported_history_lies_where_it_was_lived_through(clickhouse: ClickHouse) -> None:
    told = felt()
    imported_us = END_US - DAY_US
    history = pl.col("at") < imported_us - HISTORY_AFTER_US
    store(clickhouse, told, pl.when(history).then(imported_us).otherwise(pl.col("at")))
    assert read(clickhouse).drop(SUMS).equals(expected(told).drop(SUMS))
    before = read(clickhouse, end_us=imported_us)
    assert before["start_us"].min() == imported_us - HISTORY_AFTER_US, "it had not been received by then"


def test_what_comes_later_changes_no_window_that_has_closed(clickhouse: ClickHouse) -> None:
    told = felt()
    store(clickhouse, told, pl.col("at"))
    before = read(clickhouse)
    more = told.head(500).with_columns(customer_id=pl.lit("late"), valence=pl.lit(-1.0))
    store(clickhouse, more, pl.lit(END_US + DAY_US))
    assert read(clickhouse).equals(before)
