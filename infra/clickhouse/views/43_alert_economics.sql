-- What the alerts of each rule cost and bring. Known: alerts, calls, spend. Set: what a contact costs. Assumed: that each
-- delivered alert led to one contact, and (expected_benefit) that one contact in ten holds a customer's value at risk.
-- realised_benefit compares whom chance called with whom it did not, so it is there only with a hold-out:
--   called_mature x (mean spend of called - mean spend of held out), spend within the horizon from firing on,
-- over alerts whose horizon is over; without calling, the called would have spent as the held out did.

CREATE OR REPLACE VIEW touchstone.alert_economics
(
    rule LowCardinality(String) COMMENT 'Name of the rule',
    alerts UInt64 COMMENT 'Alerts about customers that fired',
    called UInt64 COMMENT 'Those in a call',
    held_out UInt64 COMMENT 'Those recorded and not sent, by chance',
    over_budget UInt64 COMMENT 'Those that came when the rule had made as many calls as it may',
    delivered UInt64 COMMENT 'Those that somebody received',
    value_at_risk_reached Float64 COMMENT 'Value at risk of the delivered ones when they fired, currency units',
    cost Float64 COMMENT 'Delivered x cost_of_contact of the rules of then, currency units; assumes one contact each',
    break_even Float64 COMMENT 'Share of the value at risk that contacts must hold to be worth their cost',
    expected_benefit Float64 COMMENT 'A tenth of value_at_risk_reached: assumes that one contact in ten holds the customer',
    horizon_days Float64 COMMENT 'Days from firing in which spend counts: of the active risk model, 30 where there is none',
    called_mature UInt64 COMMENT 'Called alerts whose horizon is over',
    held_out_mature UInt64 COMMENT 'Held out ones whose horizon is over',
    called_returned UInt64 COMMENT 'Mature called ones whose customer came back within the horizon',
    held_out_returned UInt64 COMMENT 'Mature held out ones whose customer came back within the horizon',
    spend_called Float64 COMMENT 'Net spend within the horizon of mature called ones, currency units, currencies added as they come',
    spend_held_out Float64 COMMENT 'Net spend within the horizon of mature held out ones, currency units',
    realised_benefit Nullable(Float64) COMMENT 'called_mature x difference of mean spends; NULL without at least 20 mature ones of both sorts'
)
AS
WITH
    ifNull((SELECT argMax(parameters, activated_at) FROM touchstone.models), '') AS model_parameters,
    if(
        JSONExtractFloat(model_parameters, 'horizon_days') > 0, JSONExtractFloat(model_parameters, 'horizon_days'), 30.
    ) AS days,
    if(
        empty(JSONExtract(model_parameters, 'activity_kinds', 'Array(String)')),
        ['purchase', 'renewal'],
        JSONExtract(model_parameters, 'activity_kinds', 'Array(String)')
    ) AS comings
SELECT
    rule,
    count() AS alerts,
    countIf(fate = 'called') AS called,
    countIf(fate = 'held_out') AS held_out,
    countIf(fate = 'over_budget') AS over_budget,
    countIf(reached) AS delivered,
    sumIf(value_at_risk, reached) AS value_at_risk_reached,
    sumIf(cost_of_contact, reached) AS cost,
    if(value_at_risk_reached > 0, cost / value_at_risk_reached, 0.) AS break_even,
    0.1 * value_at_risk_reached AS expected_benefit,
    any(horizon) AS horizon_days,
    countIf(mature AND fate = 'called') AS called_mature,
    countIf(mature AND fate = 'held_out') AS held_out_mature,
    countIf(mature AND fate = 'called' AND came > 0) AS called_returned,
    countIf(mature AND fate = 'held_out' AND came > 0) AS held_out_returned,
    sumIf(spent, mature AND fate = 'called') AS spend_called,
    sumIf(spent, mature AND fate = 'held_out') AS spend_held_out,
    if(
        called_mature >= 20 AND held_out_mature >= 20,
        spend_called - called_mature * spend_held_out / held_out_mature,
        NULL
    ) AS realised_benefit
FROM
(
    SELECT
        alert.alert_id AS alert_id,
        any(alert.rule) AS rule,
        any(alert.fate) AS fate,
        any(alert.delivered) > 0 AS reached,
        any(alert.value_at_risk) AS value_at_risk,
        any(set.cost_of_contact) AS cost_of_contact,
        any(days) AS horizon,
        any(alert.fired_at) + toIntervalSecond(toUInt64(86400 * horizon)) <= now64(6, 'UTC') AS mature,
        countIf(has(comings, did.kind) AND did.occurred_at > alert.fired_at AND did.occurred_at < alert.fired_at + toIntervalSecond(toUInt64(86400 * days))) AS came,
        sumIf(did.spend, did.occurred_at > alert.fired_at AND did.occurred_at < alert.fired_at + toIntervalSecond(toUInt64(86400 * days))) AS spent
    FROM (SELECT * FROM touchstone.alerts WHERE customer_id != '') AS alert
    LEFT JOIN
    (
        SELECT rules_version, rule, cost_of_contact FROM touchstone.alert_rules FINAL
    ) AS set ON set.rules_version = alert.rules_version AND set.rule = alert.rule
    LEFT JOIN
    (
        SELECT
            customer_id,
            occurred_at,
            toString(kind) AS kind,
            ifNull(amount_micros, 0) / 1000000
                * transform(toString(kind), ['purchase', 'renewal', 'subscription', 'refund'], [1, 1, 1, -1], 0) AS spend
        FROM touchstone.touchpoints_once
        WHERE customer_id IN (SELECT customer_id FROM touchstone.alert_log WHERE customer_id != '')
            AND (has(comings, toString(kind)) OR kind IN ('purchase', 'renewal', 'subscription', 'refund'))
    ) AS did ON did.customer_id = alert.customer_id
    GROUP BY alert_id
)
GROUP BY rule
ORDER BY rule
COMMENT 'What the alerts of each rule cost and bring; what is assumed stands in the comments of its columns';
