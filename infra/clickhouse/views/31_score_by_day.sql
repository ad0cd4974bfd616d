-- How the experience of all customers was read, day by day. The days' readings stand as they are: nothing fades here.

CREATE OR REPLACE VIEW touchstone.score_by_day
(
    day Date COMMENT 'Day of the event, UTC',
    events UInt64 COMMENT 'Events that said how it felt',
    customers UInt64 COMMENT 'Customers behind them',
    score Float64 COMMENT 'Mean reading of the day on the scale of 0 to 100',
    effectiveness Nullable(Float64) COMMENT 'Of the dimension: did it work; empty when nothing was said on it',
    ease Nullable(Float64) COMMENT 'Of the dimension: what did it take',
    emotion Nullable(Float64) COMMENT 'Of the dimension: how did it feel',
    bad_share Float64 COMMENT 'Share of events read as bad on the whole, 0 to 1'
)
AS
SELECT
    toDate(occurred_at) AS day,
    count() AS events,
    uniqExact(customer_id) AS customers,
    50 + 50 * sum(said) / sum(weight) AS score,
    50 + 50 * sum(effectiveness_valence * effectiveness_weight) / nullIf(sum(effectiveness_weight), 0) AS effectiveness,
    50 + 50 * sum(ease_valence * ease_weight) / nullIf(sum(ease_weight), 0) AS ease,
    50 + 50 * sum(emotion_valence * emotion_weight) / nullIf(sum(emotion_weight), 0) AS emotion,
    countIf(said < 0) / count() AS bad_share
FROM
(
    SELECT
        *,
        effectiveness_weight + ease_weight + emotion_weight AS weight,
        effectiveness_valence * effectiveness_weight + ease_valence * ease_weight + emotion_valence * emotion_weight AS said
    FROM touchstone.touchpoints_once
)
WHERE weight > 0
GROUP BY day
ORDER BY day
COMMENT 'How the experience of all customers was read, day by day';
