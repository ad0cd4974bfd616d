"""The rows of `services.alerting.recovery`, asked of the tables. Pure: the text of a query.

The score as of a moment is the sum of everything felt until then, slow half-life and prior as in the score (view
``score_history``, whose parity with the score is tested).
"""

from __future__ import annotations

from typing import Final

from schemas.tables import DATABASE

PARAMETERS: Final = ("rule", "since", "horizon_us", "comings")
"""Rule (empty: all), UTC microseconds, length of the horizon, kinds of event that count as coming back."""

_HALF_LIFE_US: Final = 7_776_000_000_000.0
_PRIOR, _PRIOR_MEAN = 2.0, 0.2


def _score_at(moment: str) -> str:
    faded = f"exp2((did.us - {moment}) / {_HALF_LIFE_US!r})"
    felt = f"sumIf(did.{{}} * {faded}, did.us <= {moment})"
    return f"(50 + 50 * ({_PRIOR * _PRIOR_MEAN!r} + {felt.format('said')}) / ({_PRIOR!r} + {felt.format('weight')}))"


_WITHIN: Final = "did.us > subject.us AND did.us <= subject.us + %(horizon_us)s"

RECOVERY_SQL: Final = f"""
WITH
    held AS
    (
        SELECT alert.rule AS rule, alert.rules_version AS rules_version
        FROM {DATABASE}.alert_log AS alert
        INNER JOIN (SELECT rules_version, rule FROM {DATABASE}.alert_rules FINAL WHERE hold_out > 0) AS set
            ON set.rule = alert.rule AND set.rules_version = alert.rules_version
        WHERE alert.turn = 'firing' AND alert.fate = 'held_out'
        GROUP BY rule, rules_version
    ),
    subject AS
    (
        SELECT
            rule, customer_id, toString(fate) AS group,
            toUnixTimestamp64Micro(fired_at) AS us, risk, value_at_risk AS value, segment
        FROM {DATABASE}.alert_log FINAL
        WHERE turn = 'firing' AND fate IN ('called', 'held_out') AND customer_id != ''
            AND (rule, rules_version) IN (SELECT rule, rules_version FROM held)
        UNION ALL
        SELECT rule, customer_id, 'called', toUnixTimestamp64Micro(closed_at), risk, value_at_risk, segment
        FROM {DATABASE}.cases
        WHERE state = 'closed' AND rule NOT IN (SELECT rule FROM held)
        UNION ALL
        SELECT by_rule.rule, other.customer_id, 'never_called', other.us, other.risk, other.value, other.segment
        FROM
        (
            SELECT
                signal.customer_id AS customer_id,
                max(toUnixTimestamp64Micro(signal.judged_at)) AS us,
                argMax(signal.risk, signal.judged_at) AS risk,
                argMax(signal.value_at_risk, signal.judged_at) AS value,
                argMax(known.segment, signal.judged_at) AS segment
            FROM
            (
                SELECT customer_id, judged_at, risk, value_at_risk FROM {DATABASE}.loyalty_signals FINAL
                WHERE customer_id NOT IN
                (
                    SELECT customer_id FROM {DATABASE}.alert_log WHERE turn = 'firing' AND fate = 'called'
                )
            ) AS signal
            ASOF LEFT JOIN
            (
                SELECT customer_id, received_at, attributes['segment'] AS segment
                FROM {DATABASE}.touchpoints_once WHERE attributes['segment'] != ''
            ) AS known ON known.customer_id = signal.customer_id AND known.received_at <= signal.judged_at
            GROUP BY customer_id, intDiv(toUnixTimestamp64Micro(signal.judged_at), 604800000000)
        ) AS other
        CROSS JOIN
        (
            SELECT DISTINCT rule FROM {DATABASE}.cases WHERE state = 'closed' AND rule NOT IN (SELECT rule FROM held)
        ) AS by_rule
    )
SELECT
    toString(subject.rule) AS rule,
    subject.customer_id AS customer_id,
    subject.group AS group,
    subject.us AS at,
    any(subject.risk) AS risk,
    any(subject.value) AS value,
    any(subject.segment) AS segment,
    {_score_at("(subject.us + %(horizon_us)s)")} - {_score_at("subject.us")} AS score_change,
    toFloat64(countIf({_WITHIN} AND has(%(comings)s, did.kind)) > 0) AS returned,
    sumIf(did.spend, {_WITHIN}) AS spend
FROM subject
LEFT JOIN
(
    SELECT
        customer_id,
        toUnixTimestamp64Micro(occurred_at) AS us,
        toString(kind) AS kind,
        toFloat64(effectiveness_weight) + ease_weight + emotion_weight AS weight,
        toFloat64(effectiveness_valence) * effectiveness_weight + toFloat64(ease_valence) * ease_weight
            + toFloat64(emotion_valence) * emotion_weight AS said,
        ifNull(amount_micros, 0) / 1000000
            * transform(toString(kind), ['purchase', 'renewal', 'subscription', 'refund'], [1, 1, 1, -1], 0) AS spend
    FROM {DATABASE}.touchpoints_once
    WHERE customer_id IN (SELECT customer_id FROM subject)
) AS did ON did.customer_id = subject.customer_id
WHERE (%(rule)s = '' OR subject.rule = %(rule)s) AND subject.us >= %(since)s
    AND subject.us + %(horizon_us)s <= toUnixTimestamp64Micro(now64(6, 'UTC'))
GROUP BY subject.rule, subject.customer_id, subject.group, subject.us
"""
"""Columns as `services.alerting.recovery.COLUMNS`. Parameters: `PARAMETERS`."""
