-- Which risk model judges from where in the log on: one row for each record of kind model_activated. The log is where this
-- is decided; workers look here for what was activated before the place at which they begin. docs/adr/0008 tells why.

CREATE TABLE IF NOT EXISTS touchstone.model_activations
(
    log_partition UInt16 COMMENT 'Partition of the topic touchpoints',
    log_offset Int64 COMMENT 'Offset of the activation: the model judges what follows',
    activated_at DateTime64(6, 'UTC') COMMENT 'received_at of the activation',
    version String COMMENT 'Name of the risk model',
    parameters String COMMENT 'JSON: every number the risk formula uses'
)
ENGINE = ReplacingMergeTree
ORDER BY (log_partition, log_offset)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Which risk model judges from which place in the log on';
