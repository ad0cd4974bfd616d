-- What `touchstone models check` found: a model's risks of one horizon ago, against who came back since. Of a model's rows
-- the one with the latest judged_at counts, and of these the one that was checked last.

CREATE TABLE IF NOT EXISTS touchstone.model_checks
(
    version String COMMENT 'The model that was checked',
    judged_at DateTime64(6, 'UTC') COMMENT 'The moment whose risks were looked at; what came of them is known by one horizon later',
    checked_at DateTime64(6, 'UTC') COMMENT 'When it was checked',
    horizon_days UInt16 COMMENT 'Days that customers had to come back',
    verdict LowCardinality(String) COMMENT 'holds, drifted, or too_few for a verdict',
    flattered Bool COMMENT 'True if the model has learnt from events after judged_at: the figures flatter it',
    n UInt64 COMMENT 'Customers who were looked at',
    expected Float64 COMMENT 'How many of them would not come back, by the risks',
    observed UInt64 COMMENT 'How many did not',
    allowed_low Float64 COMMENT 'From here to allowed_high observed would be no surprise',
    allowed_high Float64 COMMENT 'See allowed_low',
    spread Float64 COMMENT 'By how much periods differ here, in log-odds; widens what is allowed',
    auc Float64 COMMENT 'Chance that one who left had the higher risk than one who came',
    brier Float64 COMMENT 'Mean squared error of the risks',
    ece Float64 COMMENT 'Expected calibration error: mean over tenths of customers of |share that left - mean risk|',
    log_loss Float64 COMMENT 'Mean of -ln of the chance given to what happened'
)
ENGINE = ReplacingMergeTree
ORDER BY (version, judged_at, checked_at)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Whether risk models still hold, one row a check';
