-- What a customer lived through, readable: SELECT * FROM customer_timeline WHERE customer_id = '...' ORDER BY occurred_at.

CREATE OR REPLACE VIEW touchstone.customer_timeline
(
    customer_id String COMMENT 'Whose experience this is',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened',
    kind LowCardinality(String) COMMENT 'What sort of event it is',
    touchpoint LowCardinality(String) COMMENT 'Where it happened, dotted name',
    channel LowCardinality(String) COMMENT 'How it reached the customer; empty when unknown',
    outcome LowCardinality(String) COMMENT 'succeeded, failed, abandoned, or empty',
    metric LowCardinality(String) COMMENT 'Scale of the rating, or empty',
    rating Nullable(Float64) COMMENT 'The answer on that scale',
    emotion LowCardinality(String) COMMENT 'What the customer felt, or empty',
    amount Nullable(Float64) COMMENT 'Money in the currency''s unit, rounded to a double; amount_micros of touchpoints is exact',
    currency LowCardinality(String) COMMENT 'ISO 4217 code, or empty',
    case_id String COMMENT 'The complaint or ticket it belongs to, or empty',
    journey_id String COMMENT 'The journey it is a step of; empty when none',
    journey LowCardinality(String) COMMENT 'What sort of journey: onboarding, claim; empty when not told',
    text String COMMENT 'The customer''s own words, or empty',
    valence Nullable(Float64) COMMENT 'Mean over the dimensions it was read for, by weight: -1 worst to 1 best; NULL when it said nothing',
    weight Float64 COMMENT 'Sum of the weights of those readings',
    source LowCardinality(String) COMMENT 'The system that sent it',
    received_at DateTime64(6, 'UTC') COMMENT 'When ingest took it in',
    event_id String COMMENT 'Identity as a UUID',
    sender_event_id String COMMENT 'The sender''s id where it was no UUID, or empty'
)
AS SELECT
    customer_id,
    occurred_at,
    kind,
    touchpoint,
    channel,
    outcome,
    metric,
    rating,
    emotion,
    amount_micros / 1000000 AS amount,
    currency,
    case_id,
    journey_id,
    journey,
    text,
    if(
        weight > 0,
        (
            effectiveness_valence * effectiveness_weight
            + ease_valence * ease_weight
            + emotion_valence * emotion_weight
        ) / weight,
        NULL
    ) AS valence,
    toFloat64(effectiveness_weight) + ease_weight + emotion_weight AS weight,
    source,
    received_at,
    UUIDNumToString(touchstone.touchpoints_once.event_id) AS event_id,
    sender_event_id
FROM touchstone.touchpoints_once
COMMENT 'Events of customers in readable form';
