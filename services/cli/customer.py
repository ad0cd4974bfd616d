"""``touchstone customer``: one customer's story, with how each touchpoint moved the score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from infra.clickhouse.client import ClickHouse
from infra.clickhouse.inferred import Inference, inferred_of
from schemas.scalars import MICROS
from schemas.tables import DATABASE, DIMENSIONS
from services.cli.console import CommandError, ExitCode, paint, print_json, print_table, say
from services.cli.reading import reader
from services.cli.settings import load_settings
from services.cli.visible import visible
from services.scoring.story import FeltEvent, Moment, tell

SCORES: Final = (
    "customer_id",
    "score",
    *DIMENSIONS,
    "confidence",
    "fast_score",
    "trend",
    "volatility",
    "risk",
    "risk_band",
    "risk_confidence",
    "expected_spend",
    "value_at_risk",
    "reasons",
    "open_complaints",
    "events",
    "felt_events",
    "spend",
    "first_event_at",
    "last_event_at",
    "last_activity_at",
)
_FACTS: Final = (
    "occurred_at",
    "kind",
    "touchpoint",
    "channel",
    "outcome",
    "metric",
    "rating",
    "emotion",
    "amount_micros",
    "currency",
    "case_id",
    "text",
)
_FELT: Final = tuple(f"{dimension}_{part}" for part in ("valence", "weight") for dimension in DIMENSIONS)
MAX_EVENTS: Final = 100_000
"""The story is told from the first event on; whoever has more is told from here."""
TEXT_CHARS: Final = 60
INFERRED_SHOWN: Final = 3
"""Inferences that a person is shown, the latest; the document has all."""

Teller = Callable[[Sequence[FeltEvent]], list[Moment]]


@dataclass(frozen=True, slots=True)
class Step:
    """One touchpoint of a story."""

    facts: dict[str, Any]
    moment: Moment


@dataclass(frozen=True, slots=True)
class OpenCase:
    """A complaint without an answer."""

    case_id: str
    opened_at: datetime
    touchpoint: str
    text: str


@dataclass(frozen=True, slots=True)
class Story:
    """All there is to tell of a customer; ``steps`` oldest first."""

    scores: dict[str, Any]
    steps: list[Step]
    open_cases: list[OpenCase]
    inferred: list[Inference]
    """How journeys that nobody rated may have felt, the latest first; no part of the scores."""


def customer(
    customer_id: Annotated[str, typer.Argument(help="The customer's id, as the events have it.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many touchpoints, the latest.")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Tell one customer's story: score and risk as of now, why, what is open, and what each touchpoint did.

    What `touchstone infer` found stands apart, marked as inferred.

    touchstone customer C-10482

    Exit code 0: done; 1: no event of that customer is known; 3: ClickHouse cannot be reached.
    """
    settings = load_settings()
    with reader(settings) as client:
        story = read_story(client, customer_id)
    if as_json:
        print_json(_document(story, limit))
    else:
        print_story(story, limit)


def read_story(client: ClickHouse, customer_id: str, teller: Teller = tell) -> Story:
    """Everything about a customer. CommandError if none is known by that id; raises as ClickHouse does."""
    rows = client.query(
        f"SELECT {', '.join(SCORES)} FROM {DATABASE}.customer_scores WHERE customer_id = %(id)s", {"id": customer_id}
    )
    if not rows:
        raise CommandError(
            f"no event of customer {visible(customer_id)!r} is known; an event just sent takes a second or two",
            ExitCode.NO,
        )
    events = client.query(
        f"SELECT {', '.join((*_FACTS, *_FELT))} FROM {DATABASE}.touchpoints FINAL "
        "WHERE customer_id = %(id)s AND kind != 'review_due' "
        f"ORDER BY occurred_at DESC, log_partition DESC, log_offset DESC LIMIT {MAX_EVENTS}",
        {"id": customer_id},
    )[::-1]
    facts = [dict(zip(_FACTS, event, strict=False)) for event in events]
    moments = teller([_felt(event) for event in events])
    steps = [Step(fact, moment) for fact, moment in zip(facts, moments, strict=True)]
    return Story(dict(zip(SCORES, rows[0], strict=True)), steps, _open_cases(facts), inferred_of(client, customer_id))


def _felt(event: Sequence[Any]) -> FeltEvent:
    valence = event[len(_FACTS) : len(_FACTS) + len(DIMENSIONS)]
    weight = event[len(_FACTS) + len(DIMENSIONS) :]
    return FeltEvent(_us(event[0]), tuple(valence), tuple(weight))


def _us(moment: datetime) -> int:
    since = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * MICROS + since.microseconds


