"""The event at the HTTP edge: one pydantic model per kind, told apart by ``kind``.

Each kind has exactly the fields that make sense for it; anything else is refused by name. Times are timezone-aware,
money is a decimal, and nothing is coerced silently.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

from schemas.emotions import EMOTIONS
from schemas.metrics import METRICS

MAX_ID_CHARS: Final = 255
MAX_NAME_CHARS: Final = 100
MAX_TEXT_CHARS: Final = 10_000
MAX_ATTRIBUTES: Final = 32
MAX_ATTRIBUTE_KEY_CHARS: Final = 64
MAX_ATTRIBUTE_VALUE_CHARS: Final = 1_000
MAX_AMOUNT: Final = Decimal("9000000000000")  # times 10^6 it still fits a signed 64-bit integer

_NO_CONTROLS = r"^[^\x00-\x1f\x7f]+$"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _since_epoch(value: datetime) -> datetime:
    if value < _EPOCH:
        raise ValueError("must not be before 1970-01-01T00:00:00Z")
    return value


Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS, pattern=_NO_CONTROLS)]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[a-z0-9_]+([.-][a-z0-9_]+)*$"),
]
SourceName = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[A-Za-z0-9_.:/-]+$")
]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS, pattern=r"^[^\x00]*$")]
Time = Annotated[AwareDatetime, AfterValidator(_since_epoch)]
AttributeKey = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_ATTRIBUTE_KEY_CHARS, pattern=_NO_CONTROLS)
]
AttributeValue = Annotated[
    str, StringConstraints(max_length=MAX_ATTRIBUTE_VALUE_CHARS, pattern=r"^[^\x00]*$")
]
Unit = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Amount = Annotated[Decimal, Field(ge=0, le=MAX_AMOUNT, decimal_places=6, allow_inf_nan=False)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Emotion = Literal[EMOTIONS]
Metric = Literal[tuple(METRICS)]
Outcome = Literal["succeeded", "failed", "abandoned"]


class _Event(BaseModel):
    """Fields that every event carries."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)

    event_id: Id = Field(description="The sender's own id: a UUID or any string; sending it again changes nothing.")
    customer_id: Id = Field(description="Whose experience this is.")
    occurred_at: Time = Field(description="When it happened, ISO 8601 with a UTC offset.")
    source: SourceName = Field(description="The system that sends it.")
    touchpoint: Name = Field(description="Where it happened, as a dotted name: support.phone, delivery, checkout.")
    channel: Name | None = Field(default=None, description="How: web, app, phone, store, ...")
    journey_id: Id | None = Field(default=None, description="The journey this is a step of.")
    text: Text | None = Field(default=None, description="The customer's own words.")
    attributes: dict[AttributeKey, AttributeValue] = Field(
        default_factory=dict, max_length=MAX_ATTRIBUTES, description="Whatever else should be kept."
    )


class _Felt(_Event):
    """Adds a stated or detected emotion."""

    emotion: Emotion | None = Field(default=None, description="What the customer felt.")
    intensity: Unit | None = Field(default=None, description="How strongly, above 0 up to 1; needs emotion.")
    confidence: Unit | None = Field(default=None, description="How sure the source is; needs emotion.")

    @model_validator(mode="after")
    def _emotion_before_its_measures(self) -> _Felt:
        if self.emotion is None and (self.intensity is not None or self.confidence is not None):
            raise ValueError("intensity and confidence need an emotion")
        return self


class _Rated(_Felt):
    """Adds a rating on a published scale."""

    metric: Metric | None = Field(default=None, description="Scale of the rating; both or neither.")
    rating: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="nps 0..10, csat 1..5, ces 1..7, stars 1..5, sentiment -1..1."
    )

    @model_validator(mode="after")
    def _rating_on_its_scale(self) -> _Rated:
        if (self.metric is None) != (self.rating is None):
            raise ValueError("metric and rating come together")
        if self.metric is not None and self.rating is not None:
            scale = METRICS[self.metric]
            if not scale.low <= self.rating <= scale.high:
                raise ValueError(f"rating must be {scale.low:g}..{scale.high:g} for {self.metric}")
            if scale.whole and self.rating != int(self.rating):
                raise ValueError(f"rating must be a whole number for {self.metric}")
        return self


