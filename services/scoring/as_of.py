"""The score and risk formulas as SQL over `customer_state`, as of now.

`python -m services.scoring.as_of` prints the view files; a test holds the committed files to it, and another holds
the SQL to the arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.state_layout import (
    ACTIVE_DAYS_SQL,
    ARRAYS_SQL,
    BANDS,
    FLOAT_INDEX,
    FLOATS,
    INT_INDEX,
    INTS,
    STORED_NAMES,
    VERSION,
)
from schemas.tables import CUSTOMER_STATE, DATABASE, DIMENSIONS, MODEL_SHADOWS, MODELS
from services.scoring.decay import DAY_US
from services.scoring.expressions import Sql, SqlTerm, Term, sql
from services.scoring.risk.bands import next_band
from services.scoring.risk.features import FEATURES, TERMS
from services.scoring.risk.formula import LEVERS, risk
from services.scoring.risk.model import DEFAULT, WEIGHT_PARTS
from services.scoring.risk.words import SMALLEST, sentences_sql
from services.scoring.score import score

NOW: Final = "toFloat64(toUnixTimestamp64Micro(now64(6, 'UTC')))"
"""Now in microseconds, one value for a whole query."""

_BLOCK_BYTES: Final = 8_000_000
"""Of states at once. The server's default of 1 MB, some 1,500 customers, takes more processor time where a model uses
the days: presumably each of a formula's hundreds of steps has to begin for every block."""

_STATE: Final = f"{DATABASE}.{CUSTOMER_STATE.name}"
ACTIVE: Final = f"(SELECT argMax(parameters, activated_at) FROM {DATABASE}.{MODELS.name})"
_ACTIVE_VERSION: Final = f"(SELECT argMax(version, activated_at) FROM {DATABASE}.{MODELS.name})"
_SHADOW_VERSION: Final = f"(SELECT argMax(version, chosen_at) FROM {DATABASE}.{MODEL_SHADOWS.name})"
SHADOW: Final = (
    f"(SELECT argMax(parameters, activated_at) FROM {DATABASE}.{MODELS.name} WHERE version = {_SHADOW_VERSION})"
)
"""The model beside the active one; empty when there is none."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One column of a view: name, type, comment and the expression behind it."""

    name: str
    type: str
    comment: str
    expression: str


def _column(name: str) -> str:
    return f"s_{name}"


def _inner(where: str) -> str:
    """The state's columns under names that no alias of the formula can hide, as doubles where they are numbers.

    Out of the packed row itself: the table's own columns would each be analysed and unpacked anew.
    """
    chosen = [f"customer_id AS {_column('customer_id')}"]
    for name in (*FLOATS, *INTS):
        if name in FLOATS:
            source = f"packed_floats[{FLOAT_INDEX[name] + 1}]"
        elif name in STORED_NAMES:
            source = name
        elif name == VERSION:
            source = f"toFloat64({name})"
        else:
            source = f"toFloat64(packed_ints[{INT_INDEX[name] + 1}])"
        chosen.append(f"{source} AS {_column(name)}")
    chosen.append(f"{ACTIVE_DAYS_SQL} AS {_column('activity_days')}")
    stored = ", ".join(("customer_id", VERSION, *STORED_NAMES, *ARRAYS_SQL, "set_bytes"))
    read = f"SELECT {stored} FROM {_STATE} FINAL{where} SETTINGS preferred_block_size_bytes = {_BLOCK_BYTES}"
    return f"SELECT {', '.join(chosen)} FROM ({read})"


def _parameters() -> dict[str, SqlTerm]:
    """Each parameter as SQL: a weight's four are one array."""
    terms = {}
    for name in DEFAULT.parameters():
        group, *rest = name.split(".")
        if group == "weights":
            terms[name] = SqlTerm(f"w_{rest[0]}[{WEIGHT_PARTS.index(rest[1]) + 1}]")
        else:
            terms[name] = SqlTerm("p_" + name.replace(".", "_"))
    return terms


