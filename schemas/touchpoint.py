"""The event at the HTTP edge: one closed type per kind, told apart by ``kind``.

Each kind has exactly the fields that make sense for it; anything else is refused by name, nothing is coerced.
What a field alone can tell is checked by pydantic; `to_record` checks what takes two, and makes the record for
the log.
An optional member may be null, which says the same as leaving it out.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired, get_args, get_type_hints

from pydantic import ConfigDict, FailFast, Field, SkipValidation, StringConstraints, TypeAdapter, WithJsonSchema
from typing_extensions import TypedDict

from schemas.encode import Record
from schemas.identity import MAX_SENDER_ID_CHARS, identify
from schemas.metrics import METRICS
from schemas.reasons import Reason
from schemas.refusals import Problem, RefusedEventError, missing
from schemas.scalars import parse_micros, parse_time_us

MAX_ID_CHARS: Final = MAX_SENDER_ID_CHARS
MAX_NAME_CHARS: Final = 100
MAX_TEXT_CHARS: Final = 10_000
MAX_TIME_CHARS: Final = 40
MAX_ATTRIBUTES: Final = 32
MAX_ATTRIBUTE_KEY_CHARS: Final = 64
MAX_ATTRIBUTE_VALUE_CHARS: Final = 1_000
FUTURE_REFUSED_US: Final = 600 * 1_000_000
"""Who is further ahead of the clock than this has a wrong one. Ingest can be set otherwise."""

_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]+$"
_NO_NUL: Final = r"^[^\x00]*$"
_DOTTED: Final = r"^[a-z0-9_]+([.-][a-z0-9_]+)*$"

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS, pattern=_NO_CONTROLS)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS, pattern=_DOTTED)]
SourceName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[A-Za-z0-9_.:/-]+$")]
Time = Annotated[
    str,
    StringConstraints(max_length=MAX_TIME_CHARS),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": "^(19[7-9][0-9]|20[0-9]{2})-",
            "examples": ["2026-03-01T09:30:00Z"],
        }
    ),
]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS, pattern=_NO_NUL)]
AttributeKey = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ATTRIBUTE_KEY_CHARS, pattern=_NO_CONTROLS)]
AttributeValue = Annotated[str, StringConstraints(max_length=MAX_ATTRIBUTE_VALUE_CHARS, pattern=_NO_NUL)]
Unit = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Rating = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[
    SkipValidation[int | float | str | None],  # exactness needs the value as written; see scalars.parse_micros
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,13}(\.[0-9]{0,6})?$"},
                {"type": "number", "minimum": 0, "maximum": 9_000_000_000_000},
                {"type": "null"},
            ],
            "examples": ["49.90"],
        }
    ),
]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Outcome = Literal["succeeded", "failed", "abandoned"]
Metric = Literal["nps", "csat", "ces", "stars", "sentiment"]
Emotion = Literal[
    "irritated",
    "hurried",
    "neglected",
    "unhappy",
    "unsatisfied",
    "stressed",
    "disappointed",
    "frustrated",
    "interested",
    "energetic",
    "stimulated",
    "exploratory",
    "indulgent",
    "trusting",
    "valued",
    "cared_for",
    "focused",
    "safe",
    "happy",
    "pleased",
]

_EMOTION: Final = Field(description="What the customer felt.")
_METRIC: Final = Field(description="Scale of the rating; both or neither.")
_RATING: Final = Field(description="nps 0..10, csat 1..5, ces 1..7, stars 1..5, sentiment -1..1.")


class _Event(TypedDict):
    """Fields that every event carries."""

    event_id: Annotated[Id, Field(description="The sender's id, a UUID or any string; sent again it adds nothing.")]
    customer_id: Annotated[Id, Field(description="Whose experience this is.")]
    occurred_at: Annotated[Time, Field(description="When it happened, ISO 8601 with a UTC offset.")]
    source: Annotated[SourceName, Field(description="The system that sends it.")]
    touchpoint: Annotated[Name, Field(description="Where it happened, a dotted name: support.phone, checkout.")]
    channel: NotRequired[Annotated[Name | None, Field(description="How: web, app, phone, store, ...")]]
    journey_id: NotRequired[Annotated[Id | None, Field(description="The journey this is a step of.")]]
    journey: NotRequired[Annotated[Name | None, Field(description="What sort of journey: onboarding, claim, return.")]]
    text: NotRequired[Annotated[Text | None, Field(description="The customer's own words.")]]
    attributes: NotRequired[
        Annotated[
            Annotated[dict[AttributeKey, AttributeValue], Field(max_length=MAX_ATTRIBUTES)] | None,
            Field(description="Whatever else should be kept."),
        ]
    ]


class _Strength(TypedDict, total=False):
    intensity: Annotated[Unit | None, Field(description="How strongly, above 0 up to 1; needs emotion.")]
    confidence: Annotated[Unit | None, Field(description="How sure the source is; needs emotion.")]


class _Felt(_Strength, total=False):
    emotion: Annotated[Emotion | None, _EMOTION]


class _Rated(TypedDict, total=False):
    metric: Annotated[Metric | None, _METRIC]
    rating: Annotated[Rating | None, _RATING]


class _Paid(TypedDict, total=False):
    amount: Annotated[Amount, Field(description="Decimal with up to six decimals, not negative; needs currency.")]
    currency: Annotated[Currency | None, Field(description="ISO 4217 code; needs amount.")]


class _InCase(TypedDict, total=False):
    case_id: Annotated[Id | None, Field(description="The complaint or ticket this belongs to.")]


class _Ended(TypedDict, total=False):
    outcome: Annotated[Outcome | None, Field(description="Did the customer get what they came for?")]


class Interaction(_Event, _Felt, _Rated, _Ended, _InCase):
    """Something the customer went through at a touchpoint."""

    kind: Literal["interaction"]


class SurveyResponse(_Event, _Felt, _InCase):
    """An answered survey; the rating is required."""

    kind: Literal["survey_response"]
    metric: Annotated[Metric, _METRIC]
    rating: Annotated[Rating, _RATING]


class EmotionFelt(_Event, _Strength, _InCase):
    """A feeling stated by the customer or detected by another system."""

    kind: Literal["emotion"]
    emotion: Annotated[Emotion, _EMOTION]


class ComplaintOpened(_Event, _Felt, _InCase):
    """The customer complains; open until a complaint_resolved with the same case_id."""

    kind: Literal["complaint_opened"]


class ComplaintResolved(_Event, _Felt, _Rated, _Ended, _InCase):
    """A complaint comes to its end; outcome says whether it ended well for the customer."""

    kind: Literal["complaint_resolved"]


class Incident(_Event, _Felt, _InCase):
    """Something failed the customer: an outage, a late delivery."""

    kind: Literal["incident"]


class FollowUp(_Event, _Felt, _Ended, _InCase):
    """Somebody came back to the customer about a complaint or feedback."""

    kind: Literal["follow_up"]


class SurveySent(_Event):
    """The customer was asked for feedback."""

    kind: Literal["survey_sent"]
    metric: NotRequired[Annotated[Metric | None, Field(description="Scale that was asked for.")]]


class Outreach(_Event):
    """The customer was contacted: a campaign, a call, a letter."""

    kind: Literal["outreach"]


class Renewal(_Event, _Paid):
    """The customer stays: a contract or subscription was renewed."""

    kind: Literal["renewal"]


class Cancellation(_Event, _Paid):
    """The customer leaves a contract or subscription."""

    kind: Literal["cancellation"]


class Subscription(_Event, _Paid):
    """The customer subscribes, for the first time or again."""

    kind: Literal["subscription"]


class Review(_Event):
    """The customer says something in public."""

    kind: Literal["review"]
    metric: NotRequired[Annotated[Literal["stars", "sentiment"] | None, _METRIC]]
    rating: NotRequired[Annotated[Rating | None, Field(description="stars 1..5, sentiment -1..1.")]]


class Referral(_Event):
    """The customer recommends the company to somebody."""

    kind: Literal["referral"]


class Purchase(_Event, _Paid):
    """The customer buys."""

    kind: Literal["purchase"]


class Refund(_Event, _Paid):
    """Money goes back to the customer; the amount is not negative."""

    kind: Literal["refund"]


AnyEvent = (
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
    | Refund
)
TouchpointIn = Annotated[AnyEvent, Field(discriminator="kind")]

KIND_TYPES: Final[dict[str, type]] = {
    get_args(get_type_hints(kind_type)["kind"])[0]: kind_type for kind_type in get_args(AnyEvent)
}
"""Event type by kind, for documents and tests."""

_CLOSED: Final = ConfigDict(extra="forbid", strict=True)

EVENT: Final[TypeAdapter[Any]] = TypeAdapter(TouchpointIn, config=_CLOSED)
"""Validates one event; the value is a dict with the members that were sent."""

EVENTS: Final[TypeAdapter[list[Any]]] = TypeAdapter(
    Annotated[list[TouchpointIn], FailFast()], config=ConfigDict(extra="ignore", strict=True)
)
"""Validates many events at once and stops at the first bad one.

