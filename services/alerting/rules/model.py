"""The rules file as data: rules, focus, who can be called, whom not to survey."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from services.alerting.alert import stable_id
from services.alerting.delivery.receivers import NAME, Name, Receiver
from services.alerting.document import Severity
from services.alerting.rules.condition import Condition, ConditionError, parse
from services.alerting.rules.durations import DAY_US, HOUR_US, MINUTE_US, SECOND_US, DurationUs, MinuteOfDay
from services.alerting.rules.fields import FIELDS

MOST_RULES: Final = 200
MOST_RECEIVERS: Final = 50


def _read_condition(value: Any) -> Condition:
    if isinstance(value, Condition):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("condition", "is no condition; write text, as after WHERE in SQL")
    try:
        return parse(value)
    except ConditionError as error:
        places = [(problem.offset, problem.message) for problem in error.problems]
        raise PydanticCustomError("condition", "{what}", {"what": str(error), "places": places}) from error


def _read_zone(value: Any) -> str:
    try:
        if not isinstance(value, str):
            raise TypeError
        ZoneInfo(value)
    except (TypeError, ValueError, OSError, LookupError) as error:
        raise PydanticCustomError("zone", "is no time zone; write one as Europe/Berlin or UTC") from error
    return value


Checked = Annotated[Condition, BeforeValidator(_read_condition), PlainSerializer(lambda condition: condition.text)]
Zone = Annotated[str, BeforeValidator(_read_zone)]
Text = Annotated[str, StringConstraints(max_length=500)]
Owner = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


class Budget(_Closed):
    """How many calls a rule may make, whatever the number of customers. Beyond it alerts are recorded and counted."""

    per_hour: int = Field(20, ge=1, le=100_000)
    per_day: int = Field(100, ge=1, le=1_000_000)


class Group(_Closed):
    """When alerts share a call: an incident that hits thousands is one call."""

    above: int = Field(10, ge=0, le=1_000, description="Calls about one customer each, within `within`.")
    within_us: DurationUs = Field(10 * MINUTE_US, alias="within", ge=SECOND_US, le=DAY_US)
    wait_us: DurationUs = Field(
        SECOND_US, alias="wait", le=HOUR_US, description="How long the first waits for company."
    )


class QuietHours(_Closed):
    """When nobody is called. What fires then waits for the end, together."""

    from_minute: MinuteOfDay = Field(alias="from")
    to_minute: MinuteOfDay = Field(alias="to")
    zone: Zone = "UTC"
    critical: bool = Field(False, description="Hold back calls of severity critical too.")

    @model_validator(mode="after")
    def _is_not_always(self) -> Self:
        if self.from_minute == self.to_minute:
            raise PydanticCustomError("quiet", "from and to are the same; leave quiet_hours out or give them a length")
        return self


class Called(_Closed):
    """What a rule and a focus have in common: who is called, how often, when not."""

    name: Name
    description: Text = ""
    severity: Severity = "warning"
    owner: Owner
    receivers: tuple[Name, ...] = Field(min_length=1, max_length=10)
    cooldown_us: DurationUs = Field(7 * DAY_US, alias="cooldown")
    budget: Budget = Budget()
    group: Group = Group()
    quiet_hours: QuietHours | None = None
    answer_within_us: DurationUs = Field(
        0, alias="answer_within", description="When a case should have been answered; 0s: no time set."
    )
    cost_of_contact: float = Field(0.0, ge=0, le=1e9, allow_inf_nan=False, description="Currency units.")

    @property
    def held_out(self) -> float:
        """Share of alerts that is recorded and not sent, 0 to 1."""
        return 0.0

    def definition(self) -> str:
        """All of it as JSON, for table ``alert_rules``. Receivers stand in it by name alone: no secret, no address."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, ensure_ascii=False)


class Rule(Called):
    """When somebody must hear about a customer."""

    when: Checked
    until: Checked | None = Field(None, description="Default: when `when` does not hold.")
    for_us: DurationUs = Field(0, alias="for", description="`when` must have held so long before it fires.")
    keep_firing_for_us: DurationUs = Field(
        0, alias="keep_firing_for", description="It fires at least so long before it resolves."
    )
    hold_out: float = Field(0.0, ge=0, le=0.5, description="Share of alerts that is recorded and not sent.")

    @property
    def held_out(self) -> float:
        return self.hold_out


class Focus(Called):
    """When somebody must hear that a part of the company is felt differently than it was."""

    by: Literal["touchpoint", "channel"]
    measure: Literal["felt", "haphazardness"]
    window_us: DurationUs = Field(DAY_US, alias="window", ge=HOUR_US)
    against_us: DurationUs = Field(28 * DAY_US, alias="against", ge=DAY_US)
    customers_at_least: int = Field(50, ge=1)
    change_at_least: float = Field(
        0.1, gt=0, le=2, description="Worse by so much: felt falls (-1 to 1), haphazardness rises (0 to 1)."
    )
    standard_errors: float = Field(3.0, gt=0, le=100, description="And by so many standard errors.")


class SurveyGuard(_Closed):
    """When a customer is not to be asked."""

    days_between: float = Field(14.0, ge=0, le=3650, description="Days since the last survey.")
    complaint_open: bool = Field(True, description="Not while a complaint is open.")
    feedback_unanswered: bool = Field(True, description="Not while unhappy feedback waits for an answer.")


class RuleSet(_Closed):
    """All that the rules file says."""

    version: Literal[1]
    receivers: tuple[Receiver, ...] = Field((), max_length=MOST_RECEIVERS)
    rules: tuple[Rule, ...] = Field((), max_length=MOST_RULES)
    focus: tuple[Focus, ...] = Field((), max_length=MOST_RULES)
    survey_guard: SurveyGuard = SurveyGuard()

    @cached_property
    def rules_version(self) -> str:
        """32 hexadecimal digits that follow from what the file says, not from how it is laid out."""
        said = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, ensure_ascii=False)
        return stable_id("rules", said)

    @cached_property
    def by_name(self) -> dict[str, Rule | Focus]:
        """Rules and focus: their names are apart."""
        named: dict[str, Rule | Focus] = {rule.name: rule for rule in self.rules}
        return named | {focus.name: focus for focus in self.focus}

    @cached_property
    def receivers_by_name(self) -> dict[str, Receiver]:
        return {receiver.name: receiver for receiver in self.receivers}


def sweep_condition(rule: Rule, segment_sql: str = "''", columns: dict[str, str] | None = None) -> tuple[str, str]:
    """When a rule would be entered and left, as ClickHouse text over view ``customer_scores``: each 1 or 0.

    The first takes ``until`` into account: it is 0 where that holds. ``segment_sql`` says where the segment comes from;
    ``columns`` overrides where other fields stand.
    """
    places = {name: field.column or segment_sql for name, field in FIELDS.items()} | (columns or {})
    holds = rule.when.holds_sql(places)
    if rule.until is None:
        return holds, rule.when.fails_sql(places)
    leaves = rule.until.holds_sql(places)
    return f"({holds} AND NOT {leaves})", leaves


__all__ = [
    "NAME",
    "Budget",
    "Called",
    "Focus",
    "Group",
    "QuietHours",
    "Rule",
    "RuleSet",
    "SurveyGuard",
    "sweep_condition",
]