def _parameter_aliases() -> list[str]:
    aliases = []
    for name, term in _parameters().items():
        path = ", ".join(f"'{part}'" for part in name.split("."))
        if name == "base.modified":
            aliases.append(f"toFloat64(JSONExtractString(model_parameters, 'base', 'variant') = 'mbg') AS {term}")
        elif not name.startswith("weights."):
            aliases.append(f"JSONExtractFloat(model_parameters, {path}) AS {term}")
    aliases += [
        f"JSONExtract(model_parameters, 'weights', '{name}', 'Array(Float64)') AS w_{name}" for name in FEATURES
    ]
    return aliases


def as_of(now: str = NOW, where: str = "", model: str = ACTIVE) -> tuple[str, Mapping[str, str]]:
    """The WITH and FROM of an as-of query, and the expressions of everything it knows, by name.

    ``now``: SQL for the moment in microseconds. ``where``: a condition on the state, with its WHERE. ``model``: SQL
    for the model's JSON, one value for the whole query.
    """
    o = Sql()
    state: dict[str, Term] = {name: SqlTerm(_column(name)) for name in (*FLOATS, *INTS, "activity_days")}
    moment = SqlTerm("now_us")
    measured = score(o, state, moment)
    judged = risk(o, state, measured, _parameters(), moment)
    band = o.let("band", next_band(o, state["band"], state["band_since"], judged.risk, moment, _parameters()))
    facts = {name: sql(term) for name, term in judged.facts.items()}
    facts |= {
        "active_days": _column("active_days"),
        "open_complaints": _column("open_complaints"),
        "contacted": f"({_column('last_contact_at')} > 0)",
        "worst_days": f"(greatest(now_us - {_column('worst_at')}, 0) / {float(DAY_US)!r})",
        "worst_touchpoint": f"toString({_column('worst_touchpoint')})",
        "score": sql(measured.overall),
        "typical_score": sql(_parameters()["weights.score.mean"]),
        "trend": sql(measured.trend),
        "volatility": sql(measured.volatility),
    }
    sentences = sentences_sql(facts.__getitem__)
    told = ", ".join(f"({sentences[name]}, {sql(judged.contributions[name])})" for name in TERMS)
    reasons = (
        f"CAST(arraySort(r -> -abs(r.2), arrayFilter(r -> abs(r.2) >= {SMALLEST}, [{told}])) "
        "AS Array(Tuple(reason String, log_odds Float64)))"
    )
    without = "1 / (1 + exp({relief} - {log_odds}))".format
    freed = ", ".join(
        f"('{action}', {without(relief=judged.relief[name], log_odds=judged.log_odds)}, {judged.relief[name]})"
        for name, action in LEVERS.items()
    )
    levers = (
        f"CAST(arrayMap(l -> (l.1, l.2), arraySort(l -> -l.3, arrayFilter(l -> l.3 >= {SMALLEST}, [{freed}]))) "
        "AS Array(Tuple(action String, risk Float64)))"
    )
    # A scalar subquery may be NULL, which no array can stand in.
    constants = [f"{now} AS now_us", f"ifNull({model}, '') AS model_parameters", *_parameter_aliases()]
    known = {
        "score": sql(measured.overall),
        **{dimension: sql(term) for dimension, term in measured.dimensions.items()},
        "fast_score": sql(measured.fast),
        "trend": sql(measured.trend),
        "confidence": sql(measured.confidence),
        "volatility": sql(measured.volatility),
        "worst": sql(measured.worst),
        "risk": sql(judged.risk),
        "risk_confidence": sql(judged.confidence),
        "log_odds": sql(judged.log_odds),
        "expected_spend": sql(judged.expected_spend),
        "value_at_risk": sql(judged.value_at_risk),
        "band_code": sql(band),
        "reasons": reasons,
        "levers": levers,
        **{name: facts[name] for name in ("complaint_hours", "feedback_hours", "silence_days", "usual_gap_days")},
        **{f"because_{name}": sql(term) for name, term in judged.contributions.items()},
    }
    names = [*constants, *(f"{expression} AS {alias}" for alias, expression in o.named.items())]
    separator = ",\n    "
    return f"WITH\n    {separator.join(names)}\nSELECT\n    {{columns}}\nFROM\n(\n    {_inner(where)}\n)", known


