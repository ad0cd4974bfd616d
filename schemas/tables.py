"""Tables and their columns, in order: spelled here and nowhere else. The migrations are checked against this.

Times are DateTime64(6, 'UTC'); the epoch means "never". Sums decay from `last_event_at`, the state's reference time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DATABASE: Final = "touchstone"

DIMENSIONS: Final = ("effectiveness", "ease", "emotion")
"""Did it work, what did it take, how did it feel."""

HALF_LIVES: Final = ("fast", "slow")
SUMS: Final = ("w", "s", "q")

RECENT_IDS: Final = 16
RECENT_CASES: Final = 4
ACTIVITY_DAYS: Final = 32

TIME: Final = "DateTime64(6, 'UTC')"


@dataclass(frozen=True, slots=True)
class Column:
    """One column as created; ``comment`` is shown by every tool that lists tables."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table of `DATABASE`; ``columns`` in the order of inserts.

    ``packed``: stored columns that hold others of the table, and steps on the way from them to those.
    """

    name: str
    columns: tuple[Column, ...]
    packed: tuple[Column, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)


def _table(name: str, *columns: tuple[str, str, str]) -> Table:
    return Table(name, tuple(Column(*column) for column in columns))


_FELT = tuple(
    column
    for dimension in DIMENSIONS
    for column in (
        (f"{dimension}_valence", "Float32", f"How it was read for {dimension}: -1 worst to 1 best"),
        (f"{dimension}_weight", "Float32", f"Weight of that reading; 0 means the event says nothing on {dimension}"),
    )
)

TOUCHPOINTS: Final = _table(
    "touchpoints",
    ("customer_id", "String", "Whose experience this is"),
    ("occurred_at", TIME, "When it happened"),
    ("event_id", "FixedString(16)", "Identity, 16 bytes of a UUID; UUIDNumToString(event_id) shows it"),
    ("received_at", TIME, "When ingest took it in"),
    ("source", "LowCardinality(String)", "The system that sent it"),
    ("kind", "LowCardinality(String)", "What sort of event it is"),
    ("touchpoint", "LowCardinality(String)", "Where it happened, dotted name"),
    ("channel", "LowCardinality(String)", "How it reached the customer; empty when unknown"),
    ("journey_id", "String", "The journey it is a step of; empty when none"),
    ("journey", "LowCardinality(String)", "What sort of journey: onboarding, claim; empty when not told"),
    ("outcome", "LowCardinality(String)", "succeeded, failed, abandoned, or empty"),
    ("metric", "LowCardinality(String)", "Scale of the rating, or empty"),
    ("rating", "Nullable(Float64)", "The answer on that scale"),
    ("emotion", "LowCardinality(String)", "What the customer felt, or empty"),
    ("intensity", "Nullable(Float64)", "How strongly, 0 to 1"),
    ("confidence", "Nullable(Float64)", "How sure the source is of the emotion, 0 to 1"),
    ("amount_micros", "Nullable(Int64)", "Money in millionths of the currency's unit"),
    ("currency", "LowCardinality(String)", "ISO 4217 code, or empty"),
    ("case_id", "String", "The complaint or ticket it belongs to, or empty"),
    ("text", "String", "The customer's own words, or empty"),
    ("sender_event_id", "String", "The sender's id where it was no UUID, or empty"),
    ("attributes", "Map(String, String)", "Whatever else the sender wanted kept"),
    *_FELT,
    ("log_partition", "UInt16", "Partition of the topic touchpoints"),
    ("log_offset", "Int64", "Offset in that partition"),
)

_STATE_SUMS = tuple(
    (
        f"{dimension}_{half_life}_{letter}",
        "Float64",
        {
            "w": f"Sum of weights for {dimension}, {half_life} half-life, as of last_event_at",
            "s": f"Sum of weight x valence for {dimension}, {half_life} half-life, as of last_event_at",
            "q": f"Sum of weight x valence squared for {dimension}, {half_life} half-life, as of last_event_at",
        }[letter],
    )
    for dimension in DIMENSIONS
    for half_life in HALF_LIVES
    for letter in SUMS
)

_CUSTOMER_STATE: Final = _table(
    "customer_state",
    ("customer_id", "String", "Whose state this is"),
    ("log_partition", "UInt16", "The partition this customer lives in"),
    ("log_offset", "Int64", "Offset of the last event folded in; also the row's version: the highest wins"),
    ("updated_at", TIME, "received_at of that event"),
    *_STATE_SUMS,
    (
        "worst_severity",
        "Float64",
        "Weight x badness of the worst recent moment, as of worst_at; halves every slow half-life",
    ),
    ("last_valence", "Float64", "Valence of the last felt moment, mean over its dimensions"),
    ("spend_fast", "Float64", "Net spend in currency units, fast half-life, as of last_event_at"),
    ("spend_slow", "Float64", "Net spend in currency units, slow half-life, as of last_event_at"),
    ("survey_load", "Float64", "Surveys sent, slow half-life, as of last_event_at"),
    ("risk", "Float64", "Loyalty risk when last judged; the view customer_scores has it as of now"),
    ("events", "UInt32", "Events folded in, without reviews"),
    ("felt", "UInt32", "Events among them that said how it felt"),
    ("activities", "UInt32", "Behaviours that count as coming back"),
    ("surveys_sent", "UInt32", "Surveys sent to the customer"),
    ("survey_responses", "UInt32", "Surveys answered"),
    ("complaints_opened", "UInt32", "Complaints opened"),
    ("complaints_resolved", "UInt32", "Complaints resolved"),
    ("spend_micros", "Int64", "Net spend ever, millionths of the currency's unit"),
    ("first_event_at", TIME, "occurred_at of the earliest event"),
    ("last_event_at", TIME, "occurred_at of the latest event: the reference time of all decaying sums"),
    ("worst_at", TIME, "When the worst recent moment happened"),
    ("worst_touchpoint", "LowCardinality(String)", "Where the worst recent moment happened"),
    ("last_felt_at", TIME, "When the last felt moment happened"),
    ("last_touchpoint", "LowCardinality(String)", "Where the last felt moment happened"),
    ("last_activity_at", TIME, "When the customer last came back"),
    ("last_feedback_at", TIME, "Latest unhappy answer or complaint"),
    ("last_follow_up_at", TIME, "Latest follow-up by us"),
    ("last_cancellation_at", TIME, "Latest cancellation"),
    ("last_commitment_at", TIME, "Latest renewal, subscription or purchase"),
    ("active_days", "UInt16", "Distinct days in activity_days"),
    ("first_active_day", "UInt16", "Earliest of them, days since 1970"),
    ("open_complaints", "UInt16", "Cases in cases that are not resolved"),
    ("open_complaint_since", TIME, "When the oldest of them was opened, to the second"),
    ("band", "LowCardinality(String)", "Risk band when last judged: low, elevated, high"),
    ("band_since", TIME, "When the customer entered that band"),
    ("judged_at", TIME, "received_at of the event at which risk was last judged"),
    ("model_version", "LowCardinality(String)", "Risk model used for that judgement"),
    (
        "activity_days",
        f"FixedString({2 * ACTIVITY_DAYS})",
        "Latest days with activity: little-endian UInt16 days since 1970, ascending, zeros first",
    ),
    ("cases", f"FixedString({8 * RECENT_CASES})", "Latest cases: UInt64 of second << 32 | hash31 << 1 | resolved"),
    ("recent_ids", f"FixedString({8 * RECENT_IDS})", "Latest event ids: UInt64 of second << 32 | hash32"),
    ("ids_horizon_s", "UInt32", "Latest second that ever fell out of recent_ids; older events are looked up"),
    ("contact_load", "Float64", "Events that are no coming back, slow half-life, as of last_event_at"),
    ("last_contact_at", TIME, "Latest event that is no coming back"),
)

CUSTOMER_STATE: Final = Table(
    _CUSTOMER_STATE.name,
    _CUSTOMER_STATE.columns,
    (
        Column("float_bytes", "FixedString(200)", "The numbers that are no integers, as the worker keeps them"),
        Column("int_bytes", "FixedString(256)", "The integers and times, as the worker keeps them"),
        Column("set_bytes", "FixedString(224)", "activity_days, cases and recent_ids, one after another"),
        Column("packed_floats", "Array(Float64)", "float_bytes as numbers"),
        Column("packed_ints", "Array(Int64)", "int_bytes as numbers; times in UTC microseconds"),
    ),
)

LOYALTY_SIGNALS: Final = _table(
    "loyalty_signals",
    ("signal_id", "FixedString(16)", "Identity, made from customer, partition and offset"),
    ("customer_id", "String", "Whose risk was judged"),
    ("judged_at", TIME, "received_at of the event that made it cross"),
    ("from_band", "LowCardinality(String)", "Band before; the same as after where a review found no crossing"),
    ("to_band", "LowCardinality(String)", "Band after"),
    ("risk", "Float64", "P(does not come back within the horizon), 0 to 1"),
    ("score", "Float64", "Experience score at that moment, 0 to 100"),
    ("trend", "Float64", "Fast minus slow score at that moment"),
    ("confidence", "Float64", "Weight of evidence behind the score, 0 to 1"),
    ("value_at_risk", "Float64", "Risk x expected spend over the horizon, currency units"),
    ("reasons", "Array(Tuple(reason String, log_odds Float64))", "Signed contributions, largest first"),
    ("model_version", "LowCardinality(String)", "Risk model that judged"),
    ("log_partition", "UInt16", "Partition of the topic touchpoints"),
    ("log_offset", "Int64", "Offset of the event that it was judged at"),
    ("volatility", "Float64", "How haphazard the experience was, 0 to 1"),
    ("complaint_hours", "Float64", "Age of the oldest open complaint, hours; 0: none is open"),
    ("feedback_hours", "Float64", "Hours that unhappy feedback had been unanswered; 0: none was"),
    ("silence_days", "Float64", "Days since the customer last came; 0: never came"),
    ("usual_gap_days", "Float64", "Mean days between comings; 0: not known yet"),
    ("worst_touchpoint", "String", "Where the worst recent moment happened"),
)

REJECTED_EVENTS: Final = _table(
    "rejected_events",
    ("stage", "LowCardinality(String)", "ingest: refused at the edge; log: a record that could not be taken"),
    ("log_partition", "UInt16", "Where it stands: in topic rejected (stage ingest) or touchpoints (stage log)"),
    ("log_offset", "Int64", "Offset in that partition"),
    ("rejected_at", TIME, "When it was received"),
    ("reason", "LowCardinality(String)", "Closed vocabulary, see docs"),
    ("field", "String", "The field at fault, if one is"),
    ("detail", "String", "What is wrong and what to do"),
    ("source", "String", "Sending system, if it could be read"),
    ("customer_id", "String", "Customer, if it could be read"),
    ("payload", "String", "The raw bytes, cut at 64 KiB"),
)

RESENT_EVENTS: Final = _table(
    "resent_events",
    ("stage", "LowCardinality(String)", "With the next two: which of rejected_events was sent again"),
    ("log_partition", "UInt16", "Its partition there"),
    ("log_offset", "Int64", "Its offset there"),
    ("resent_at", TIME, "When ingest accepted it; the latest time counts"),
    ("customer_id", "String", "Customer of the fixed event"),
    ("event_id", "FixedString(16)", "Identity of the fixed event, as in touchpoints"),
    ("event", "String", "The fixed event as it was sent, JSON"),
)

REPEATED_EVENTS: Final = _table(
    "repeated_events",
    ("log_partition", "UInt16", "Partition of the topic touchpoints"),
    ("log_offset", "Int64", "Offset of the repeat"),
    ("received_at", TIME, "When the repeat was received"),
    ("customer_id", "String", "Customer"),
    ("event_id", "FixedString(16)", "The id that came again"),
    ("conflict", "Bool", "True if the content differed from the first; the first one stands"),
)

MODELS: Final = _table(
    "models",
    ("version", "String", "Name of the risk model"),
    ("activated_at", TIME, "The latest activated model judges"),
    ("parameters", "String", "JSON: every number the risk formula uses"),
    ("report", "String", "JSON: data span, counts, validation figures; empty for documented defaults"),
)

MODEL_SHADOWS: Final = _table(
    "model_shadows",
    ("chosen_at", TIME, "When it was chosen; the latest choice counts"),
    ("version", "String", "The model that runs beside the active one; empty: none from then on"),
)

MODEL_ACTIVATIONS: Final = _table(
    "model_activations",
    ("log_partition", "UInt16", "Partition of the topic touchpoints"),
    ("log_offset", "Int64", "Offset of the activation: the model judges what follows"),
    ("activated_at", TIME, "received_at of the activation"),
    ("version", "String", "Name of the risk model"),
    ("parameters", "String", "JSON: every number the risk formula uses"),
)

ALERT_RULES: Final = _table(
    "alert_rules",
    ("rules_version", "String", "Which reading of the rules file: follows from what it says"),
    ("loaded_at", TIME, "When alerting began to decide by it"),
    ("rule", "LowCardinality(String)", "Name of the rule"),
    ("severity", "LowCardinality(String)", "critical, error, warning or info"),
    ("owner", "LowCardinality(String)", "Who answers for its cases"),
    ("cost_of_contact", "Float64", "What one contact costs, currency units"),
    ("hold_out", "Float64", "Share of alerts that is recorded and not sent, 0 to 1"),
    ("definition", "String", "The whole rule as JSON; never a secret"),
)

ALERT_STATES: Final = _table(
    "alert_states",
    ("rule", "LowCardinality(String)", "Name of the rule"),
    ("customer_id", "String", "The customer"),
    ("phase", "LowCardinality(String)", "idle, pending or firing"),
    ("since", TIME, "When the phase began, in the time of the log"),
    ("alert_id", "String", "Of the alert that fires or fired last; empty: none ever"),
    ("fired_at", TIME, "When it fired last; 1970 means never"),
    ("resolved_at", TIME, "When it resolved last; 1970 means never"),
    ("log_partition", "UInt16", "Partition of the topic touchpoints"),
    ("log_offset", "Int64", "Offset of the event behind the last signal that was taken"),
)

ALERT_LOG: Final = _table(
    "alert_log",
    ("alert_id", "String", "Follows from the rule and the place in the log: the same log gives the same ids"),
    ("turn", "LowCardinality(String)", "firing or resolved"),
    ("rule", "LowCardinality(String)", "Name of the rule"),
    ("rules_version", "String", "Reading of the rules file that decided, as in alert_rules"),
    ("customer_id", "String", "The customer; empty where a part of the company is meant"),
    ("subject", "String", "What it is about where it is no customer, else the customer"),
    ("at", TIME, "When this turn was decided, in the time of the log"),
    ("fired_at", TIME, "When the alert fired, in the time of the log"),
    ("severity", "LowCardinality(String)", "critical, error, warning or info"),
    ("owner", "LowCardinality(String)", "Who answers for the case at first"),
    ("due_at", TIME, "When the case should have been answered; 1970 means no time is set"),
    ("summary", "String", "What is the matter, in a sentence"),
    ("risk", "Float64", "P(does not come back within the horizon) then, 0 to 1"),
    ("band", "LowCardinality(String)", "Risk band then"),
    ("score", "Float64", "Experience score then, 0 to 100"),
    ("value_at_risk", "Float64", "Risk x expected spend then, currency units"),
    ("segment", "String", "Segment then; empty: none known"),
    ("facts", "String", "JSON: every field that conditions can ask for, as it was"),
    ("reasons", "Array(Tuple(reason String, log_odds Float64))", "Signed contributions, largest first"),
    ("signal_id", "String", "Signal behind it, hexadecimal; empty where a part of the company is meant"),
    ("log_partition", "UInt16", "Partition of the topic touchpoints"),
    ("log_offset", "Int64", "Offset of the event behind the signal"),
    ("fate", "LowCardinality(String)", "waiting, called, over_budget, held_out or untold"),
    ("version", "UInt64", "The row of the highest one stands"),
)

ALERT_CALLS: Final = _table(
    "alert_calls",
    ("call_id", "String", "The id that receivers get, the same with each attempt"),
    ("turn", "LowCardinality(String)", "firing or resolved"),
    ("about", "String", "Of a resolved notice: the call whose alerts have resolved"),
    ("rule", "LowCardinality(String)", "Name of the rule"),
    ("severity", "LowCardinality(String)", "critical, error, warning or info"),
    ("receiver", "LowCardinality(String)", "Who is called, by the name in the rules file"),
    ("made_at", TIME, "When the call was decided"),
    ("not_before", TIME, "End of quiet hours it waits for; 1970: it goes at once"),
    ("alert_ids", "Array(String)", "Alerts that it tells of"),
    ("document", "String", "JSON: all that it says; every payload is made from it"),
)

ALERT_ATTEMPTS: Final = _table(
    "alert_attempts",
    ("call_id", "String", "The call"),
    ("number", "UInt32", "From 1"),
    ("receiver", "LowCardinality(String)", "Who was called"),
    ("attempted_at", TIME, "When the attempt began"),
    ("took_us", "UInt64", "How long it took, microseconds"),
    ("outcome", "LowCardinality(String)", "delivered, failed (tried again) or dead (given up)"),
    ("status", "UInt16", "HTTP status; 0: none"),
    ("detail", "String", "What went wrong, and what to do"),
    ("next_at", TIME, "When it is tried again; 1970: not"),
)

INFERRED_EXPERIENCE: Final = _table(
    "inferred_experience",
    ("customer_id", "String", "Whose journey it is"),
    ("journey_id", "String", "The journey, as its events have it"),
    ("journey", "LowCardinality(String)", "What sort of journey: onboarding, claim; empty when not told"),
    ("last_touchpoint", "LowCardinality(String)", "Last step of it that was known by happened_at"),
    ("happened_at", TIME, "When it was asked about, or would have been; facts are those known then"),
    ("inferred_at", TIME, "When it was inferred; the latest row of a journey counts"),
    ("asked", "Bool", "True if the customer was asked and has not answered, false if nobody asked"),
    ("chance_bad", "Float64", "Inferred chance of a bad rating, 0 to 1; nothing that was felt"),
    ("average_chance", "Float64", "The same for the average journey learnt from; reasons lead from it to chance_bad"),
    ("reasons", "Array(Tuple(reason String, log_odds Float64))", "Signed contributions in log-odds, largest first"),
    ("model_version", "LowCardinality(String)", "What inferred it"),
)

MODEL_CHECKS: Final = _table(
    "model_checks",
    ("version", "String", "The model that was checked"),
    ("judged_at", TIME, "The moment whose risks were looked at; what came of them is known by one horizon later"),
    ("checked_at", TIME, "When it was checked"),
    ("horizon_days", "UInt16", "Days that customers had to come back"),
    ("verdict", "LowCardinality(String)", "holds, drifted, or too_few for a verdict"),
    ("flattered", "Bool", "True if the model has learnt from events after judged_at: the figures flatter it"),
    ("n", "UInt64", "Customers who were looked at"),
    ("expected", "Float64", "How many of them would not come back, by the risks"),
    ("observed", "UInt64", "How many did not"),
    ("allowed_low", "Float64", "From here to allowed_high observed would be no surprise"),
    ("allowed_high", "Float64", "See allowed_low"),
    ("spread", "Float64", "By how much periods differ here, in log-odds; widens what is allowed"),
    ("auc", "Float64", "Chance that one who left had the higher risk than one who came"),
    ("brier", "Float64", "Mean squared error of the risks"),
    (
        "ece",
        "Float64",
        "Expected calibration error: mean over tenths of customers of |share that left - mean risk|",
    ),
    ("log_loss", "Float64", "Mean of -ln of the chance given to what happened"),
)

TABLES: Final[tuple[Table, ...]] = (
    TOUCHPOINTS,
    CUSTOMER_STATE,
    LOYALTY_SIGNALS,
    REJECTED_EVENTS,
    RESENT_EVENTS,
    REPEATED_EVENTS,
    MODELS,
    MODEL_SHADOWS,
    MODEL_ACTIVATIONS,
    ALERT_RULES,
    ALERT_STATES,
    ALERT_LOG,
    ALERT_CALLS,
    ALERT_ATTEMPTS,
    INFERRED_EXPERIENCE,
    MODEL_CHECKS,
)
