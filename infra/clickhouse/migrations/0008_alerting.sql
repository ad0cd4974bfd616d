-- What alerting decides, whom it calls, and how the calls fare.

CREATE TABLE IF NOT EXISTS touchstone.alert_rules
(
    rules_version String COMMENT 'Which reading of the rules file: follows from what it says',
    loaded_at DateTime64(6, 'UTC') COMMENT 'When alerting began to decide by it',
    rule LowCardinality(String) COMMENT 'Name of the rule',
    severity LowCardinality(String) COMMENT 'critical, error, warning or info',
    owner LowCardinality(String) COMMENT 'Who answers for its cases',
    cost_of_contact Float64 COMMENT 'What one contact costs, currency units',
    hold_out Float64 COMMENT 'Share of alerts that is recorded and not sent, 0 to 1',
    definition String COMMENT 'The whole rule as JSON; never a secret'
)
ENGINE = ReplacingMergeTree
ORDER BY (rules_version, rule)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Rules of alerting, one row for each rule of each reading of the rules file';

CREATE TABLE IF NOT EXISTS touchstone.alert_states
(
    rule LowCardinality(String) COMMENT 'Name of the rule',
    customer_id String COMMENT 'The customer',
    phase LowCardinality(String) COMMENT 'idle, pending or firing',
    since DateTime64(6, 'UTC') COMMENT 'When the phase began, in the time of the log',
    alert_id String COMMENT 'Of the alert that fires or fired last; empty: none ever',
    fired_at DateTime64(6, 'UTC') COMMENT 'When it fired last; 1970 means never',
    resolved_at DateTime64(6, 'UTC') COMMENT 'When it resolved last; 1970 means never',
    log_partition UInt16 COMMENT 'Partition of the topic touchpoints',
    log_offset Int64 COMMENT 'Offset of the event behind the last signal that was taken'
)
ENGINE = ReplacingMergeTree(log_offset)
ORDER BY (customer_id, rule)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Where each rule stands with each customer it ever looked at closer';

CREATE TABLE IF NOT EXISTS touchstone.alert_log
(
    alert_id String COMMENT 'Follows from the rule and the place in the log: the same log gives the same ids',
    turn LowCardinality(String) COMMENT 'firing or resolved',
    rule LowCardinality(String) COMMENT 'Name of the rule',
    rules_version String COMMENT 'Reading of the rules file that decided, as in alert_rules',
    customer_id String COMMENT 'The customer; empty where a part of the company is meant',
    subject String COMMENT 'What it is about where it is no customer, else the customer',
    at DateTime64(6, 'UTC') COMMENT 'When this turn was decided, in the time of the log',
    fired_at DateTime64(6, 'UTC') COMMENT 'When the alert fired, in the time of the log',
    severity LowCardinality(String) COMMENT 'critical, error, warning or info',
    owner LowCardinality(String) COMMENT 'Who answers for the case at first',
    due_at DateTime64(6, 'UTC') COMMENT 'When the case should have been answered; 1970 means no time is set',
    summary String COMMENT 'What is the matter, in a sentence',
    risk Float64 COMMENT 'P(does not come back within the horizon) then, 0 to 1',
    band LowCardinality(String) COMMENT 'Risk band then',
    score Float64 COMMENT 'Experience score then, 0 to 100',
    value_at_risk Float64 COMMENT 'Risk x expected spend then, currency units',
    segment String COMMENT 'Segment then; empty: none known',
    facts String COMMENT 'JSON: every field that conditions can ask for, as it was',
    reasons Array(Tuple(reason String, log_odds Float64)) COMMENT 'Signed contributions, largest first',
    signal_id String COMMENT 'Signal behind it, hexadecimal; empty where a part of the company is meant',
    log_partition UInt16 COMMENT 'Partition of the topic touchpoints',
    log_offset Int64 COMMENT 'Offset of the event behind the signal',
    fate LowCardinality(String) COMMENT 'waiting, called, over_budget, held_out or untold',
    version UInt64 COMMENT 'The row of the highest one stands'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (alert_id, turn)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Turns of alerts: fired, resolved, and what became of each';

CREATE TABLE IF NOT EXISTS touchstone.alert_calls
(
    call_id String COMMENT 'The id that receivers get, the same with each attempt',
    turn LowCardinality(String) COMMENT 'firing or resolved',
    about String COMMENT 'Of a resolved notice: the call whose alerts have resolved',
    rule LowCardinality(String) COMMENT 'Name of the rule',
    severity LowCardinality(String) COMMENT 'critical, error, warning or info',
    receiver LowCardinality(String) COMMENT 'Who is called, by the name in the rules file',
    made_at DateTime64(6, 'UTC') COMMENT 'When the call was decided',
    not_before DateTime64(6, 'UTC') COMMENT 'End of quiet hours it waits for; 1970: it goes at once',
    alert_ids Array(String) COMMENT 'Alerts that it tells of',
    document String COMMENT 'JSON: all that it says; every payload is made from it'
)
ENGINE = ReplacingMergeTree
ORDER BY call_id
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Calls to receivers, once made never changed';

CREATE TABLE IF NOT EXISTS touchstone.alert_attempts
(
    call_id String COMMENT 'The call',
    number UInt32 COMMENT 'From 1',
    receiver LowCardinality(String) COMMENT 'Who was called',
    attempted_at DateTime64(6, 'UTC') COMMENT 'When the attempt began',
    took_us UInt64 COMMENT 'How long it took, microseconds',
    outcome LowCardinality(String) COMMENT 'delivered, failed (tried again) or dead (given up)',
    status UInt16 COMMENT 'HTTP status; 0: none',
    detail String COMMENT 'What went wrong, and what to do',
    next_at DateTime64(6, 'UTC') COMMENT 'When it is tried again; 1970: not'
)
ENGINE = ReplacingMergeTree
ORDER BY (call_id, number)
SETTINGS
    non_replicated_deduplication_window = 1000
COMMENT 'Attempts at delivering calls';
