"""What a report says in sentences. Each is plain text; nothing in it is markup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from services.learning.activity import DAY_US
from services.learning.evidence import Verdict
from services.learning.measures import Interval
from services.learning.model import LearntModel
from services.learning.moments import Moment, Moments, Outcome
from services.learning.report.content import HeldOut, ReportContent
from services.learning.report.pictures import CALLED, reached
from services.learning.report.style import signed

LAYERS: Final[Mapping[str, str]] = {
    "rhythm": "own rhythm and spend",
    "contact": "other contacts",
    "experience": "what was felt",
}
"""Layers that every fit knows of, in order, and what is in them."""
_NOT_THERE: Final[Mapping[str, str]] = {
    "rhythm": "No customer's rhythm differs from another's, so it could not be tried.",
    "contact": "There are no events but those that count as coming back, so contacts could not be tried.",
    "experience": (
        "Nothing was felt in this history, or no feelings were given to the fit: experience could not be tried, and "
        "the risk rests on behaviour alone. Send interactions with outcomes, survey responses, emotions and complaints."
    ),
}
OUTCOME_TITLES: Final[Mapping[Outcome, str]] = {
    "left": "Stay: did not come back",
    "said_badly": "Say: a bad review",
    "said_well": "Say: a good review or a referral",
    "spent": "Spend",
}


def day(days: float) -> str:
    """A date from days since 1970."""
    return (datetime.fromtimestamp(0, UTC) + timedelta(days=days)).date().isoformat()


def moment(at_us: int) -> str:
    """A UTC time to the minute."""
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at_us)).strftime("%Y-%m-%d %H:%M UTC")


def interval(found: Interval, digits: int = 4, times: float = 1.0) -> str:
    """Mean, and 5th to 95th percentile in brackets."""
    mean, low, high = (signed(x * times, digits) for x in (found.mean, found.low, found.high))
    return f"{mean} [{low} to {high}]"


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer, and what is to be said of it; ``verdict`` None: it was not tried."""

    name: str
    about: str
    verdict: Verdict | None
    sentence: str


def layer_rows(model: LearntModel) -> tuple[LayerRow, ...]:
    """Every layer that was tried, or that a fit knows of, with what it added."""
    by_name = {verdict.layer: verdict for verdict in model.judged.verdicts}
    names = [*LAYERS, *(name for name in by_name if name not in LAYERS)]
    return tuple(
        LayerRow(name, LAYERS.get(name, ""), by_name.get(name), _layer_sentence(model, name, by_name.get(name)))
        for name in names
    )


def _layer_sentence(model: LearntModel, name: str, verdict: Verdict | None) -> str:
    if verdict is None:
        if model.judged.by == "nothing":
            return "Not tried: too little history to judge any evidence by."
        return _NOT_THERE.get(name, "Not tried.")
    gain = f"{interval(verdict.gain)} in log-loss a customer"
    if verdict.kept:
        return (
            f"Kept: it made predictions better by {gain} (AUC {verdict.below.auc:.3f} to {verdict.measured.auc:.3f}, "
            f"Brier {verdict.below.brier:.4f} to {verdict.measured.brier:.4f})."
        )
    added = "Experience added nothing" if name == "experience" else "It added nothing"
    return f"Left out: {added[0].lower()}{added[1:]} that could be told from chance ({gain})."


def judged_by(model: LearntModel) -> str:
    """How layers were judged."""
    return {
        "time": "Judged on other customers than those learnt from, at dates after the windows learnt from had ended.",
        "customers": "History is too short to judge by time: judged on other customers only, which is less strict.",
        "nothing": "Nothing was judged: there is too little history, or only one outcome. The base judges alone.",
    }[model.judged.by]


def in_short(content: ReportContent) -> tuple[str, ...]:
    """The few sentences that matter most."""
    model = content.model
    kinds = " or ".join(kind.replace("_", " ") for kind in model.kinds)
    said = [
        f"The risk is the chance that a customer does not come back ({kinds}) within {model.horizon_days} days, learnt "
        f"from {model.span.customers:,} customers between {day(model.span.first_day)} and "
        f"{day(model.span.as_of_us / DAY_US)}."
    ]
    kept = [LAYERS.get(name, name) for name in model.judged.kept]
    said.append(
        f"Beyond the base model these made predictions better: {', '.join(kept)}."
        if kept
        else "Nothing made predictions better than the base model, which judges alone."
    )
    experience = layer_rows(model)[list(LAYERS).index("experience")]
    if not (experience.verdict and experience.verdict.kept):
        said.append(experience.sentence if experience.verdict is None else _no_gain(experience.verdict))
    if content.held_out is not None and content.held_out.both_outcomes:
        said.append(_reached(content.held_out))
    if content.moments is not None and content.moments.tried:
        said.append(found_in_words(content.moments))
    if content.drift is not None:
        said.append(content.drift.sentence)
    return tuple(said)


def _no_gain(verdict: Verdict) -> str:
    return (
        "Experience added nothing to the prediction that could be told from chance "
        f"({interval(verdict.gain)} in log-loss a customer), and is left out of the risk."
    )


def _reached(held_out: HeldOut) -> str:
    return (
        f"Calling the {CALLED:.0%} of customers most at risk reaches {reached(held_out):.0%} of those who leave "
        f"({held_out.label.mean():.0%} of all left)."
    )


def found_in_words(moments: Moments) -> str:
    """How much of what was tried is a finding, and the first of them."""
    # Of findings, one that does not hold against others at the same touchpoint is no headline.
    left = sorted((m for m in moments.of("left") if m.found), key=lambda m: m.holds_there is False)
    if not left:
        return (
            f"No feeling at any touchpoint goes with leaving or staying beyond the base rate, as far as "
            f"{moments.tried} comparisons can tell."
        )
    return f"What goes with leaving or staying most surely: {moment_sentence(left[0])}"


def moment_sentence(found: Moment, currency: str = "") -> str:
    """One comparison in words. It says "went with", never "because"."""
    where = found.touchpoint or "any touchpoint"
    journey = f" in journey {found.journey}" if found.journey else ""
    effect = found.effect
    who = f"of {effect.customers:,} customers who felt {where}{journey} {found.feeling}"
    if found.outcome == "spent":
        unit = f" {currency}" if currency else ""
        return (
            f"{who}, each spent {effect.observed:,.2f}{unit} a horizon, {effect.expected:,.2f} were to be expected "
            f"({interval(effect.difference, 2)})."
        )
    did = {"left": "did not come back", "said_badly": "said something bad", "said_well": "said something good"}
    return (
        f"{who}, {effect.observed:.1%} {did[found.outcome]}, {effect.expected:.1%} were to be expected "
        f"({interval(effect.difference, 1, 100.0)} points)."
    )


def amount(value: float) -> str:
    """Money with two decimals and a true minus."""
    return f"{value:,.2f}".replace("-", "\N{MINUS SIGN}")
