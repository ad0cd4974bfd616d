-- Every event once. Background merges remove repeated rows at a time of their own choosing; FINAL does it now.
-- Reviews are left out: they are Touchstone's own clock, nothing a customer lived through. Steps
-- of cases (kind case_step) stay, so that a customer's timeline shows them; they have no readings.

CREATE OR REPLACE VIEW touchstone.touchpoints_once
(
    customer_id String COMMENT 'Whose experience this is',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When it happened',
    event_id FixedString(16) COMMENT 'Identity, 16 bytes of a UUID; UUIDNumToString(event_id) shows it',
    received_at DateTime64(6, 'UTC') COMMENT 'When ingest took it in',
    source LowCardinality(String) COMMENT 'The system that sent it',
    kind LowCardinality(String) COMMENT 'What sort of event it is',
    touchpoint LowCardinality(String) COMMENT 'Where it happened, dotted name',
    channel LowCardinality(String) COMMENT 'How it reached the customer; empty when unknown',
    journey_id String COMMENT 'The journey it is a step of; empty when none',
    journey LowCardinality(String) COMMENT 'What sort of journey: onboarding, claim; empty when not told',
    outcome LowCardinality(String) COMMENT 'succeeded, failed, abandoned, or empty',
    metric LowCardinality(String) COMMENT 'Scale of the rating, or empty',
    rating Nullable(Float64) COMMENT 'The answer on that scale',
    emotion LowCardinality(String) COMMENT 'What the customer felt, or empty',
    intensity Nullable(Float64) COMMENT 'How strongly, 0 to 1',
    confidence Nullable(Float64) COMMENT 'How sure the source is of the emotion, 0 to 1',
    amount_micros Nullable(Int64) COMMENT 'Money in millionths of the currency''s unit',
    currency LowCardinality(String) COMMENT 'ISO 4217 code, or empty',
    case_id String COMMENT 'The complaint or ticket it belongs to, or empty',
    text String COMMENT 'The customer''s own words, or empty',
    sender_event_id String COMMENT 'The sender''s id where it was no UUID, or empty',
    attributes Map(String, String) COMMENT 'Whatever else the sender wanted kept',
    effectiveness_valence Float32 COMMENT 'How it was read for effectiveness: -1 worst to 1 best',
    effectiveness_weight Float32 COMMENT 'Weight of that reading; 0 means the event says nothing on effectiveness',
    ease_valence Float32 COMMENT 'How it was read for ease: -1 worst to 1 best',
    ease_weight Float32 COMMENT 'Weight of that reading; 0 means the event says nothing on ease',
    emotion_valence Float32 COMMENT 'How it was read for emotion: -1 worst to 1 best',
    emotion_weight Float32 COMMENT 'Weight of that reading; 0 means the event says nothing on emotion',
    log_partition UInt16 COMMENT 'Partition of the topic touchpoints',
    log_offset Int64 COMMENT 'Offset in that partition'
)
AS SELECT *
FROM touchstone.touchpoints FINAL
WHERE kind != 'review_due'
COMMENT 'Every event once, without reviews';
