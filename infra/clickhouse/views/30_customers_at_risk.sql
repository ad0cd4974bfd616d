-- Whom to look at first.

CREATE OR REPLACE VIEW touchstone.customers_at_risk
(
    customer_id String COMMENT 'The customer',
    risk_band String COMMENT 'elevated or high',
    risk Float64 COMMENT 'P(does not come back within the horizon), 0 to 1',
    value_at_risk Float64 COMMENT 'Risk x expected spend, currency units',
    score Float64 COMMENT 'Experience score, 0 to 100',
    trend Float64 COMMENT 'Where the score is heading, in points',
    why String COMMENT 'What raises the risk, in words, strongest first',
    open_complaints UInt64 COMMENT 'Complaints that wait for an answer',
    last_event_at DateTime64(6, 'UTC') COMMENT 'When the last event happened'
)
AS
SELECT
    customer_id,
    risk_band,
    risk,
    value_at_risk,
    score,
    trend,
    arrayStringConcat(arrayMap(r -> r.1, arrayFilter(r -> r.2 > 0, reasons)), '; ') AS why,
    open_complaints,
    last_event_at
FROM touchstone.customer_scores
WHERE risk_band != 'low'
ORDER BY value_at_risk DESC, risk DESC
COMMENT 'Customers in an elevated or high band, the costliest first';
