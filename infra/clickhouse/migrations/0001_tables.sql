-- The tables of schemas/tables.py. Choices of keys, partitions, codecs and settings: docs/adr/0004-clickhouse-tables.md.

CREATE TABLE IF NOT EXISTS touchstone.touchpoints
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
ENGINE = ReplacingMergeTree
PARTITION BY toYear(occurred_at)
ORDER BY (customer_id, occurred_at, event_id)
SETTINGS
    merge_selector_base = 20,
    non_replicated_deduplication_window = 10000
COMMENT 'Every accepted event, with how it was read; read it through the view touchpoints_once';

CREATE TABLE IF NOT EXISTS touchstone.customer_state
(
    customer_id String COMMENT 'Whose state this is',
    log_partition UInt16 COMMENT 'The partition this customer lives in',
    log_offset Int64 COMMENT 'Offset of the last event folded in; also the row''s version: the highest wins',
    updated_at DateTime64(6, 'UTC') COMMENT 'received_at of that event',
    effectiveness_fast_w Float64 COMMENT 'Sum of weights for effectiveness, fast half-life, as of last_event_at',
    effectiveness_fast_s Float64 COMMENT 'Sum of weight x valence for effectiveness, fast half-life, as of last_event_at',
    effectiveness_fast_q Float64 COMMENT 'Sum of weight x valence squared for effectiveness, fast half-life, as of last_event_at',
    effectiveness_slow_w Float64 COMMENT 'Sum of weights for effectiveness, slow half-life, as of last_event_at',
    effectiveness_slow_s Float64 COMMENT 'Sum of weight x valence for effectiveness, slow half-life, as of last_event_at',
    effectiveness_slow_q Float64 COMMENT 'Sum of weight x valence squared for effectiveness, slow half-life, as of last_event_at',
    ease_fast_w Float64 COMMENT 'Sum of weights for ease, fast half-life, as of last_event_at',
    ease_fast_s Float64 COMMENT 'Sum of weight x valence for ease, fast half-life, as of last_event_at',
    ease_fast_q Float64 COMMENT 'Sum of weight x valence squared for ease, fast half-life, as of last_event_at',
    ease_slow_w Float64 COMMENT 'Sum of weights for ease, slow half-life, as of last_event_at',
    ease_slow_s Float64 COMMENT 'Sum of weight x valence for ease, slow half-life, as of last_event_at',
    ease_slow_q Float64 COMMENT 'Sum of weight x valence squared for ease, slow half-life, as of last_event_at',
    emotion_fast_w Float64 COMMENT 'Sum of weights for emotion, fast half-life, as of last_event_at',
    emotion_fast_s Float64 COMMENT 'Sum of weight x valence for emotion, fast half-life, as of last_event_at',
    emotion_fast_q Float64 COMMENT 'Sum of weight x valence squared for emotion, fast half-life, as of last_event_at',
    emotion_slow_w Float64 COMMENT 'Sum of weights for emotion, slow half-life, as of last_event_at',
    emotion_slow_s Float64 COMMENT 'Sum of weight x valence for emotion, slow half-life, as of last_event_at',
    emotion_slow_q Float64 COMMENT 'Sum of weight x valence squared for emotion, slow half-life, as of last_event_at',
    worst_severity Float64 COMMENT 'Weight x badness of the worst recent moment, as of worst_at; halves every slow half-life',
    last_valence Float64 COMMENT 'Valence of the last felt moment, mean over its dimensions',
    spend_fast Float64 COMMENT 'Net spend in currency units, fast half-life, as of last_event_at',
    spend_slow Float64 COMMENT 'Net spend in currency units, slow half-life, as of last_event_at',
    survey_load Float64 COMMENT 'Surveys sent, slow half-life, as of last_event_at',
    risk Float64 COMMENT 'Loyalty risk when last judged; the view customer_scores has it as of now',
    events UInt32 COMMENT 'Events folded in, without reviews',
    felt UInt32 COMMENT 'Events among them that said how it felt',
    activities UInt32 COMMENT 'Behaviours that count as coming back',
    surveys_sent UInt32 COMMENT 'Surveys sent to the customer',
    survey_responses UInt32 COMMENT 'Surveys answered',
    complaints_opened UInt32 COMMENT 'Complaints opened',
    complaints_resolved UInt32 COMMENT 'Complaints resolved',
    spend_micros Int64 COMMENT 'Net spend ever, millionths of the currency''s unit',
    first_event_at DateTime64(6, 'UTC') COMMENT 'occurred_at of the earliest event',
    last_event_at DateTime64(6, 'UTC') COMMENT 'occurred_at of the latest event: the reference time of all decaying sums',
    worst_at DateTime64(6, 'UTC') COMMENT 'When the worst recent moment happened',
    worst_touchpoint LowCardinality(String) COMMENT 'Where the worst recent moment happened',
    last_felt_at DateTime64(6, 'UTC') COMMENT 'When the last felt moment happened',
    last_touchpoint LowCardinality(String) COMMENT 'Where the last felt moment happened',
    last_activity_at DateTime64(6, 'UTC') COMMENT 'When the customer last came back',
    last_feedback_at DateTime64(6, 'UTC') COMMENT 'Latest unhappy answer or complaint',
    last_follow_up_at DateTime64(6, 'UTC') COMMENT 'Latest follow-up by us',
    last_cancellation_at DateTime64(6, 'UTC') COMMENT 'Latest cancellation',
    last_commitment_at DateTime64(6, 'UTC') COMMENT 'Latest renewal, subscription or purchase',
    active_days UInt16 COMMENT 'Distinct days in activity_days',
    first_active_day UInt16 COMMENT 'Earliest of them, days since 1970',
    open_complaints UInt16 COMMENT 'Cases in cases that are not resolved',
    open_complaint_since DateTime64(6, 'UTC') COMMENT 'When the oldest of them was opened, to the second',
    band LowCardinality(String) COMMENT 'Risk band when last judged: low, elevated, high',
    band_since DateTime64(6, 'UTC') COMMENT 'When the customer entered that band',
    judged_at DateTime64(6, 'UTC') COMMENT 'received_at of the event at which risk was last judged',
    model_version LowCardinality(String) COMMENT 'Risk model used for that judgement',
    activity_days FixedString(64) COMMENT 'Latest days with activity: little-endian UInt16 days since 1970, ascending, zeros first',
    cases FixedString(32) COMMENT 'Latest cases: UInt64 of second << 32 | hash31 << 1 | resolved',
    recent_ids FixedString(128) COMMENT 'Latest event ids: UInt64 of second << 32 | hash32',
    ids_horizon_s UInt32 COMMENT 'Latest second that ever fell out of recent_ids; older events are looked up'
)
ENGINE = ReplacingMergeTree(log_offset)
ORDER BY customer_id
SETTINGS
    index_granularity = 512,
    min_bytes_for_wide_part = 1073741824,
    merge_selector_base = 40,
    non_replicated_deduplication_window = 10000
