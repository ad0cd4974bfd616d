-- How journeys that nobody rated may have felt. Inferences from operational facts: they are never counted as felt, no
-- score, signal or risk is made of them. A journey that was rated after it was inferred is left out.

CREATE OR REPLACE VIEW touchstone.inferred_journeys
(
    customer_id String COMMENT 'Whose journey it is',
    journey_id String COMMENT 'Which one, as its events have it',
    journey LowCardinality(String) COMMENT 'What sort of journey: onboarding, claim; empty when not told',
    last_touchpoint LowCardinality(String) COMMENT 'Last step of it that was known by happened_at',
    happened_at DateTime64(6, 'UTC') COMMENT 'When it was asked about, or would have been; facts are those known then',
    asked Bool COMMENT 'True if the customer was asked and has not answered, false if nobody asked',
    chance_bad Float64 COMMENT 'Inferred chance of a bad rating, 0 to 1: an inference, never counted as felt',
    average_chance Float64 COMMENT 'The same for the average of those learnt from; never counted as felt',
    reasons Array(Tuple(reason String, log_odds Float64)) COMMENT 'What the inference rests on: signed contributions in log-odds, largest first',
    model_version LowCardinality(String) COMMENT 'What inferred it',
    inferred_at DateTime64(6, 'UTC') COMMENT 'When it was inferred'
)
AS SELECT
    customer_id,
    journey_id,
    journey,
    last_touchpoint,
    happened_at,
    asked,
    chance_bad,
    average_chance,
    reasons,
    model_version,
    inferred_at
FROM touchstone.inferred_experience FINAL
WHERE (customer_id, journey_id) NOT IN
(
    SELECT customer_id, journey_id
    FROM touchstone.touchpoints
    WHERE journey_id != '' AND rating IS NOT NULL
        AND kind IN ('survey_response', 'interaction', 'complaint_resolved')
        AND metric IN ('nps', 'csat', 'ces', 'stars')
)
COMMENT 'Journeys without a rating: how they may have felt, inferred from operational facts and never counted as felt';
