CREATE TABLE IF NOT EXISTS touchstone.resent_events
(
    stage LowCardinality(String) COMMENT 'With the next two: which of rejected_events was sent again',
    log_partition UInt16 COMMENT 'Its partition there',
    log_offset Int64 COMMENT 'Its offset there',
    resent_at DateTime64(6, 'UTC') COMMENT 'When ingest accepted it; the latest time counts',
    customer_id String COMMENT 'Customer of the fixed event',
    event_id FixedString(16) COMMENT 'Identity of the fixed event, as in touchpoints',
    event String COMMENT 'The fixed event as it was sent, JSON'
)
ENGINE = ReplacingMergeTree(resent_at)
ORDER BY (stage, log_partition, log_offset)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Rejected events that were fixed and sent again';
