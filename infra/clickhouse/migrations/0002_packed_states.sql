-- The state's numbers and sets as three columns: a look-up or a merge moves three values instead of sixty. What was a
-- column before is worked out from them when it is read. docs/adr/0004-clickhouse-tables.md has the figures.
-- Until the tables are exchanged nothing changes for anybody; interrupted, all of it is simply run again, as the columns
-- have the same names in both.

DROP TABLE IF EXISTS touchstone.customer_state_packed SYNC;

CREATE TABLE IF NOT EXISTS touchstone.customer_state_packed
(
    customer_id String COMMENT 'Whose state this is',
    log_partition UInt16 ALIAS packed_ints[1] COMMENT 'The partition this customer lives in',
    log_offset Int64 COMMENT 'Offset of the last event folded in; also the row''s version: the highest wins',
    updated_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[3], 'UTC') COMMENT 'received_at of that event',
    effectiveness_fast_w Float64 ALIAS packed_floats[1] COMMENT 'Sum of weights for effectiveness, fast half-life, as of last_event_at',
    effectiveness_fast_s Float64 ALIAS packed_floats[2] COMMENT 'Sum of weight x valence for effectiveness, fast half-life, as of last_event_at',
    effectiveness_fast_q Float64 ALIAS packed_floats[3] COMMENT 'Sum of weight x valence squared for effectiveness, fast half-life, as of last_event_at',
    effectiveness_slow_w Float64 ALIAS packed_floats[4] COMMENT 'Sum of weights for effectiveness, slow half-life, as of last_event_at',
    effectiveness_slow_s Float64 ALIAS packed_floats[5] COMMENT 'Sum of weight x valence for effectiveness, slow half-life, as of last_event_at',
    effectiveness_slow_q Float64 ALIAS packed_floats[6] COMMENT 'Sum of weight x valence squared for effectiveness, slow half-life, as of last_event_at',
    ease_fast_w Float64 ALIAS packed_floats[7] COMMENT 'Sum of weights for ease, fast half-life, as of last_event_at',
    ease_fast_s Float64 ALIAS packed_floats[8] COMMENT 'Sum of weight x valence for ease, fast half-life, as of last_event_at',
    ease_fast_q Float64 ALIAS packed_floats[9] COMMENT 'Sum of weight x valence squared for ease, fast half-life, as of last_event_at',
    ease_slow_w Float64 ALIAS packed_floats[10] COMMENT 'Sum of weights for ease, slow half-life, as of last_event_at',
    ease_slow_s Float64 ALIAS packed_floats[11] COMMENT 'Sum of weight x valence for ease, slow half-life, as of last_event_at',
    ease_slow_q Float64 ALIAS packed_floats[12] COMMENT 'Sum of weight x valence squared for ease, slow half-life, as of last_event_at',
    emotion_fast_w Float64 ALIAS packed_floats[13] COMMENT 'Sum of weights for emotion, fast half-life, as of last_event_at',
    emotion_fast_s Float64 ALIAS packed_floats[14] COMMENT 'Sum of weight x valence for emotion, fast half-life, as of last_event_at',
    emotion_fast_q Float64 ALIAS packed_floats[15] COMMENT 'Sum of weight x valence squared for emotion, fast half-life, as of last_event_at',
    emotion_slow_w Float64 ALIAS packed_floats[16] COMMENT 'Sum of weights for emotion, slow half-life, as of last_event_at',
    emotion_slow_s Float64 ALIAS packed_floats[17] COMMENT 'Sum of weight x valence for emotion, slow half-life, as of last_event_at',
    emotion_slow_q Float64 ALIAS packed_floats[18] COMMENT 'Sum of weight x valence squared for emotion, slow half-life, as of last_event_at',
    worst_severity Float64 ALIAS packed_floats[19] COMMENT 'Weight x badness of the worst recent moment, as of worst_at; halves every slow half-life',
    last_valence Float64 ALIAS packed_floats[20] COMMENT 'Valence of the last felt moment, mean over its dimensions',
    spend_fast Float64 ALIAS packed_floats[21] COMMENT 'Net spend in currency units, fast half-life, as of last_event_at',
    spend_slow Float64 ALIAS packed_floats[22] COMMENT 'Net spend in currency units, slow half-life, as of last_event_at',
    survey_load Float64 ALIAS packed_floats[23] COMMENT 'Surveys sent, slow half-life, as of last_event_at',
    risk Float64 ALIAS packed_floats[24] COMMENT 'Loyalty risk when last judged; the view customer_scores has it as of now',
    events UInt32 ALIAS packed_ints[4] COMMENT 'Events folded in, without reviews',
    felt UInt32 ALIAS packed_ints[5] COMMENT 'Events among them that said how it felt',
    activities UInt32 ALIAS packed_ints[6] COMMENT 'Behaviours that count as coming back',
    surveys_sent UInt32 ALIAS packed_ints[7] COMMENT 'Surveys sent to the customer',
    survey_responses UInt32 ALIAS packed_ints[8] COMMENT 'Surveys answered',
    complaints_opened UInt32 ALIAS packed_ints[9] COMMENT 'Complaints opened',
    complaints_resolved UInt32 ALIAS packed_ints[10] COMMENT 'Complaints resolved',
    spend_micros Int64 ALIAS packed_ints[11] COMMENT 'Net spend ever, millionths of the currency''s unit',
    first_event_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[12], 'UTC') COMMENT 'occurred_at of the earliest event',
    last_event_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[13], 'UTC') COMMENT 'occurred_at of the latest event: the reference time of all decaying sums',
    worst_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[14], 'UTC') COMMENT 'When the worst recent moment happened',
    worst_touchpoint LowCardinality(String) COMMENT 'Where the worst recent moment happened',
    last_felt_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[16], 'UTC') COMMENT 'When the last felt moment happened',
    last_touchpoint LowCardinality(String) COMMENT 'Where the last felt moment happened',
    last_activity_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[18], 'UTC') COMMENT 'When the customer last came back',
    last_feedback_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[19], 'UTC') COMMENT 'Latest unhappy answer or complaint',
    last_follow_up_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[20], 'UTC') COMMENT 'Latest follow-up by us',
    last_cancellation_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[21], 'UTC') COMMENT 'Latest cancellation',
    last_commitment_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[22], 'UTC') COMMENT 'Latest renewal, subscription or purchase',
    active_days UInt16 ALIAS packed_ints[23] COMMENT 'Distinct days in activity_days',
    first_active_day UInt16 ALIAS packed_ints[24] COMMENT 'Earliest of them, days since 1970',
    open_complaints UInt16 ALIAS packed_ints[25] COMMENT 'Cases in cases that are not resolved',
    open_complaint_since DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[26], 'UTC') COMMENT 'When the oldest of them was opened, to the second',
    band LowCardinality(String) ALIAS ['low', 'elevated', 'high'][packed_ints[27] + 1] COMMENT 'Risk band when last judged: low, elevated, high',
    band_since DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[28], 'UTC') COMMENT 'When the customer entered that band',
    judged_at DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(packed_ints[29], 'UTC') COMMENT 'received_at of the event at which risk was last judged',
    model_version LowCardinality(String) COMMENT 'Risk model used for that judgement',
    activity_days FixedString(64) ALIAS toFixedString(substring(set_bytes, 1, 64), 64) COMMENT 'Latest days with activity: little-endian UInt16 days since 1970, ascending, zeros first',
    cases FixedString(32) ALIAS toFixedString(substring(set_bytes, 65, 32), 32) COMMENT 'Latest cases: UInt64 of second << 32 | hash31 << 1 | resolved',
    recent_ids FixedString(128) ALIAS toFixedString(substring(set_bytes, 97, 128), 128) COMMENT 'Latest event ids: UInt64 of second << 32 | hash32',
    ids_horizon_s UInt32 ALIAS packed_ints[31] COMMENT 'Latest second that ever fell out of recent_ids; older events are looked up',
    float_bytes FixedString(192) COMMENT 'The numbers that are no integers, as the worker keeps them',
    int_bytes FixedString(248) COMMENT 'The integers and times, as the worker keeps them',
    set_bytes FixedString(224) COMMENT 'activity_days, cases and recent_ids, one after another',
    packed_floats Array(Float64) ALIAS reinterpret(float_bytes, 'Array(Float64)') COMMENT 'float_bytes as numbers',
    packed_ints Array(Int64) ALIAS reinterpret(int_bytes, 'Array(Int64)') COMMENT 'int_bytes as numbers; times in UTC microseconds'
)
ENGINE = ReplacingMergeTree(log_offset)
ORDER BY customer_id
SETTINGS
    index_granularity = 256,
    merge_selector_base = 40,
    non_replicated_deduplication_window = 10000
