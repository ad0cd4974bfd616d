"""The score, worked out by hand; decay; names as codes."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pytest

from schemas.state_layout import FLOATS, INTS
from services.scoring.decay import DAY_US, HALF_LIFE_US, decay
from services.scoring.expressions import Arrays, Sql, SqlTerm, sql
from services.scoring.score import PRIOR_STRENGTH, PRIOR_VALENCE, Score, score
from services.scoring.state import States, Vocabulary

NOW_US = 1_800_000_000_000_000


def scored(now_us: int = NOW_US, **columns: float) -> Score:
    state: dict[str, Any] = {name: np.array([float(columns.get(name, 0))]) for name in (*FLOATS, *INTS)}
    return score(Arrays(), state, np.array([float(now_us)]))


def value(term: Any) -> float:
    return float(term[0])


def test_nothing_felt_stands_at_the_prior() -> None:
    measured = scored()
    assert value(measured.overall) == 50 + 50 * PRIOR_VALENCE == 60
    assert value(measured.confidence) == value(measured.trend) == value(measured.volatility) == 0


def test_by_hand() -> None:
    measured = scored(
        last_event_at=NOW_US,
        effectiveness_slow_w=3.0,
        effectiveness_slow_s=-2.4,
        effectiveness_slow_q=2.0,
        emotion_slow_w=1.0,
        emotion_slow_s=0.5,
        emotion_slow_q=0.25,
        effectiveness_fast_w=2.0,
        effectiveness_fast_s=-1.8,
    )
    assert PRIOR_STRENGTH == 2
    assert value(measured.overall) == pytest.approx(50 + 50 * (0.4 - 1.9) / 6)
    assert value(measured.dimensions["effectiveness"]) == pytest.approx(50 + 50 * (0.4 - 2.4) / 5)
    assert value(measured.dimensions["ease"]) == 60
    assert value(measured.dimensions["emotion"]) == pytest.approx(50 + 50 * (0.4 + 0.5) / 3)
    assert value(measured.fast) == pytest.approx(50 + 50 * (0.4 - 1.8) / 4)
    assert value(measured.confidence) == pytest.approx(4 / 6)
    assert value(measured.trend) == pytest.approx(2 / 4 * (32.5 - 37.5))
    assert value(measured.volatility) == pytest.approx(4 / 6 * math.sqrt(2.25 / 4 - (1.9 / 4) ** 2))


def test_sums_fade_by_the_clock_alone() -> None:
    then = scored(last_event_at=NOW_US - 90 * DAY_US, ease_slow_w=4.0, ease_slow_s=-4.0, ease_slow_q=4.0)
    now = scored(last_event_at=NOW_US, ease_slow_w=2.0, ease_slow_s=-2.0, ease_slow_q=2.0)
    assert value(then.overall) == pytest.approx(value(now.overall))
    assert value(then.confidence) == pytest.approx(0.5)


def test_the_worst_moment_fades_with_the_slow_half_life() -> None:
    measured = scored(last_event_at=NOW_US, worst_at=NOW_US - 180 * DAY_US, worst_severity=2.0)
    assert value(measured.worst) == pytest.approx(0.5)


def test_an_event_ahead_of_now_has_just_happened() -> None:
    ahead = scored(last_event_at=NOW_US + 10 * DAY_US, ease_slow_w=4.0, ease_slow_s=-4.0, worst_at=NOW_US + DAY_US)
    just = scored(last_event_at=NOW_US, ease_slow_w=4.0, ease_slow_s=-4.0, worst_at=NOW_US)
    assert value(ahead.overall) == value(just.overall)


def test_equal_valences_are_not_volatile_even_where_rounding_says_less_than_nothing() -> None:
    measured = scored(last_event_at=NOW_US, ease_slow_w=3.0, ease_slow_s=-2.1, ease_slow_q=1.4699999999999998)
    assert value(measured.volatility) == 0


def test_decay_halves_every_half_life() -> None:
    ages = np.array([0, 7 * DAY_US, 90 * DAY_US, -7 * DAY_US], dtype=np.int64)
    assert decay(ages, HALF_LIFE_US["fast"]).tolist() == pytest.approx([1, 0.5, 2 ** (-90 / 7), 2])
    assert decay(ages, HALF_LIFE_US["slow"])[2] == 0.5


def test_half_lives_are_seven_and_ninety_days() -> None:
    assert HALF_LIFE_US == {"fast": 7 * DAY_US, "slow": 90 * DAY_US}


def test_codes_are_given_in_the_order_of_first_sight_and_zero_is_the_empty_name() -> None:
    names = Vocabulary()
    assert names.codes(["web", "", "store", "web"]).tolist() == [1, 0, 2, 1]
    assert names.code("store") == 2
    assert names.of([2, 0, 1]) == ["store", "", "web"]
    assert names.hash_of(np.array([1, 0])).tolist() == [zlib.crc32(b"web"), 0]
    assert names.codes([]).tolist() == []


def test_rows_of_states_are_copied_out_and_put_back() -> None:
    states = States.empty(3)
    assert len(states) == 3
    assert (states.ints[:, INTS.index("log_offset")] == -1).all()
    rows = np.array([2, 0])
    taken = states.take(rows)
    taken.floats += 1
    taken.recent_ids += 7
    assert not states.floats.any()
    states.put(rows, taken)
    assert states.floats[:, 0].tolist() == [1, 0, 1]
    assert states.recent_ids[:, 0].tolist() == [7, 0, 7]


def test_sql_is_parenthesised_and_named_once() -> None:
    o = Sql()
    x = SqlTerm("x")
    assert sql(-(1 - x * 2) / (x + 0.5)) == "((-(1 - (x * 2))) / (x + 0.5))"
    assert sql(o.where(o.both(x > 1, x <= 2.0), o.maximum(x, 0), o.minimum(1 / x, 2 + x))) == (
        "if(and((x > 1), (x <= 2.0)), greatest(x, 0), least((1 / x), (2 + x)))"
    )
    assert sql(o.exp2(o.exp(o.log(o.sqrt(3 * x))))) == "exp2(exp(log(sqrt((3 * x)))))"
    assert sql((x >= 1) - (x < 2)) == "((x >= 1) - (x < 2))"
    assert sql(o.let("y", x + 1)) == "x_y"
    assert o.named == {"x_y": "(x + 1)"}
    with pytest.raises(ValueError, match="named twice"):
        o.let("y", x)
