-- The survey rates that people know, per day of the answer. NPS: 9 and 10 promote, 0 to 6 detract. CSAT: 4 and 5 are
-- satisfied. CES: 1 hard to 7 easy.

CREATE OR REPLACE VIEW touchstone.nps_csat_ces_by_day
(
    day Date COMMENT 'Day on which it was answered, UTC',
    touchpoint LowCardinality(String) COMMENT 'Where it was asked, dotted name',
    responses UInt64 COMMENT 'Answers on any of the three scales',
    nps_responses UInt64 COMMENT 'Answers on the scale 0 to 10',
    nps Nullable(Float64) COMMENT 'Percent promoters minus percent detractors, -100 to 100; NULL without answers',
    csat_responses UInt64 COMMENT 'Answers on the scale 1 to 5',
    csat Nullable(Float64) COMMENT 'Percent satisfied (4 or 5); NULL without answers',
    ces_responses UInt64 COMMENT 'Answers on the scale 1 to 7',
    ces Nullable(Float64) COMMENT 'Mean, 1 hard to 7 easy; NULL without answers'
)
AS SELECT
    toDate(occurred_at) AS day,
    touchpoint,
    count() AS responses,
    countIf(metric = 'nps') AS nps_responses,
    if(
        nps_responses > 0,
        100 * (countIf(metric = 'nps' AND rating >= 9) - countIf(metric = 'nps' AND rating <= 6)) / nps_responses,
        NULL
    ) AS nps,
    countIf(metric = 'csat') AS csat_responses,
    if(csat_responses > 0, 100 * countIf(metric = 'csat' AND rating >= 4) / csat_responses, NULL) AS csat,
    countIf(metric = 'ces') AS ces_responses,
    if(ces_responses > 0, sumIf(rating, metric = 'ces') / ces_responses, NULL) AS ces
FROM touchstone.touchpoints_once
WHERE metric IN ('nps', 'csat', 'ces') AND rating IS NOT NULL -- a survey that was sent names its scale, too
GROUP BY day, touchpoint
COMMENT 'NPS, CSAT and CES per day and touchpoint';
