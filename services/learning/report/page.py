"""A report as HTML and PNG bytes: pure, nothing is read or written."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from services.learning.activity import DAY_US
from services.learning.measures import SURE, Quality, quality
from services.learning.model import LearntModel
from services.learning.moments import OUTCOMES
from services.learning.report import pictures as draw
from services.learning.report import words
from services.learning.report.content import HeldOut, ReportContent
from services.learning.report.style import signed
from services.learning.report.template import PAGE, STYLE

MOST_EXAMPLES: Final = 5
MOST_ROWS: Final = 60
"""Of comparisons that found nothing, by outcome."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG, and what it says for who cannot see it."""

    png: bytes
    says: str

    @property
    def base64(self) -> str:
        return b64encode(self.png).decode("ascii")


@dataclass(frozen=True, slots=True)
class Report:
    """The page, whole in itself, and its pictures by name."""

    html: str
    pictures: Mapping[str, Picture]


def render(content: ReportContent) -> Report:
    """Draw the pictures and fill the page. Text from outside is escaped."""
    drawn = _pictures(content)
    held_out, moments, model = content.held_out, content.moments, content.model
    by_outcome = []
    for outcome in OUTCOMES:
        mine = [m for m in moments.moments if m.outcome == outcome] if moments else []
        if mine:
            others = [m for m in mine if not m.found]
            by_outcome.append(
                (outcome, words.OUTCOME_TITLES[outcome], [m for m in mine if m.found], others[:MOST_ROWS])
            )
    html = _TEMPLATE.render(
        style=Markup(STYLE),  # our own, with quotes that CSS needs
        model=model,
        made_at=words.moment(content.made_at_us),
        in_short=words.in_short(content),
        judged_by=words.judged_by(model),
        layers=words.layer_rows(model),
        held_out=held_out,
        qualities=_qualities(held_out) if held_out else (),
        moments=moments,
        by_outcome=by_outcome,
        currency=content.currency,
        examples=content.examples[:MOST_EXAMPLES],
        drift=content.drift,
        facts=_facts(model),
        parameters=_parameters(model),
        coefficients=[
            row
            for row in zip(
                model.features, model.weights.coefficients, model.weights.means, model.weights.scales, strict=True
            )
            if row[1] != 0.0
        ],
        pictures=drawn,
    )
    return Report(html, drawn)


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(
        amount=words.amount,
        count=lambda number: f"{number:,}",
        day=words.day,
        interval=words.interval,
        number=lambda value, digits: f"{value:.{digits}f}",
        percent=lambda share: f"{share:.1%}",
        signed=signed,
    )
    return environment


_TEMPLATE: Final = _environment().from_string(PAGE)


def _pictures(content: ReportContent) -> dict[str, Picture]:
    drawn = {}
    verdicts, held_out, moments = content.model.judged.verdicts, content.held_out, content.moments
    if verdicts:
        drawn["layers"] = Picture(
            draw.layers_picture(verdicts),
            "Gain in log-loss of each layer with its interval; the table below has it in numbers",
        )
    if held_out:
        drawn["reliability"] = Picture(
            draw.reliability_diagram(held_out), "Predicted risk against the share that did not come back, by tenths"
        )
        if held_out.both_outcomes:
            drawn["lift"] = Picture(draw.lift_curve(held_out), "Share of leavers reached by share of customers called")
    if moments and (shown := moments.of("left")):
        drawn["moments"] = Picture(
            draw.moments_picture(shown),
            "Difference in leaving by touchpoint and feeling; the tables below have the numbers",
        )
    for number, example in enumerate(content.examples[:MOST_EXAMPLES], start=1):
        drawn[f"customer-{number}"] = Picture(
            draw.waterfall(example),
            "Reasons of this customer's risk, from the average customer's; the table below has them",
        )
    if content.drift:
        drawn["drift"] = Picture(draw.drift_picture(content.drift), content.drift.sentence)
    return drawn


def _qualities(held_out: HeldOut) -> list[tuple[str, Quality]]:
    found = []
    for name, chance in held_out.chances:
        held = np.clip(chance, SURE, 1.0 - SURE)
        found.append((name, quality(held_out.label, np.log(held / (1.0 - held)))))
    return found


def _facts(model: LearntModel) -> list[tuple[str, str]]:
    span = model.span
    return [
        ("coming back", " or ".join(model.kinds)),
        ("horizon", f"{model.horizon_days} days"),
        ("history", f"{words.day(span.first_day)} to {words.day(span.as_of_us / DAY_US)}"),
        ("customers who came", f"{span.customers:,}"),
        ("days with a coming", f"{span.active_days:,}"),
        ("dates learnt from", ", ".join(words.day(at) for at in span.snapshot_days) or "none"),
        ("customers at those dates", f"{span.rows:,}"),
        ("not learnt from", f"customers silent for more than {model.lookback_days} days"),
    ]


def _parameters(model: LearntModel) -> list[tuple[str, str]]:
    base, weights = model.base, model.weights
    numbers = [
        ("base model", f"{base.variant.upper()}/NBD"),
        *((f"base {name}", f"{value:.4g}") for name, value in (("r", base.r), ("a", base.a), ("b", base.b))),
        ("base alpha, days", f"{base.alpha:.4g}"),
        ("intercept", signed(weights.intercept)),
        ("slope", signed(weights.slope)),
        ("mean base log-odds", signed(weights.base_mean)),
        ("log-odds of customers who never came", signed(model.no_activity_log_odds)),
        ("formulas", str(model.formulas)),
    ]
    if model.judged.kept:
        numbers.append(("strength of the prior, customers", f"{model.judged.strength:g}"))
    return numbers
