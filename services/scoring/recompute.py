"""The states as one SQL query over the event table: what the fold is held to, event by event, by another engine.

Only what is independent of the log's order: not the position in the log, nothing judged, no recent ids. The floats
agree with the fold to 1e-9 relative to their sums of absolute terms, everything else is equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from schemas.kinds import NOT_FOLDED
from schemas.tables import (
    ACTIVITY_DAYS,
    CUSTOMER_STATE,
    DATABASE,
    DIMENSIONS,
    HALF_LIVES,
    RECENT_CASES,
    TIME,
    TOUCHPOINTS,
)
from services.scoring.decay import DAY_US, HALF_LIFE_US
from services.scoring.events import UNHAPPY
from services.scoring.fold import COUNTED, LATEST, MONEY_SIGN

EVENTS: Final = f"{DATABASE}.{TOUCHPOINTS.name} FINAL"
"""Where the events are read; FINAL drops rows that were written twice by a redelivery."""

NOT_RECOMPUTED: Final = frozenset(
    {
        # of the log's order
        *("log_partition", "log_offset", "updated_at"),
        # judged at moments that the log's order picks
        *("risk", "band", "band_since", "judged_at", "model_version"),
        # for de-duplication, which takes place before events are stored
        *("recent_ids", "ids_horizon_s"),
    }
)
PLACED: Final = ("log_partition", "log_offset", "updated_at")
"""Columns of `placed_sql`: where in the log a customer's state stands."""
RECOMPUTED: Final = tuple(column for column in CUSTOMER_STATE.columns if column.name not in NOT_RECOMPUTED)
"""Columns of the query, in order, with the names and types of `customer_state`."""

_LAST_DAY: Final = 0xFFFF
_CASE_KINDS: Final = ("complaint_opened", "complaint_resolved")


def _in(kinds: Iterable[str]) -> str:
    return f"e_kind IN ({', '.join(repr(kind) for kind in kinds)})"


def _total(part: Callable[[str], str]) -> str:
    return f"({' + '.join(part(dimension) for dimension in DIMENSIONS)})"


def _felt() -> str:
    return f"({' OR '.join(f'e_{dimension}_weight > 0' for dimension in DIMENSIONS)})"


_VALUES: Final = {
    "e_us": "toUnixTimestamp64Micro(occurred_at)",
    "e_second": "toUInt64(intDiv(e_us, 1000000))",
    "e_kind": "toString(kind)",
    "e_touchpoint": "toString(touchpoint)",
    **{
        f"e_{dimension}_{part}": f"toFloat64({dimension}_{part})"
        for dimension in DIMENSIONS
        for part in ("valence", "weight")
    },
    "e_felt": _felt(),
    "e_weighted": _total(lambda dimension: f"e_{dimension}_weight * e_{dimension}_valence"),
    "e_mean": f"if(e_felt, e_weighted / {_total(lambda dimension: f'e_{dimension}_weight')}, 0.)",
    "e_severity": "greatest(-e_weighted, 0.)",
    "e_name_hash": "CRC32(e_touchpoint)",
    "e_micros": f"ifNull(amount_micros, 0) * transform(e_kind, {list(MONEY_SIGN)!r}, {list(MONEY_SIGN.values())!r}, 0)",
    "e_case": "bitShiftLeft(toUInt64(bitShiftRight(CRC32(case_id), 1)), 1)",
    "e_entry": "bitOr(bitOr(bitShiftLeft(e_second, 32), e_case), toUInt64(e_kind = 'complaint_resolved'))",
}
"""Per event: its values under names that no column of the table has."""


def _per_event(source: str, where: str) -> str:
    named = ", ".join(f"{expression} AS {name}" for name, expression in _VALUES.items())
    wanted = f"kind NOT IN {NOT_FOLDED}" + (f" AND ({where})" if where else "")
    return (
        f"SELECT customer_id, {', '.join(_VALUES)}, max(e_us) OVER (PARTITION BY customer_id) AS e_last_us\n"
        f"    FROM (SELECT customer_id, {named} FROM {source} WHERE {wanted})"
    )


def _faded(half_life: str) -> str:
    return f"exp2(toFloat64(e_us - e_last_us) / {HALF_LIFE_US[half_life]!r})"


def _time(microseconds: str) -> str:
    return f"fromUnixTimestamp64Micro({microseconds}, 'UTC')"


def _latest(condition: str) -> str:
    return _time(f"maxIf(e_us, {condition})")


def _packed(array: str, count: int, item_bytes: int) -> str:
    """A bounded set as the table keeps it: zeros first, little-endian."""
    filled = f"arrayConcat(arrayWithConstant({count} - length({array}), 0), {array})"
    octets = ", ".join(f"bitAnd(bitShiftRight(item, {8 * place}), 255)" for place in range(item_bytes))
    return f"toFixedString(arrayStringConcat(arrayMap(item -> char({octets}), {filled})), {count * item_bytes})"


