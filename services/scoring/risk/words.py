"""Reasons in the customer's words: each contribution of the risk formula as a short sentence.

Two spellings of the same sentences, over columns here and in SQL; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from schemas.signal import REASONS_TYPE
from services.scoring.risk.features import TERMS

SMALLEST: Final = 0.05
"""Contributions in log-odds below this are not worth a sentence."""


NOTHING_THERE: Final = {
    "worst": "no bad moment lately",
    "complaints": "no complaint open",
    "feedback": "no unhappy feedback without an answer",
    "cancelled": "no cancellation that stands",
}
"""What is said where there is nothing: that moves the risk too."""


def _days(column: str) -> pl.Expr:
    whole = pl.col(column).floor().cast(pl.Int64)
    return pl.when(whole == 1).then(pl.lit("1 day")).otherwise(pl.format("{} days", whole))


def _nearest(value: pl.Expr) -> pl.Expr:
    return (value + 0.5).floor().cast(pl.Int64)


def _either(condition: pl.Expr, then: str, otherwise: str) -> pl.Expr:
    return pl.when(condition).then(pl.lit(then)).otherwise(pl.lit(otherwise))


_SENTENCES: Final[dict[str, pl.Expr]] = {
    "rhythm": pl.when(pl.col("active_days") == 0)
    .then(pl.lit("never came, on record"))
    .when(pl.col("active_days") == 1)
    .then(pl.format("came once, {} ago", _days("silence_days")))
    .otherwise(pl.format("last came {} ago, usual gap {}", _days("silence_days"), _days("usual_gap_days"))),
    "frequency": pl.format(
        "came on {} of the last {}",
        pl.col("active_days").cast(pl.Int64),
        _days("age_days"),
    ),
    "spend": pl.format(
        "spends about {} a visit, lately {} % of usual",
        _nearest(pl.col("spend_a_coming")),
        _nearest(pl.col("spend_ratio") * 100),
    ),
    "contact": pl.when(pl.col("contacted"))
    .then(pl.format("last contact without coming {} ago", _days("contact_days")))
    .otherwise(pl.lit("no contact on record but coming")),
    "score": pl.format(
        "experience score {}, typical is {}", _nearest(pl.col("score")), _nearest(pl.col("typical_score"))
    ),
    "trend": pl.format(
        "experience is getting {}, {} points lately",
        _either(pl.col("trend") < 0, "worse", "better"),
        _nearest(pl.col("trend").abs()),
    ),
    "volatility": pl.format("experience is haphazard, volatility {} of 100", _nearest(pl.col("volatility") * 100)),
    "worst": pl.when(pl.col("worst_touchpoint") == "")
    .then(pl.lit(NOTHING_THERE["worst"]))
    .otherwise(pl.format("a bad moment at {}, {} ago", pl.col("worst_touchpoint"), _days("worst_days"))),
    "complaints": pl.when(pl.col("open_complaints") == 0)
    .then(pl.lit(NOTHING_THERE["complaints"]))
    .when(pl.col("open_complaints") == 1)
    .then(pl.format("complaint open for {}", _days("complaint_days")))
    .otherwise(
        pl.format(
            "{} complaints open, the oldest for {}",
            pl.col("open_complaints").cast(pl.Int64),
            _days("complaint_days"),
        )
    ),
    "feedback": pl.when(pl.col("feedback_waits") > 0)
    .then(pl.format("unhappy feedback unanswered for {}", _days("feedback_days")))
    .otherwise(pl.lit(NOTHING_THERE["feedback"])),
    "surveys": pl.format("asked for feedback about {} times lately", _nearest(pl.col("survey_load"))),
    "cancelled": pl.when(pl.col("is_cancelled") > 0)
    .then(pl.format("cancelled {} ago", _days("cancelled_days")))
    .otherwise(pl.lit(NOTHING_THERE["cancelled"])),
}


_FACTS: Final = {name: sorted(set(sentence.meta.root_names())) for name, sentence in _SENTENCES.items()}


def sentences(judged: pl.DataFrame) -> pl.DataFrame:
    """Each term's sentence per customer, a column by each of `TERMS`, whether it moves the risk or not.

    ``judged`` as in `reasons`; contributions are not needed.
    """
    return judged.select(sentence.alias(name) for name, sentence in _SENTENCES.items())


def move(term: str) -> str:
    """Name of the column with a term's contribution."""
    return f"because_{term}"


