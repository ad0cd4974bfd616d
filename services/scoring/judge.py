"""Judging: the risk of some customers at a moment, the band that follows, and a signal where a band changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.signal import BAND_TYPE, SIGNALS
from schemas.state_layout import FLOAT_INDEX, INT_INDEX
from services.scoring.decay import DAY_US
from services.scoring.expressions import Arrays, Term
from services.scoring.risk.bands import next_band
from services.scoring.risk.features import TERMS
from services.scoring.risk.formula import Risk, risk
from services.scoring.risk.model import RiskModel
from services.scoring.risk.words import move, reasons
from services.scoring.score import Score, score
from services.scoring.state import Ints, Rows, States, Vocabulary

_ARRAYS: Final = Arrays()
_RISK, _BAND, _SINCE = FLOAT_INDEX["risk"], INT_INDEX["band"], INT_INDEX["band_since"]
_JUDGED, _MODEL = INT_INDEX["judged_at"], INT_INDEX["model_version"]


JUDGED: Final[dict[str, pl.DataType | type[pl.DataType]]] = {"row": pl.Int64} | {
    name: type_ for name, type_ in SIGNALS.items() if name not in ("signal_id", "customer_id", "log_partition")
}
"""Columns of signals: those of `schemas.signal.SIGNALS` that judging knows. ``row`` is the customer's place in the
states that were judged; ``judged_at`` integer UTC microseconds."""


def columns(states: States) -> Mapping[str, Term]:
    """The states' columns by name, integers as doubles (exact up to 2^53); ``activity_days`` as it is, (n, 32)."""
    numbers = states.ints.astype(np.float64, order="K")
    by_name: dict[str, Term] = {name: states.floats[:, index] for name, index in FLOAT_INDEX.items()}
    by_name |= {name: numbers[:, index] for name, index in INT_INDEX.items()}
    by_name["activity_days"] = states.activity_days
    return by_name


def assess(states: States, at_us: Ints, model: RiskModel) -> tuple[Score, Risk]:
    """Score and risk of each state at its own moment ``at_us``."""
    now = at_us.astype(np.float64)
    by_name = columns(states)
    measured = score(_ARRAYS, by_name, now)
    return measured, risk(_ARRAYS, by_name, measured, model.parameters(), now)


def judge(
    states: States,
    rows: Rows,
    at_us: Ints,
    offsets: Ints,
    asked: npt.NDArray[np.bool_],
    model: RiskModel,
    names: Vocabulary,
    models: Vocabulary,
) -> pl.DataFrame:
    """Judge some customers in place and return the signals, in the order of ``rows``: of those whose band changed, and
    of those ``asked`` for by a review.

    ``at_us``: received_at of the events at which they are judged; ``offsets``: those events' offsets. The columns are
    those of `grounds` and all of `JUDGED` but the reasons: `explain` puts these into words.
    """
    subset = states.numbers(rows)
    measured, judged = assess(subset, at_us, model)
    before = subset.ints[:, _BAND]
    after = next_band(_ARRAYS, before, subset.ints[:, _SINCE], judged.risk, at_us, model.parameters())
    states.floats[rows, _RISK] = judged.risk
    states.ints[rows, _JUDGED] = at_us
    states.ints[rows, _MODEL] = models.code(model.version)
    crossed = np.flatnonzero(after != before)
    states.ints[rows[crossed], _BAND] = after[crossed]
    states.ints[rows[crossed], _SINCE] = at_us[crossed]
    told = np.flatnonzero((after != before) | asked)
    if not told.size:
        return pl.DataFrame()

    def of(values: Term) -> npt.NDArray[Any]:
        return np.asarray(np.asarray(values)[told])

    return grounds(subset, told, at_us, measured, judged, model, names).with_columns(
        pl.Series("row", of(rows)),
        pl.Series("log_offset", of(offsets)),
        pl.Series("judged_at", of(at_us)),
        _bands(of(before)).alias("from_band"),
        _bands(of(after)).alias("to_band"),
        pl.Series("risk", of(judged.risk)),
        pl.Series("confidence", of(judged.confidence)),
        pl.Series("value_at_risk", of(judged.value_at_risk)),
        pl.lit(model.version).alias("model_version"),
    )


def _bands(codes: npt.NDArray[Any]) -> pl.Series:
    return pl.Series(codes.astype(np.uint8)).cat.to(BAND_TYPE)


def grounds(
    states: States, which: Rows, at_us: Ints, measured: Score, judged: Risk, model: RiskModel, names: Vocabulary
) -> pl.DataFrame:
    """What `reasons` needs to say why some of the states have their risk.

    ``at_us``, ``measured`` and ``judged`` are of all states; ``which`` says whose grounds are wanted.
    """
    ints = states.ints.T[:, which]
    columns: dict[str, Any] = {name: np.asarray(fact)[which] for name, fact in judged.facts.items()}
    columns |= {move(term): np.asarray(judged.contributions[term])[which] for term in TERMS}
    columns |= {
        "active_days": ints[INT_INDEX["active_days"]],
        "open_complaints": ints[INT_INDEX["open_complaints"]],
        "contacted": ints[INT_INDEX["last_contact_at"]] > 0,
        "worst_days": np.maximum(at_us[which] - ints[INT_INDEX["worst_at"]], 0) / DAY_US,
        "worst_touchpoint": names.of(ints[INT_INDEX["worst_touchpoint"]].tolist()),
        "score": measured.overall[which],
        "typical_score": np.full(len(which), model.weights["score"].mean),
        "trend": measured.trend[which],
        "volatility": measured.volatility[which],
    }
    return pl.DataFrame(columns)


def explain(judged: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """What calls of `judge` returned, together as `JUDGED`: with reasons in words, in the order of the log."""
    told = [frame for frame in judged if frame.height]
    if not told:
        return pl.DataFrame(schema=JUDGED)
    every = pl.concat(told).sort("log_offset", maintain_order=True)
    return every.with_columns(reasons(every).alias("reasons")).select(*JUDGED)
