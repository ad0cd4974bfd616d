-- A case is an alert about a customer that somebody was called for. Its steps are events of the customer (kind case_step).

CREATE OR REPLACE VIEW touchstone.cases
(
    case_id String COMMENT 'The alert that opened it',
    customer_id String COMMENT 'The customer',
    rule LowCardinality(String) COMMENT 'Rule that fired',
    severity LowCardinality(String) COMMENT 'critical, error, warning or info',
    owner String COMMENT 'Who answers for it now',
    state LowCardinality(String) COMMENT 'open, acknowledged or closed',
    opened_at DateTime64(6, 'UTC') COMMENT 'When the alert fired',
    due_at DateTime64(6, 'UTC') COMMENT 'When it should be closed; 1970: no time is set',
    overdue Bool COMMENT 'Whether that time is over and it is not closed',
    acknowledged_at DateTime64(6, 'UTC') COMMENT 'When somebody took it on; 1970: nobody did',
    acknowledged_by String COMMENT 'Who took it on',
    closed_at DateTime64(6, 'UTC') COMMENT 'When it was closed; 1970: it is not',
    closed_by String COMMENT 'Who closed it',
    outcome LowCardinality(String) COMMENT 'How it ended: succeeded, failed or abandoned; empty while it is not closed',
    notes UInt64 COMMENT 'Steps that came with a note, or were nothing but one',
    assignments UInt64 COMMENT 'How often it was given to somebody',
    resolved_at DateTime64(6, 'UTC') COMMENT 'When the rule no longer held; 1970: it still does',
    summary String COMMENT 'What is the matter, in a sentence',
    risk Float64 COMMENT 'P(does not come back within the horizon) when it opened, 0 to 1',
    band LowCardinality(String) COMMENT 'Risk band when it opened',
    score Float64 COMMENT 'Experience score when it opened, 0 to 100',
    value_at_risk Float64 COMMENT 'Risk x expected spend when it opened, currency units',
    segment String COMMENT 'Segment when it opened; empty: none known'
)
AS SELECT
    alert.alert_id AS case_id,
    alert.customer_id AS customer_id,
    alert.rule AS rule,
    alert.severity AS severity,
    if(step.owner_now != '', step.owner_now, toString(alert.owner)) AS owner,
    multiIf(step.closed_at > 0, 'closed', step.acknowledged_at > 0, 'acknowledged', 'open') AS state,
    alert.fired_at AS opened_at,
    alert.due_at AS due_at,
    alert.due_at > 0 AND state != 'closed' AND alert.due_at < now64(6, 'UTC') AS overdue,
    step.acknowledged_at AS acknowledged_at,
    step.acknowledged_by AS acknowledged_by,
    step.closed_at AS closed_at,
    step.closed_by AS closed_by,
    step.outcome AS outcome,
    step.notes AS notes,
    step.assignments AS assignments,
    over.resolved_at AS resolved_at,
    alert.summary AS summary,
    alert.risk AS risk,
    alert.band AS band,
    alert.score AS score,
    alert.value_at_risk AS value_at_risk,
    alert.segment AS segment
FROM
(
    SELECT * FROM touchstone.alert_log FINAL WHERE turn = 'firing' AND fate = 'called' AND customer_id != ''
) AS alert
LEFT JOIN
(
    SELECT alert_id, at AS resolved_at FROM touchstone.alert_log FINAL WHERE turn = 'resolved'
) AS over ON over.alert_id = alert.alert_id
LEFT JOIN
(
    SELECT
        case_id,
        customer_id,
        argMaxIf(attributes['owner'], log_offset, attributes['step'] = 'assigned') AS owner_now,
        minIf(occurred_at, attributes['step'] = 'acknowledged') AS acknowledged_at,
        argMinIf(attributes['by'], log_offset, attributes['step'] = 'acknowledged') AS acknowledged_by,
        minIf(occurred_at, attributes['step'] = 'closed') AS closed_at,
        argMinIf(attributes['by'], log_offset, attributes['step'] = 'closed') AS closed_by,
        argMinIf(attributes['outcome'], log_offset, attributes['step'] = 'closed') AS outcome,
        countIf(attributes['note'] != '') AS notes,
        countIf(attributes['step'] = 'assigned') AS assignments
    FROM touchstone.touchpoints_once
    WHERE kind = 'case_step'
        -- By the first column of the table's key, so that the events of all others need not be read.
        AND customer_id IN (SELECT customer_id FROM touchstone.alert_log WHERE fate = 'called' AND customer_id != '')
    GROUP BY case_id, customer_id
) AS step ON step.case_id = alert.alert_id AND step.customer_id = alert.customer_id
COMMENT 'Cases of customers: who answers, by when, how it ended';