def reasons(judged: pl.DataFrame) -> pl.Series:
    """Sentences with signed log-odds per customer, those that move the risk most first (ties by order of `TERMS`).

    ``judged``: a row per customer with each term's contribution (`move`), `Risk.facts` and columns of the state by
    name, and the name of ``worst_touchpoint``. Returns `REASONS_TYPE`.
    """
    row = np.arange(judged.height, dtype=np.uint32)
    told = [pl.DataFrame(schema={"row": pl.UInt32, "reason": pl.String, "log_odds": pl.Float64, "term": pl.Int32})]
    for term, name in enumerate(TERMS):
        moves = judged.get_column(move(name)).to_numpy()
        said = np.flatnonzero(np.abs(moves) >= SMALLEST)
        if said.size:
            told.append(
                judged.select(_FACTS[name])[said].select(
                    pl.Series("row", row[said]),
                    _SENTENCES[name].alias("reason"),
                    pl.Series("log_odds", moves[said]),
                    pl.lit(term).alias("term"),
                )
            )
    in_order = pl.concat(told).sort(pl.col("row"), -pl.col("log_odds").abs(), pl.col("term"))
    of_customer = in_order.group_by("row", maintain_order=True).agg(pl.struct("reason", "log_odds").alias("reasons"))
    every = pl.DataFrame({"row": row}).join(of_customer, on="row", how="left", maintain_order="left")
    return every.get_column("reasons").fill_null(pl.Series([[]], dtype=REASONS_TYPE))


def _sql_days(column: str) -> str:
    whole = f"toInt64(floor({column}))"
    return f"if({whole} = 1, '1 day', concat(toString({whole}), ' days'))"


def _sql_nearest(expression: str) -> str:
    return f"toString(toInt64(floor({expression} + 0.5)))"


def sentences_sql(column: Callable[[str], str]) -> dict[str, str]:
    """Each term's sentence as a SQL expression; ``column`` gives the SQL for a fact by name."""
    c = column
    return {
        "rhythm": f"multiIf({c('active_days')} = 0, 'never came, on record', "
        f"{c('active_days')} = 1, concat('came once, ', {_sql_days(c('silence_days'))}, ' ago'), "
        f"concat('last came ', {_sql_days(c('silence_days'))}, ' ago, usual gap ', {_sql_days(c('usual_gap_days'))}))",
        "frequency": f"concat('came on ', toString(toInt64({c('active_days')})), ' of the last ', "
        f"{_sql_days(c('age_days'))})",
        "spend": f"concat('spends about ', {_sql_nearest(c('spend_a_coming'))}, ' a visit, lately ', "
        f"{_sql_nearest(c('spend_ratio') + ' * 100')}, ' % of usual')",
        "contact": f"if({c('contacted')}, concat('last contact without coming ', {_sql_days(c('contact_days'))}, "
        "' ago'), 'no contact on record but coming')",
        "score": f"concat('experience score ', {_sql_nearest(c('score'))}, ', typical is ', "
        f"{_sql_nearest(c('typical_score'))})",
        "trend": f"concat('experience is getting ', if({c('trend')} < 0, 'worse', 'better'), ', ', "
        f"{_sql_nearest('abs(' + c('trend') + ')')}, ' points lately')",
        "volatility": f"concat('experience is haphazard, volatility ', {_sql_nearest(c('volatility') + ' * 100')}, "
        "' of 100')",
        "worst": f"if({c('worst_touchpoint')} = '', '{NOTHING_THERE['worst']}', "
        f"concat('a bad moment at ', {c('worst_touchpoint')}, ', ', {_sql_days(c('worst_days'))}, ' ago'))",
        "complaints": f"multiIf({c('open_complaints')} = 0, '{NOTHING_THERE['complaints']}', "
        f"{c('open_complaints')} = 1, concat('complaint open for ', "
        f"{_sql_days(c('complaint_days'))}), concat(toString({c('open_complaints')}), ' complaints open, the oldest "
        f"for ', {_sql_days(c('complaint_days'))}))",
        "feedback": f"if({c('feedback_waits')} > 0, concat('unhappy feedback unanswered for ', "
        f"{_sql_days(c('feedback_days'))}), '{NOTHING_THERE['feedback']}')",
        "surveys": f"concat('asked for feedback about ', {_sql_nearest(c('survey_load'))}, ' times lately')",
        "cancelled": f"if({c('is_cancelled')} > 0, concat('cancelled ', {_sql_days(c('cancelled_days'))}, ' ago'), "
        f"'{NOTHING_THERE['cancelled']}')",
    }