def select(columns: Mapping[str, str], now: str = NOW, where: str = "", model: str = ACTIVE) -> str:
    """A SELECT of expressions under their names; ``columns`` may use the state's columns as ``s_name``."""
    frame, _ = as_of(now, where, model)
    return frame.replace("{columns}", ",\n    ".join(f"{expression} AS {name}" for name, expression in columns.items()))


def crossing_sql(partitions: tuple[int, ...], limit: int, now: str = NOW, model: str = ACTIVE) -> str:
    """Customers of some partitions whose band as of now is not the band they were last judged to be in.

    Columns: customer_id, and log_partition and log_offset of their state.
    """
    where = f" WHERE log_partition IN ({', '.join(str(int(partition)) for partition in partitions)})"
    frame, known = as_of(now, where, model)
    listed = frame.replace(
        "{columns}",
        f"{_column('customer_id')} AS customer_id, toUInt16({_column('log_partition')}) AS log_partition, "
        f"toInt64({_column('log_offset')}) AS log_offset",
    )
    return f"{listed}\nWHERE {known['band_code']} != {_column('band')}\nLIMIT {int(limit)}"


def _time(name: str) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({_column(name)}), 'UTC')"


def _customer_scores() -> list[Shown]:
    _, known = as_of()
    bands = ", ".join(f"'{band}'" for band in BANDS)

    def number(name: str, comment: str) -> Shown:
        return Shown(name, "Float64", comment, known[name])

    def count(name: str, comment: str, column: str | None = None) -> Shown:
        return Shown(name, "UInt64", comment, f"toUInt64({_column(column or name)})")

    return [
        Shown("customer_id", "String", "The customer", _column("customer_id")),
        number("score", "Experience score, 0 to 100, higher is better; 60 without evidence"),
        *(
            number(
                dimension,
                {
                    "effectiveness": "Did it work: score of that dimension, 0 to 100",
                    "ease": "What did it take: score of that dimension, 0 to 100",
                    "emotion": "How did it feel: score of that dimension, 0 to 100",
                }[dimension],
            )
            for dimension in DIMENSIONS
        ),
        number("confidence", "Weight of the evidence behind the score, 0 to 1"),
        number("fast_score", "Score with a half-life of 7 days instead of 90"),
        number("trend", "Where the score is heading, in points; below 0 it gets worse"),
        number("volatility", "How haphazard the experience is, 0 to 1"),
        number("risk", "P(does not come back within the horizon), 0 to 1, higher is worse"),
        Shown(
            "risk_band",
            "String",
            "low, elevated or high, with separate levels for entering and leaving",
            f"[{bands}][toInt64({known['band_code']}) + 1]",
        ),
        number("risk_confidence", "Evidence behind the risk, 0 to 1: of the score and of the own rhythm"),
        number("expected_spend", "Spend over the horizon while the customer keeps coming, currency units"),
        number("value_at_risk", "Risk x expected spend, currency units"),
        Shown(
            "reasons",
            "Array(Tuple(reason String, log_odds Float64))",
            "Why the risk is what it is: signed log-odds against the average customer, largest first",
            known["reasons"],
        ),
        Shown(
            "levers",
            "Array(Tuple(action String, risk Float64))",
            "What would lower the risk, and the risk it would leave, most first",
            known["levers"],
        ),
        count("open_complaints", "Complaints that wait for an answer"),
        Shown(
            "worst_touchpoint",
            "String",
            "Where the worst recent moment happened",
            f"toString({_column('worst_touchpoint')})",
        ),
        Shown("worst_at", "DateTime64(6, 'UTC')", "When it happened; 1970 means never", _time("worst_at")),
        Shown("last_touchpoint", "String", "Where something was felt last", f"toString({_column('last_touchpoint')})"),
        number("worst", "Severity of the worst recent moment, faded"),
        number("complaint_hours", "Age of the oldest open complaint, hours; 0: none is open"),
        number("feedback_hours", "Hours that unhappy feedback has been unanswered; 0: none is"),
        number("silence_days", "Days since the customer last came; 0: never came"),
        number("usual_gap_days", "Mean days between comings; 0: not known yet"),
        count("events", "Events of the customer"),
        count("felt_events", "Events among them that said how it felt", "felt"),
        count("active_days", "Days with a purchase or renewal, up to 32 latest"),
        Shown("spend", "Float64", "Net spend ever, currency units", f"{_column('spend_micros')} / 1000000"),
        Shown("first_event_at", "DateTime64(6, 'UTC')", "When the first event happened", _time("first_event_at")),
        Shown("last_event_at", "DateTime64(6, 'UTC')", "When the last event happened", _time("last_event_at")),
        Shown(
            "last_activity_at",
            "DateTime64(6, 'UTC')",
            "When the customer last came back; 1970 means never",
            _time("last_activity_at"),
        ),
        Shown("updated_at", "DateTime64(6, 'UTC')", "When the last event was received", _time("updated_at")),
        Shown(
            "log_partition",
            "UInt16",
            "Partition of the topic touchpoints the customer lives in",
            f"toUInt16({_column('log_partition')})",
        ),
        Shown("log_offset", "Int64", "Offset of the last event in the score", f"toInt64({_column('log_offset')})"),
    ]


