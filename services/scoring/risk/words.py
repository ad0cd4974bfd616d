"""Reasons in the customer's words: each contribution of the risk formula as a short sentence.

Two spellings of the same sentences, for one customer here and for SQL; a test holds them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from services.scoring.risk.formula import TERMS

SMALLEST: Final = 0.05
"""Contributions in log-odds below this are not worth a sentence."""

Facts = Mapping[str, Sequence[Any]]
"""`Risk.facts` and columns of the state by name, and the names of ``worst_touchpoint``: a value per customer."""


def _days(value: float) -> str:
    whole = math.floor(value)
    return "1 day" if whole == 1 else f"{whole} days"


def _nearest(value: float) -> str:
    return f"{math.floor(value + 0.5)}"


def _rhythm(f: Facts, i: int) -> str:
    if f["active_days"][i] == 0:
        return "no purchase or renewal on record"
    if f["active_days"][i] == 1:
        return f"came once, {_days(f['silence_days'][i])} ago"
    return f"last came {_days(f['silence_days'][i])} ago, usual gap {_days(f['usual_gap_days'][i])}"


def _score(f: Facts, i: int) -> str:
    return f"experience score {_nearest(f['score'][i])}, typical is {_nearest(f['typical_score'][i])}"


def _trend(f: Facts, i: int) -> str:
    direction = "worse" if f["trend"][i] < 0 else "better"
    return f"experience is getting {direction}, {_nearest(abs(f['trend'][i]))} points lately"


def _volatility(f: Facts, i: int) -> str:
    return f"experience is haphazard, volatility {_nearest(f['volatility'][i] * 100)} of 100"


def _worst(f: Facts, i: int) -> str:
    return f"a bad moment at {f['worst_touchpoint'][i]}, {_days(f['worst_days'][i])} ago"


def _complaints(f: Facts, i: int) -> str:
    if f["open_complaints"][i] == 1:
        return f"complaint open for {_days(f['complaint_days'][i])}"
    return f"{f['open_complaints'][i]} complaints open, the oldest for {_days(f['complaint_days'][i])}"


def _feedback(f: Facts, i: int) -> str:
    return f"unhappy feedback unanswered for {_days(f['feedback_days'][i])}"


def _surveys(f: Facts, i: int) -> str:
    return f"asked for feedback about {_nearest(f['survey_load'][i])} times lately"


def _spend(f: Facts, i: int) -> str:
    direction = "less" if f["spend_ratio"][i] < 1 else "more"
    return f"spends {direction} lately, {_nearest(f['spend_ratio'][i] * 100)} % of usual"


def _cancelled(f: Facts, i: int) -> str:
    return f"cancelled {_days(f['cancelled_days'][i])} ago"


_SENTENCES: Final[dict[str, Callable[[Facts, int], str]]] = {
    "rhythm": _rhythm,
    "score": _score,
    "trend": _trend,
    "volatility": _volatility,
    "worst": _worst,
    "complaints": _complaints,
    "feedback": _feedback,
    "surveys": _surveys,
    "spend": _spend,
    "cancelled": _cancelled,
}
_IN_ORDER: Final = tuple(_SENTENCES[name] for name in TERMS)


def reasons(contributions: Sequence[Sequence[float]], facts: Facts) -> list[list[tuple[str, float]]]:
    """Sentences with signed log-odds per customer, those that move the risk most first (ties by order of `TERMS`).

    ``contributions``: a row per customer in the order of `TERMS`; ``facts``: columns of the same customers.
    """
    told = []
    for i, moves in enumerate(contributions):
        order = sorted(
            (place for place, move in enumerate(moves) if abs(move) >= SMALLEST), key=lambda place: -abs(moves[place])
        )
        told.append([(_IN_ORDER[place](facts, i), moves[place]) for place in order])
    return told


def _sql_days(column: str) -> str:
    whole = f"toInt64(floor({column}))"
    return f"if({whole} = 1, '1 day', concat(toString({whole}), ' days'))"


def _sql_nearest(expression: str) -> str:
    return f"toString(toInt64(floor({expression} + 0.5)))"


def sentences_sql(column: Callable[[str], str]) -> dict[str, str]:
    """Each term's sentence as a SQL expression; ``column`` gives the SQL for a fact by name."""
    c = column
    return {
        "rhythm": f"multiIf({c('active_days')} = 0, 'no purchase or renewal on record', "
        f"{c('active_days')} = 1, concat('came once, ', {_sql_days(c('silence_days'))}, ' ago'), "
        f"concat('last came ', {_sql_days(c('silence_days'))}, ' ago, usual gap ', {_sql_days(c('usual_gap_days'))}))",
        "score": f"concat('experience score ', {_sql_nearest(c('score'))}, ', typical is ', "
        f"{_sql_nearest(c('typical_score'))})",
        "trend": f"concat('experience is getting ', if({c('trend')} < 0, 'worse', 'better'), ', ', "
        f"{_sql_nearest('abs(' + c('trend') + ')')}, ' points lately')",
        "volatility": f"concat('experience is haphazard, volatility ', {_sql_nearest(c('volatility') + ' * 100')}, "
        "' of 100')",
        "worst": f"concat('a bad moment at ', {c('worst_touchpoint')}, ', ', {_sql_days(c('worst_days'))}, ' ago')",
        "complaints": f"if({c('open_complaints')} = 1, concat('complaint open for ', "
        f"{_sql_days(c('complaint_days'))}), concat(toString({c('open_complaints')}), ' complaints open, the oldest "
        f"for ', {_sql_days(c('complaint_days'))}))",
        "feedback": f"concat('unhappy feedback unanswered for ', {_sql_days(c('feedback_days'))})",
        "surveys": f"concat('asked for feedback about ', {_sql_nearest(c('survey_load'))}, ' times lately')",
        "spend": f"concat('spends ', if({c('spend_ratio')} < 1, 'less', 'more'), ' lately, ', "
        f"{_sql_nearest(c('spend_ratio') + ' * 100')}, ' % of usual')",
        "cancelled": f"concat('cancelled ', {_sql_days(c('cancelled_days'))}, ' ago')",
    }
