-- Calls to receivers and how they fare. Dead ones can be looked at and sent again; then they go on counting attempts.

CREATE OR REPLACE VIEW touchstone.alert_deliveries
(
    call_id String COMMENT 'The id that receivers get, the same with each attempt',
    turn LowCardinality(String) COMMENT 'firing or resolved',
    about String COMMENT 'Of a resolved notice: the call whose alerts have resolved',
    rule LowCardinality(String) COMMENT 'Name of the rule',
    severity LowCardinality(String) COMMENT 'critical, error, warning or info',
    receiver LowCardinality(String) COMMENT 'Who is called, by the name in the rules file',
    made_at DateTime64(6, 'UTC') COMMENT 'When the call was decided',
    not_before DateTime64(6, 'UTC') COMMENT 'End of quiet hours it waits for; 1970: it goes at once',
    alerts UInt64 COMMENT 'How many alerts it tells of',
    state LowCardinality(String) COMMENT 'delivered, waiting (never tried), failing (tried again at next_at) or dead (given up)',
    attempts UInt64 COMMENT 'How often it was tried',
    last_at DateTime64(6, 'UTC') COMMENT 'When it was tried last; 1970: never',
    last_status UInt16 COMMENT 'HTTP status of the last attempt; 0: none',
    last_detail String COMMENT 'What went wrong at the last attempt, and what to do',
    delivered_at DateTime64(6, 'UTC') COMMENT 'When it was received first; 1970: it was not',
    next_at DateTime64(6, 'UTC') COMMENT 'When it is tried next; 1970: not any more'
)
AS SELECT
    call.call_id AS call_id,
    call.turn AS turn,
    call.about AS about,
    call.rule AS rule,
    call.severity AS severity,
    call.receiver AS receiver,
    call.made_at AS made_at,
    call.not_before AS not_before,
    length(call.alert_ids) AS alerts,
    multiIf(
        tried.delivered_at > 0, 'delivered',
        tried.attempts = 0, 'waiting',
        tried.last_outcome = 'dead', 'dead',
        'failing'
    ) AS state,
    tried.attempts AS attempts,
    tried.last_at AS last_at,
    tried.last_status AS last_status,
    tried.last_detail AS last_detail,
    tried.delivered_at AS delivered_at,
    multiIf(
        state = 'waiting', greatest(call.made_at, call.not_before),
        state = 'failing', tried.next_at,
        toDateTime64(0, 6, 'UTC')
    ) AS next_at
FROM (SELECT * FROM touchstone.alert_calls FINAL) AS call
LEFT JOIN
(
    SELECT
        call_id,
        count() AS attempts,
        argMax(outcome, number) AS last_outcome,
        argMax(attempted_at, number) AS last_at,
        argMax(status, number) AS last_status,
        argMax(detail, number) AS last_detail,
        argMax(alert_attempts.next_at, number) AS next_at,
        minIf(attempted_at, outcome = 'delivered') AS delivered_at
    FROM touchstone.alert_attempts FINAL
    GROUP BY call_id
) AS tried ON tried.call_id = call.call_id
COMMENT 'Calls to receivers: delivered, waiting, failing or dead, and why';