class _Paid(_Event):
    """Adds money."""

    amount: Amount | None = Field(default=None, description="A decimal, not negative; needs currency.")
    currency: Currency | None = Field(default=None, description="ISO 4217 code; needs amount.")

    @model_validator(mode="after")
    def _money_is_complete(self) -> _Paid:
        if (self.amount is None) != (self.currency is None):
            raise ValueError("amount and currency come together")
        return self


class Interaction(_Rated):
    """Something the customer went through at a touchpoint."""

    kind: Literal["interaction"]
    outcome: Outcome | None = Field(default=None, description="Did the customer get what they came for?")
    case_id: Id | None = None


class SurveyResponse(_Rated):
    """An answered survey; the rating is required."""

    kind: Literal["survey_response"]
    metric: Metric = Field(description="Scale of the rating.")
    rating: Annotated[float, Field(allow_inf_nan=False)] = Field(description="The answer on that scale.")
    case_id: Id | None = None


class EmotionFelt(_Felt):
    """A feeling stated by the customer or detected by another system."""

    kind: Literal["emotion"]
    emotion: Emotion = Field(description="What the customer felt.")
    case_id: Id | None = None


class ComplaintOpened(_Felt):
    """The customer complains; open until a complaint_resolved with the same case_id."""

    kind: Literal["complaint_opened"]
    case_id: Id | None = None


class ComplaintResolved(_Rated):
    """A complaint comes to its end; outcome says whether it ended well for the customer."""

    kind: Literal["complaint_resolved"]
    case_id: Id | None = None
    outcome: Outcome | None = None


class Incident(_Felt):
    """Something failed the customer: an outage, a late delivery."""

    kind: Literal["incident"]
    case_id: Id | None = None


class FollowUp(_Felt):
    """Somebody came back to the customer about a complaint or feedback."""

    kind: Literal["follow_up"]
    outcome: Outcome | None = None
    case_id: Id | None = None


class SurveySent(_Event):
    """The customer was asked for feedback."""

    kind: Literal["survey_sent"]
    metric: Metric | None = None


class Outreach(_Event):
    """The customer was contacted: a campaign, a call, a letter."""

    kind: Literal["outreach"]


class Renewal(_Paid):
    """The customer stays: a contract or subscription was renewed."""

    kind: Literal["renewal"]


class Cancellation(_Paid):
    """The customer leaves a contract or subscription."""

    kind: Literal["cancellation"]


class Subscription(_Paid):
    """The customer subscribes, for the first time or again."""

    kind: Literal["subscription"]


class Review(_Event):
    """The customer says something in public."""

    kind: Literal["review"]
    metric: Literal["stars", "sentiment"] | None = None
    rating: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _rating_on_its_scale(self) -> Review:
        if (self.metric is None) != (self.rating is None):
            raise ValueError("metric and rating come together")
        if self.metric is not None and self.rating is not None:
            scale = METRICS[self.metric]
            if not scale.low <= self.rating <= scale.high:
                raise ValueError(f"rating must be {scale.low:g}..{scale.high:g} for {self.metric}")
        return self


class Referral(_Event):
    """The customer recommends the company to somebody."""

    kind: Literal["referral"]


class Purchase(_Paid):
    """The customer buys."""

    kind: Literal["purchase"]


class Refund(_Paid):
    """Money goes back to the customer; the amount is not negative."""

    kind: Literal["refund"]


TouchpointIn = Annotated[
    Interaction
    | SurveyResponse
    | EmotionFelt
    | ComplaintOpened
    | ComplaintResolved
    | Incident
    | FollowUp
    | SurveySent
    | Outreach
    | Renewal
    | Cancellation
    | Subscription
    | Review
    | Referral
    | Purchase
    | Refund,
    Field(discriminator="kind"),
]

EVENT: Final[TypeAdapter[Any]] = TypeAdapter(TouchpointIn)
"""Validates one event; build once, it is expensive."""
