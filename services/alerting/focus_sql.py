"""SQL that reads what was felt, by window and part of the company, out of ClickHouse. Pure: text in, text out.

When an event counts: at ``received_at``; but at ``occurred_at`` where it was received more than `HISTORY_AFTER_US`
after it happened, so that imported history lies in the windows in which it was lived through. Only events received
before the end of the latest window are read. Both are properties of the log, so the same window judged again, after a
replay or years later, is judged by the same events.

Sums are added up as whole millionths: no order of adding changes their last digit.
"""

from __future__ import annotations

from typing import Final, Literal

from schemas.tables import DATABASE, DIMENSIONS, TOUCHPOINTS

By = Literal["touchpoint", "channel"]

HISTORY_AFTER_US: Final = 172_800_000_000
"""Two days: what arrives later than this is no report of today, however busy its sender was."""
_MICROS: Final = 1_000_000


def felt_windows_sql(by: By, window_us: int, origin_us: int, begin_us: int, end_us: int) -> str:
    """The SELECT of `services.alerting.focus_measure.WINDOWS`, by window and part.

    Windows of ``window_us`` begin at ``origin_us`` and its multiples; from the one at ``begin_us`` to the one that
    ends at ``end_us``, both UTC microseconds on such a border. Parts without a name are left out.
    """
    weights = " + ".join(f"toFloat64({name}_weight)" for name in DIMENSIONS)
    felt = " + ".join(f"toFloat64({name}_weight) * {name}_valence" for name in DIMENSIONS)
    squares = " + ".join(f"toFloat64({name}_weight) * {name}_valence * {name}_valence" for name in DIMENSIONS)

    def products(a: str, b: str) -> str:
        # As 128-bit integers: exact.
        return f"toFloat64(sum(toInt128({a}_micros) * toInt128({b}_micros))) / {_MICROS}. / {_MICROS}. AS {a}{b}"

    sums = ",\n    ".join(f"toFloat64(sum({name}_micros)) / {_MICROS}. AS {name}" for name in "wsq")
    pairs = ",\n    ".join(products(a, b) for a, b in ("ww", "ss", "qq", "ws", "wq", "sq"))
    late = f"toUnixTimestamp64Micro(received_at) - toUnixTimestamp64Micro(occurred_at) > {HISTORY_AFTER_US}"
    return f"""
SELECT
    start_us,
    part,
    toInt64(count()) AS customers,
    toInt64(sum(events)) AS readings,
    {sums},
    {pairs}
FROM
(
    SELECT
        {origin_us} + intDiv(at_us - {origin_us}, {window_us}) * {window_us} AS start_us,
        toString({by}) AS part,
        customer_id,
        count() AS events,
        sum(toInt64(round(({weights}) * {_MICROS}))) AS w_micros,
        sum(toInt64(round(({felt}) * {_MICROS}))) AS s_micros,
        sum(toInt64(round(({squares}) * {_MICROS}))) AS q_micros
    FROM
    (
        SELECT *, toUnixTimestamp64Micro(if({late}, occurred_at, received_at)) AS at_us
        FROM {DATABASE}.{TOUCHPOINTS.name} FINAL
        WHERE occurred_at >= fromUnixTimestamp64Micro({max(begin_us - HISTORY_AFTER_US, 0)}, 'UTC')
            AND received_at < fromUnixTimestamp64Micro({end_us}, 'UTC')
            AND {by} != '' AND ({weights}) > 0
    )
    WHERE at_us >= {begin_us} AND at_us < {end_us}
    GROUP BY start_us, part, customer_id
)
GROUP BY start_us, part
ORDER BY part, start_us
"""
