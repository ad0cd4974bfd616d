-- Experience that was inferred where nobody asked or nobody answered. A table of its own: nothing in it is an event, so
-- no score, signal or risk reads it. docs/inferred.md tells how it is made.

CREATE TABLE IF NOT EXISTS touchstone.inferred_experience
(
    customer_id String COMMENT 'Whose journey it is',
    journey_id String COMMENT 'The journey, as its events have it',
    journey LowCardinality(String) COMMENT 'What sort of journey: onboarding, claim; empty when not told',
    last_touchpoint LowCardinality(String) COMMENT 'Last step of it that was known by happened_at',
    happened_at DateTime64(6, 'UTC') COMMENT 'When it was asked about, or would have been; facts are those known then',
    inferred_at DateTime64(6, 'UTC') COMMENT 'When it was inferred; the latest row of a journey counts',
    asked Bool COMMENT 'True if the customer was asked and has not answered, false if nobody asked',
    chance_bad Float64 COMMENT 'Inferred chance of a bad rating, 0 to 1; nothing that was felt',
    average_chance Float64 COMMENT 'The same for the average journey learnt from; reasons lead from it to chance_bad',
    reasons Array(Tuple(reason String, log_odds Float64)) COMMENT 'Signed contributions in log-odds, largest first',
    model_version LowCardinality(String) COMMENT 'What inferred it'
)
ENGINE = ReplacingMergeTree(inferred_at)
ORDER BY (customer_id, journey_id)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Inferred experience of journeys without a rating, never counted as felt; read it through view inferred_journeys';