COMMENT 'Rolling state of each customer: sums that decay, counts, latest moments; the row of the highest log_offset is the customer''s';

INSERT INTO touchstone.customer_state_packed (customer_id, log_offset, worst_touchpoint, last_touchpoint, model_version, float_bytes, int_bytes, set_bytes)
SELECT
    customer_id,
    log_offset,
    worst_touchpoint,
    last_touchpoint,
    model_version,
    concat(
        reinterpretAsFixedString(toFloat64(effectiveness_fast_w)),
        reinterpretAsFixedString(toFloat64(effectiveness_fast_s)),
        reinterpretAsFixedString(toFloat64(effectiveness_fast_q)),
        reinterpretAsFixedString(toFloat64(effectiveness_slow_w)),
        reinterpretAsFixedString(toFloat64(effectiveness_slow_s)),
        reinterpretAsFixedString(toFloat64(effectiveness_slow_q)),
        reinterpretAsFixedString(toFloat64(ease_fast_w)),
        reinterpretAsFixedString(toFloat64(ease_fast_s)),
        reinterpretAsFixedString(toFloat64(ease_fast_q)),
        reinterpretAsFixedString(toFloat64(ease_slow_w)),
        reinterpretAsFixedString(toFloat64(ease_slow_s)),
        reinterpretAsFixedString(toFloat64(ease_slow_q)),
        reinterpretAsFixedString(toFloat64(emotion_fast_w)),
        reinterpretAsFixedString(toFloat64(emotion_fast_s)),
        reinterpretAsFixedString(toFloat64(emotion_fast_q)),
        reinterpretAsFixedString(toFloat64(emotion_slow_w)),
        reinterpretAsFixedString(toFloat64(emotion_slow_s)),
        reinterpretAsFixedString(toFloat64(emotion_slow_q)),
        reinterpretAsFixedString(toFloat64(worst_severity)),
        reinterpretAsFixedString(toFloat64(last_valence)),
        reinterpretAsFixedString(toFloat64(spend_fast)),
        reinterpretAsFixedString(toFloat64(spend_slow)),
        reinterpretAsFixedString(toFloat64(survey_load)),
        reinterpretAsFixedString(toFloat64(risk))
    ),
    concat(
        reinterpretAsFixedString(toInt64(log_partition)),
        reinterpretAsFixedString(toInt64(log_offset)),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(updated_at))),
        reinterpretAsFixedString(toInt64(events)),
        reinterpretAsFixedString(toInt64(felt)),
        reinterpretAsFixedString(toInt64(activities)),
        reinterpretAsFixedString(toInt64(surveys_sent)),
        reinterpretAsFixedString(toInt64(survey_responses)),
        reinterpretAsFixedString(toInt64(complaints_opened)),
        reinterpretAsFixedString(toInt64(complaints_resolved)),
        reinterpretAsFixedString(toInt64(spend_micros)),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(first_event_at))),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(last_event_at))),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(worst_at))),
        reinterpretAsFixedString(toInt64(0)),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(last_felt_at))),
        reinterpretAsFixedString(toInt64(0)),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(last_activity_at))),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(last_feedback_at))),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(last_follow_up_at))),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(last_cancellation_at))),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(last_commitment_at))),
        reinterpretAsFixedString(toInt64(active_days)),
        reinterpretAsFixedString(toInt64(first_active_day)),
        reinterpretAsFixedString(toInt64(open_complaints)),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(open_complaint_since))),
        reinterpretAsFixedString(toInt64(indexOf(['low', 'elevated', 'high'], toString(band)) - 1)),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(band_since))),
        reinterpretAsFixedString(toInt64(toUnixTimestamp64Micro(judged_at))),
        reinterpretAsFixedString(toInt64(0)),
        reinterpretAsFixedString(toInt64(ids_horizon_s))
    ),
    concat(
        toFixedString(activity_days, 64),
        toFixedString(cases, 32),
        toFixedString(recent_ids, 128)
    )
FROM touchstone.customer_state FINAL;

EXCHANGE TABLES touchstone.customer_state_packed AND touchstone.customer_state;

DROP TABLE IF EXISTS touchstone.customer_state_packed SYNC;
