-- Where customers feel well and where they do not. A valence counts as much as its weight; below 0 is bad.

CREATE OR REPLACE VIEW touchstone.felt_touchpoints
(
    touchpoint LowCardinality(String) COMMENT 'Where it happened, dotted name',
    channel LowCardinality(String) COMMENT 'How it reached the customer; empty when unknown',
    events UInt64 COMMENT 'Events in the last 90 days, felt or not',
    customers UInt64 COMMENT 'Customers among them',
    felt_events UInt64 COMMENT 'Events that said how it felt',
    effectiveness Nullable(Float64) COMMENT 'Mean valence, did it work: -1 worst to 1 best; NULL when no event said',
    ease Nullable(Float64) COMMENT 'Mean valence, what it took: -1 worst to 1 best; NULL when no event said',
    emotion Nullable(Float64) COMMENT 'Mean valence, how it felt: -1 worst to 1 best; NULL when no event said',
    bad_share Nullable(Float64) COMMENT 'Share of the felt events whose mean valence is below 0; NULL when none was felt',
    last_event_at DateTime64(6, 'UTC') COMMENT 'When the latest of them happened'
)
AS SELECT
    touchpoint,
    channel,
    count() AS events,
    uniqExact(customer_id) AS customers,
    countIf(weight > 0) AS felt_events,
    if(sum(effectiveness_weight) > 0, sum(effectiveness_valence * effectiveness_weight) / sum(effectiveness_weight), NULL)
        AS effectiveness,
    if(sum(ease_weight) > 0, sum(ease_valence * ease_weight) / sum(ease_weight), NULL) AS ease,
    if(sum(emotion_weight) > 0, sum(emotion_valence * emotion_weight) / sum(emotion_weight), NULL) AS emotion,
    if(felt_events > 0, countIf(weight > 0 AND weighed < 0) / felt_events, NULL) AS bad_share,
    max(occurred_at) AS last_event_at
FROM
(
    SELECT
        *,
        effectiveness_weight + ease_weight + emotion_weight AS weight,
        effectiveness_valence * effectiveness_weight + ease_valence * ease_weight + emotion_valence * emotion_weight
            AS weighed
    FROM touchstone.touchpoints_once
    WHERE occurred_at >= now() - INTERVAL 90 DAY AND occurred_at <= now() AND kind != 'case_step'
)
GROUP BY touchpoint, channel
COMMENT 'Touchpoints by how they felt to customers, last 90 days';