COMMENT 'Rolling state of each customer: sums that decay, counts, latest moments; the row of the highest log_offset is the customer''s';

CREATE TABLE IF NOT EXISTS touchstone.loyalty_signals
(
    signal_id FixedString(16) COMMENT 'Identity, made from customer, partition and offset',
    customer_id String COMMENT 'Whose risk crossed a level',
    judged_at DateTime64(6, 'UTC') COMMENT 'received_at of the event that made it cross',
    from_band LowCardinality(String) COMMENT 'Band before',
    to_band LowCardinality(String) COMMENT 'Band after',
    risk Float64 COMMENT 'P(does not come back within the horizon), 0 to 1',
    score Float64 COMMENT 'Experience score at that moment, 0 to 100',
    trend Float64 COMMENT 'Fast minus slow score at that moment',
    confidence Float64 COMMENT 'Weight of evidence behind the score, 0 to 1',
    value_at_risk Float64 COMMENT 'Risk x expected spend over the horizon, currency units',
    reasons Array(Tuple(reason String, log_odds Float64)) COMMENT 'Signed contributions, largest first',
    model_version LowCardinality(String) COMMENT 'Risk model that judged',
    log_partition UInt16 COMMENT 'Partition of the topic touchpoints',
    log_offset Int64 COMMENT 'Offset of the event that made it cross'
)
ENGINE = ReplacingMergeTree
ORDER BY (customer_id, judged_at, signal_id)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Crossings of a risk level, with reasons';

CREATE TABLE IF NOT EXISTS touchstone.rejected_events
(
    stage LowCardinality(String) COMMENT 'ingest: refused at the edge; log: a record that could not be taken',
    log_partition UInt16 COMMENT 'Where it stands: in topic rejected (stage ingest) or touchpoints (stage log)',
    log_offset Int64 COMMENT 'Offset in that partition',
    rejected_at DateTime64(6, 'UTC') COMMENT 'When it was received',
    reason LowCardinality(String) COMMENT 'Closed vocabulary, see docs',
    field String COMMENT 'The field at fault, if one is',
    detail String COMMENT 'What is wrong and what to do',
    source String COMMENT 'Sending system, if it could be read',
    customer_id String COMMENT 'Customer, if it could be read',
    payload String COMMENT 'The raw bytes, cut at 64 KiB'
)
ENGINE = ReplacingMergeTree
ORDER BY (stage, log_partition, log_offset)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'What was refused, why, and its bytes';

CREATE TABLE IF NOT EXISTS touchstone.repeated_events
(
    log_partition UInt16 COMMENT 'Partition of the topic touchpoints',
    log_offset Int64 COMMENT 'Offset of the repeat',
    received_at DateTime64(6, 'UTC') COMMENT 'When the repeat was received',
    customer_id String COMMENT 'Customer',
    event_id FixedString(16) COMMENT 'The id that came again',
    conflict Bool COMMENT 'True if the content differed from the first; the first one stands'
)
ENGINE = ReplacingMergeTree
ORDER BY (log_partition, log_offset)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Events that came again and were not counted again';

CREATE TABLE IF NOT EXISTS touchstone.models
(
    version String COMMENT 'Name of the risk model',
    activated_at DateTime64(6, 'UTC') COMMENT 'The latest activated model judges',
    parameters String COMMENT 'JSON: every number the risk formula uses',
    report String COMMENT 'JSON: data span, counts, validation figures; empty for documented defaults'
)
ENGINE = ReplacingMergeTree(activated_at)
ORDER BY version
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Risk models; the latest activated one judges';