def _expressions(activity_kinds: Iterable[str]) -> dict[str, str]:
    active = _in(activity_kinds)
    unhappy = f"({_in(('survey_response', 'emotion'))} AND e_mean < {UNHAPPY!r})"
    term = {"w": "", "s": " * e_{d}_valence", "q": " * e_{d}_valence * e_{d}_valence"}
    rank = f"log2(e_severity) + e_us / {HALF_LIFE_US['slow']!r}"
    worst = f"tuple({rank}, e_us, e_name_hash), e_severity > 0"
    last = "tuple(e_us, e_name_hash, e_mean), e_felt"
    days = f"groupUniqArrayIf(toUInt16(least(intDiv(e_us, {DAY_US}), {_LAST_DAY})), {active} AND e_us >= {DAY_US})"
    cases = f"mapValues(maxMapIf(map(e_case, e_entry), {_in(_CASE_KINDS)}))"
    unresolved = "arrayMap(entry -> bitShiftRight(entry, 32), arrayFilter(entry -> bitAnd(entry, 1) = 0, a_cases))"
    return {
        **{
            f"{d}_{h}_{letter}": f"sum(e_{d}_weight{factor.format(d=d)} * {_faded(h)})"
            for d in DIMENSIONS
            for h in HALF_LIVES
            for letter, factor in term.items()
        },
        "worst_severity": f"argMaxIf(e_severity, {worst})",
        "last_valence": f"argMaxIf(e_mean, {last})",
        **{f"spend_{h}": f"sum(e_micros * 1e-6 * {_faded(h)})" for h in HALF_LIVES},
        "survey_load": f"sumIf({_faded('slow')}, e_kind = 'survey_sent')",
        "contact_load": f"sumIf({_faded('slow')}, NOT {active})",
        "events": "count()",
        "felt": "countIf(e_felt)",
        "activities": f"countIf({active})",
        **{column: f"countIf(e_kind = '{kind}')" for column, kind in COUNTED.items()},
        "spend_micros": "sum(e_micros)",
        "first_event_at": _time("min(e_us)"),
        "last_event_at": _time("max(e_us)"),
        "worst_at": _time(f"argMaxIf(e_us, {worst})"),
        "worst_touchpoint": f"argMaxIf(e_touchpoint, {worst})",
        "last_felt_at": _latest("e_felt"),
        "last_touchpoint": f"argMaxIf(e_touchpoint, {last})",
        "last_activity_at": _latest(active),
        "last_contact_at": _latest(f"NOT {active}"),
        "last_feedback_at": _latest(f"e_kind = 'complaint_opened' OR {unhappy}"),
        **{column: _latest(_in(kinds)) for column, kinds in LATEST.items()},
        "active_days": "length(a_days)",
        "first_active_day": "if(empty(a_days), 0, a_days[1])",
        "open_complaints": f"length({unresolved})",
        "open_complaint_since": _time(f"toInt64(arrayMin({unresolved}) * 1000000)"),
        "activity_days": _packed("a_days", ACTIVITY_DAYS, 2),
        "cases": _packed("a_cases", RECENT_CASES, 8),
        "a_days": f"arraySlice(arraySort({days}), -{ACTIVITY_DAYS})",
        "a_cases": f"arraySlice(arraySort({cases}), -{RECENT_CASES})",
    }


def recompute_sql(activity_kinds: Iterable[str], where: str = "", source: str = EVENTS) -> str:
    """A SELECT of `RECOMPUTED`, one row per customer with at least one event that is folded.

    ``activity_kinds``: what counts as coming back (`RiskModel.activity_kinds`). ``where``: a condition on the
    table's rows, such as a partition and an offset; it must take or leave a customer's events by their place in the
    log alone. ``source``: table expression the events are read from.
    """
    expressions = _expressions(activity_kinds)
    shared = [f"{expressions[name]} AS {name}" for name in ("a_days", "a_cases")]
    columns = ["customer_id"]
    for column in RECOMPUTED:
        if column.name == "customer_id":
            continue
        plain = column.type in ("Float64", TIME, "LowCardinality(String)") or column.type.startswith("FixedString")
        expression = expressions[column.name] if plain else f"to{column.type}({expressions[column.name]})"
        columns.append(f"{expression} AS {column.name}")
    separator = ",\n    "
    return (
        f"WITH\n    {separator.join(shared)}\nSELECT\n    {separator.join(columns)}\n"
        f"FROM\n(\n    {_per_event(source, where)}\n)\nGROUP BY customer_id"
    )


def placed_sql(where: str = "", source: str = EVENTS) -> str:
    """A SELECT of ``customer_id`` and `PLACED`, one row per customer with any event, those not folded among them.

    ``where`` and ``source`` as for `recompute_sql`.
    """
    latest = "tuple(log_offset, log_partition, received_at)"
    condition = f" WHERE {where}" if where else ""
    return (
        f"SELECT customer_id, tupleElement(latest, 2) AS log_partition, tupleElement(latest, 1) AS log_offset, "
        f"tupleElement(latest, 3) AS updated_at\nFROM (SELECT customer_id, max({latest}) AS latest "
        f"FROM {source}{condition} GROUP BY customer_id)"
    )