def _open_cases(facts: Iterable[dict[str, Any]]) -> list[OpenCase]:
    """Complaints by case, without those that were resolved after they were opened last."""
    opened: dict[str, OpenCase] = {}
    for fact in facts:
        case_id = fact["case_id"]
        if fact["kind"] == "complaint_opened":
            opened[case_id] = OpenCase(case_id, fact["occurred_at"], fact["touchpoint"], fact["text"])
        elif fact["kind"] == "complaint_resolved":
            opened.pop(case_id, None)
    return list(opened.values())


def print_story(story: Story, limit: int) -> None:
    """For a person, on stdout."""
    scores = story.scores
    colour = {"high": "red", "elevated": "yellow"}.get(scores["risk_band"], "green")
    print(f"customer {visible(scores['customer_id'])}")
    dimensions = ", ".join(f"{name} {scores[name]:.0f}" for name in DIMENSIONS)
    print(f"score    {scores['score']:.0f} of 100 ({dimensions}), confidence {scores['confidence']:.2f}")
    direction = "getting worse" if scores["trend"] < -0.5 else "getting better" if scores["trend"] > 0.5 else "steady"
    print(f"         {direction} (trend {scores['trend']:+.1f}), volatility {scores['volatility']:.2f}")
    risk = paint(f"{scores['risk']:.0%} ({scores['risk_band']})", colour)
    print(f"risk     {risk} not to come back, value at risk {scores['value_at_risk']:,.2f}")
    for reason, log_odds in scores["reasons"]:
        print(f"         {log_odds:+.2f}  {visible(reason)}")
    for case in story.open_cases:
        said = f': "{visible(case.text, TEXT_CHARS)}"' if case.text else ""
        print(
            f"open     {visible(case.case_id) or 'complaint'} since {case.opened_at:%Y-%m-%d}, {case.touchpoint}{said}"
        )
    for found in story.inferred[:INFERRED_SHOWN]:
        print(_inferred(found))
    if len(story.inferred) > INFERRED_SHOWN:
        print(f"         and {len(story.inferred) - INFERRED_SHOWN:,} earlier ones, in view inferred_journeys")
    span = f"{scores['first_event_at']:%Y-%m-%d} to {scores['last_event_at']:%Y-%m-%d}"
    print(f"events   {scores['events']:,} from {span}, net spend {scores['spend']:,.2f}\n")
    shown = story.steps[-limit:]
    print_table(
        ["when", "what happened", "where", "what is known of it", "moved", "score"], [_line(step) for step in shown]
    )
    if len(story.steps) > len(shown):
        say(f"{len(story.steps) - len(shown):,} earlier ones; --limit shows more")


def _inferred(found: Inference) -> str:
    name = visible(found.journey or found.last_touchpoint)
    why = f": {visible(found.reasons[0][0])}" if found.reasons else ""
    silence = "did not answer" if found.asked else "was not asked"
    return (
        f"inferred {found.chance_bad:.0%} chance of a bad rating ({found.average_chance:.0%} on average) for {name} "
        f"{visible(found.journey_id)} of {found.happened_at:%Y-%m-%d}{why}\n"
        f"         not felt: the customer {silence}; no part of score or risk"
    )


def _line(step: Step) -> list[str]:
    facts, moment = step.facts, step.moment
    moved = moment.moved
    return [
        f"{facts['occurred_at']:%Y-%m-%d %H:%M}",
        facts["kind"],
        visible(facts["touchpoint"], 30),
        visible(_known(facts), 90),
        f"{moved:+.1f}" if abs(moved) >= 0.05 else "",
        f"{moment.score_after:.0f}",
    ]


def _known(facts: dict[str, Any]) -> str:
    known = [facts["outcome"]]
    if facts["rating"] is not None:
        known.append(f"{facts['metric']} {facts['rating']:g}")
    known.append(facts["emotion"])
    if facts["amount_micros"] is not None:
        known.append(f"{facts['amount_micros'] / MICROS:,.2f} {facts['currency']}")
    if facts["text"]:
        known.append(f'"{visible(facts["text"], TEXT_CHARS)}"')
    return ", ".join(filter(None, known))


def _document(story: Story, limit: int) -> dict[str, Any]:
    return {
        **{name: _json(value) for name, value in story.scores.items()},
        "reasons": [{"reason": reason, "log_odds": log_odds} for reason, log_odds in story.scores["reasons"]],
        "open_cases": [{name: _json(value) for name, value in asdict(case).items()} for case in story.open_cases],
        "inferred_never_felt": [
            {
                **{name: _json(value) for name, value in asdict(found).items()},
                "reasons": [{"reason": reason, "log_odds": log_odds} for reason, log_odds in found.reasons],
            }
            for found in story.inferred
        ],
        "touchpoints": [
            {
                **{name: _json(value) for name, value in step.facts.items()},
                "score_before": step.moment.score_before,
                "score_after": step.moment.score_after,
            }
            for step in story.steps[-limit:]
        ],
    }


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
