-- May this customer be surveyed? Whoever waits for an answer, or was asked or contacted lately, is left alone. By the guard of
-- a rules file that sets none: 14 days between, not with a complaint open, not with unhappy feedback unanswered. The HTTP
-- endpoint goes by the guard of the deployment's rules.

CREATE OR REPLACE VIEW touchstone.survey_permission
(
    customer_id String COMMENT 'The customer; who is not in here has no event, and may be asked',
    allowed Bool COMMENT 'Whether a request for feedback may be sent now',
    reasons Array(String) COMMENT 'Why not: feedback_unanswered, complaint_open, asked_lately',
    ask_again_at DateTime64(6, 'UTC') COMMENT 'When time alone will allow it; 1970: now, or not before somebody answers',
    feedback_at DateTime64(6, 'UTC') COMMENT 'Latest unhappy answer or complaint; 1970: none',
    follow_up_at DateTime64(6, 'UTC') COMMENT 'Latest follow-up by us; 1970: none',
    open_complaints UInt64 COMMENT 'Complaints that wait for an answer',
    asked_at DateTime64(6, 'UTC') COMMENT 'Latest survey or outreach sent; 1970: none'
)
AS SELECT
    state.customer_id AS customer_id,
    empty(reasons) AS allowed,
    arrayFilter(
        reason -> reason != '',
        [
            if(state.last_feedback_at > state.last_follow_up_at, 'feedback_unanswered', ''),
            if(state.open_complaints > 0, 'complaint_open', ''),
            if(contact.asked_at + toIntervalDay(14) > now64(6, 'UTC'), 'asked_lately', '')
        ]
    ) AS reasons,
    if(reasons = ['asked_lately'], contact.asked_at + toIntervalDay(14), toDateTime64(0, 6, 'UTC')) AS ask_again_at,
    state.last_feedback_at AS feedback_at,
    state.last_follow_up_at AS follow_up_at,
    toUInt64(state.open_complaints) AS open_complaints,
    contact.asked_at AS asked_at
FROM
(
    SELECT customer_id, last_feedback_at, last_follow_up_at, open_complaints FROM touchstone.customer_state FINAL
) AS state
LEFT JOIN
(
    SELECT customer_id, max(occurred_at) AS asked_at
    FROM touchstone.touchpoints
    WHERE kind IN ('survey_sent', 'outreach')
    GROUP BY customer_id
) AS contact ON contact.customer_id = state.customer_id
COMMENT 'Who may be asked for feedback now, and why others may not';
