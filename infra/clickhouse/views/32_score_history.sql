-- One customer's score at each felt event, with all that was felt until then. The window's sums are taken relative to the
-- customer's last event and scaled back, so each row has the sums as of its own moment (slow half-life, prior as in the score).

CREATE OR REPLACE VIEW touchstone.score_history
AS
SELECT
    customer_id,
    occurred_at,
    touchpoint,
    kind,
    50 + 50 * (2.0 * 0.2 + valence / fade) / (2.0 + weight / fade) AS score,
    (weight / fade) / (2.0 + weight / fade) AS confidence
FROM
(
    SELECT
        customer_id,
        occurred_at,
        touchpoint,
        kind,
        exp2((toFloat64(toUnixTimestamp64Micro(occurred_at)) - latest) / 7776000000000.) AS fade,
        sum(weight_here * fade) OVER earlier AS weight,
        sum(said_here * fade) OVER earlier AS valence
    FROM
    (
        SELECT
            customer_id,
            occurred_at,
            event_id,
            touchpoint,
            kind,
            toFloat64(effectiveness_weight) + ease_weight + emotion_weight AS weight_here,
            toFloat64(effectiveness_valence) * effectiveness_weight + toFloat64(ease_valence) * ease_weight
                + toFloat64(emotion_valence) * emotion_weight AS said_here,
            max(toFloat64(toUnixTimestamp64Micro(occurred_at))) OVER () AS latest
        FROM touchstone.touchpoints_once
        WHERE customer_id = {customer:String} AND effectiveness_weight + ease_weight + emotion_weight > 0
    )
    WINDOW earlier AS (ORDER BY occurred_at, event_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
ORDER BY occurred_at
COMMENT 'One customer''s score over time: SELECT * FROM score_history(customer = ''ada'')';