def customer_scores_view() -> str:
    """The file of view ``customer_scores``: one row per customer, as of now."""
    columns = _customer_scores()
    listed = ",\n    ".join(f"{c.name} {c.type} COMMENT '{c.comment}'" for c in columns)
    body = select({c.name: c.expression for c in columns})
    return (
        "-- Made by `python -m services.scoring.as_of` from the formulas in services/scoring; change those.\n\n"
        f"CREATE OR REPLACE VIEW {DATABASE}.customer_scores\n(\n    {listed}\n)\nAS\n{body}\n"
        "COMMENT 'Score and loyalty risk of each customer, as of now';\n"
    )


def shadow_scores_view() -> str:
    """The file of view ``shadow_scores``: one row per customer while a model runs in the shadow, else none."""
    _, known = as_of()
    bands = ", ".join(f"'{band}'" for band in BANDS)
    judged = {
        "customer_id": _column("customer_id"),
        "risk": known["risk"],
        "risk_band": f"[{bands}][toInt64({known['band_code']}) + 1]",
    }
    return (
        "-- Made by `python -m services.scoring.as_of` from the formulas in services/scoring; change those.\n\n"
        f"CREATE OR REPLACE VIEW {DATABASE}.shadow_scores\n(\n"
        "    customer_id String COMMENT 'The customer',\n"
        "    model String COMMENT 'The model that judges',\n"
        "    risk Float64 COMMENT 'Risk by it, as of now',\n"
        "    risk_band String COMMENT 'Band by it: low, elevated or high',\n"
        "    shadow_model String COMMENT 'The model that runs beside it and judges nobody',\n"
        "    shadow_risk Float64 COMMENT 'Risk by that one, as of now',\n"
        "    shadow_band String COMMENT 'Band that the customer would be in by that one'\n"
        ")\nAS\nSELECT\n    judged.customer_id AS customer_id,\n"
        f"    ifNull({_ACTIVE_VERSION}, '') AS model,\n    judged.risk AS risk,\n    judged.risk_band AS risk_band,\n"
        f"    ifNull({_SHADOW_VERSION}, '') AS shadow_model,\n    beside.risk AS shadow_risk,\n"
        f"    beside.risk_band AS shadow_band\nFROM\n(\n{select(judged)}\n) AS judged\nINNER JOIN\n(\n"
        f"{select(judged, model=SHADOW)}\n) AS beside ON judged.customer_id = beside.customer_id\n"
        f"WHERE ifNull({SHADOW}, '') != ''\n"
        "COMMENT 'Risk of each customer by the active model and by the one in the shadow, as of now'\n"
    )


VIEW_FILES: Final = {"20_customer_scores.sql": customer_scores_view, "25_shadow_scores.sql": shadow_scores_view}


def main(folder: str) -> None:
    """Write the view files into a folder."""
    for name, text in VIEW_FILES.items():
        (Path(folder) / name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