Unknown members are dropped, not refused: refusing costs microseconds for each. The caller compares the number of
members that came with those that are left, which tells repeated keys as well, and turns to `EVENT` if they differ.
"""

_SCALES: Final = {name: (scale.low, scale.high, scale.whole) for name, scale in METRICS.items()}


def to_record(event: dict[str, Any], received_at_us: int) -> Record:
    """Make the record for the log out of an event that `EVENT` has validated; takes the dict over.

    Raises `RefusedEventError` for what no field alone can tell: time, money, a rating off its scale.
    """
    get = event.get
    event["received_at"] = received_at_us
    event["occurred_at"] = parse_time_us(event["occurred_at"])
    metric = get("metric")
    rating = get("rating")
    if rating is not None:
        if metric is None:
            raise RefusedEventError(missing("metric", "rating needs the scale it is on"))
        low, high, whole = _SCALES[metric]
        if not low <= rating <= high or (whole and rating % 1):
            raise RefusedEventError(_off_scale(metric))
    elif metric is not None and event["kind"] != "survey_sent":
        raise RefusedEventError(missing("rating", "metric needs a rating on it"))
    if get("emotion") is None and (get("intensity") is not None or get("confidence") is not None):
        raise RefusedEventError(missing("emotion", "intensity and confidence need an emotion"))
    amount = get("amount")
    if amount is not None:
        if get("currency") is None:
            raise RefusedEventError(missing("currency", "amount needs a currency"))
        event["amount_micros"] = parse_micros(amount)
        del event["amount"]
    elif get("currency") is not None:
        raise RefusedEventError(missing("amount", "currency needs an amount"))
    event["event_id"], sender_event_id = identify(event["source"], event["event_id"])
    if sender_event_id is not None:
        event["sender_event_id"] = sender_event_id
    return event


def _off_scale(metric: str) -> Problem:
    scale = METRICS[metric]
    whole = "a whole number " if scale.whole else ""
    detail = f"rating must be {whole}from {scale.low:g} to {scale.high:g} for metric {metric}."
    return Problem(Reason.OUT_OF_RANGE, "/rating", detail)
