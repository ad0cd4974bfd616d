-- Alerts, one row each: what fired, for whom, what became of it, and whether anybody was reached.

CREATE OR REPLACE VIEW touchstone.alerts
(
    alert_id String COMMENT 'The alert; of a called one also the case',
    rule LowCardinality(String) COMMENT 'Rule that fired',
    rules_version String COMMENT 'Reading of the rules file that decided, as in alert_rules',
    customer_id String COMMENT 'The customer; empty where a part of the company is meant',
    subject String COMMENT 'What it is about where it is no customer, else the customer',
    severity LowCardinality(String) COMMENT 'critical, error, warning or info',
    owner LowCardinality(String) COMMENT 'Who answers for the case at first',
    fired_at DateTime64(6, 'UTC') COMMENT 'When it fired, in the time of the log',
    resolved_at DateTime64(6, 'UTC') COMMENT 'When the rule no longer held; 1970: it still does',
    due_at DateTime64(6, 'UTC') COMMENT 'When the case should have been answered; 1970: no time is set',
    fate LowCardinality(String) COMMENT 'waiting, called, over_budget or held_out',
    resolved_fate LowCardinality(String) COMMENT 'Of the notice that it has resolved: waiting, called, over_budget or untold; empty while it fires',
    calls UInt64 COMMENT 'Calls that tell of it, notices that it has resolved not among them',
    delivered UInt64 COMMENT 'Those of the calls that somebody received',
    delivered_at DateTime64(6, 'UTC') COMMENT 'When the first of them was received; 1970: none was',
    summary String COMMENT 'What is the matter, in a sentence',
    risk Float64 COMMENT 'P(does not come back within the horizon) when it fired, 0 to 1',
    band LowCardinality(String) COMMENT 'Risk band when it fired',
    score Float64 COMMENT 'Experience score when it fired, 0 to 100',
    value_at_risk Float64 COMMENT 'Risk x expected spend when it fired, currency units',
    segment String COMMENT 'Segment when it fired; empty: none known',
    reasons Array(Tuple(reason String, log_odds Float64)) COMMENT 'Signed contributions to the risk, largest first',
    log_partition UInt16 COMMENT 'Partition of the topic touchpoints',
    log_offset Int64 COMMENT 'Offset of the event behind the signal'
)
AS SELECT
    fired.alert_id AS alert_id,
    fired.rule AS rule,
    fired.rules_version AS rules_version,
    fired.customer_id AS customer_id,
    fired.subject AS subject,
    fired.severity AS severity,
    fired.owner AS owner,
    fired.fired_at AS fired_at,
    over.resolved_at AS resolved_at,
    fired.due_at AS due_at,
    fired.fate AS fate,
    over.resolved_fate AS resolved_fate,
    told.calls AS calls,
    told.delivered AS delivered,
    told.delivered_at AS delivered_at,
    fired.summary AS summary,
    fired.risk AS risk,
    fired.band AS band,
    fired.score AS score,
    fired.value_at_risk AS value_at_risk,
    fired.segment AS segment,
    fired.reasons AS reasons,
    fired.log_partition AS log_partition,
    fired.log_offset AS log_offset
FROM (SELECT * FROM touchstone.alert_log FINAL WHERE turn = 'firing') AS fired
LEFT JOIN
(
    SELECT alert_id, at AS resolved_at, fate AS resolved_fate FROM touchstone.alert_log FINAL WHERE turn = 'resolved'
) AS over ON over.alert_id = fired.alert_id
LEFT JOIN
(
    SELECT
        alert_id,
        count() AS calls,
        countIf(reached_at > 0) AS delivered,
        minIf(reached_at, reached_at > 0) AS delivered_at
    FROM
    (
        SELECT call_id, arrayJoin(alert_ids) AS alert_id FROM touchstone.alert_calls FINAL WHERE turn = 'firing'
    ) AS call
    LEFT JOIN
    (
        SELECT call_id, min(attempted_at) AS reached_at
        FROM touchstone.alert_attempts FINAL
        WHERE outcome = 'delivered'
        GROUP BY call_id
    ) AS reached ON reached.call_id = call.call_id
    GROUP BY alert_id
) AS told ON told.alert_id = fired.alert_id
COMMENT 'Alerts of rules: fired, resolved, what became of them and who was reached';
