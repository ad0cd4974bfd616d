"""Exposed against comparable others: what more of an outcome there was among them than was to be expected.

Rows are customers at dates. Within a stratum (a date and a like base chance) the others say by how much everybody was
off the expectation; so an expectation that is too low in a season, or for a sort of customer, does not pass for an
effect. With residuals r = value - expectation, n1 exposed and n0 others in a stratum s:

    difference = mean over the exposed of  r - mean of r over the others in the same stratum

which is observed less expected among the exposed. Its variance sums, customer by customer, what each contributed to
first order (Huber's sandwich; Liang, Zeger: Longitudinal data analysis using generalized linear models, Biometrika 73,
1986), so several rows of one customer count as what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtr, stdtrit  # Student's t

from services.learning.measures import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]

LEAST_CUSTOMERS: Final = 30
"""Exposed, and as many others: fewer make the normal distribution of a mean doubtful."""
LEAST_FREEDOM: Final = 10.0
"""Customers, less one, that the exposed or the others must be worth."""
LEAST_EXPECTED: Final = 5.0
"""Outcomes of either sort among the exposed, were they like the others; fewer could not be told from chance."""
LEAST_OTHERS: Final = 5
"""In a stratum; exposed customers without so many like them are not compared."""
MOST_OTHERS: Final = 12_000
"""Customers whom the exposed of a large deployment are compared with; the exposed themselves are all counted."""
LEVEL: Final = 0.90
"""Of intervals: as everywhere in learning, the 5th to the 95th percentile."""


@dataclass(frozen=True, slots=True)
class Population:
    """n rows: ``stratum`` and ``customer`` as codes from 0, what happened (``value``) and what was expected.

    ``chance``: whether the value is 1 or 0 and the expectation its chance. ``alike``: correlation of residuals of one
    customer, 0..1. ``measure``: places of the rows that the exposed may be compared with.
    """

    stratum: Ints
    customer: Ints
    value: Floats
    expected: Floats
    chance: bool
    alike: float
    measure: Rows

    @classmethod
    def of(cls, stratum: Ints, customer: Ints, value: Floats, expected: Floats, *, chance: bool) -> Population:
        """With `likeness` worked out, and at most `MOST_OTHERS` customers, evenly spaced, to compare with."""
        every = -(-(int(customer.max()) + 1) // MOST_OTHERS)
        measure = np.flatnonzero(customer % every == 0)
        alike = likeness(stratum, customer, value - expected)
        return cls(stratum, customer, value, expected, chance, alike, measure)

    def residual(self, rows: Rows) -> Floats:
        """What happened less what was expected."""
        return self.value[rows] - self.expected[rows]

    def take(self, rows: Rows, stratum: Ints) -> Population:
        """Some of the rows, in strata of their own."""
        measures = np.zeros(len(self.stratum), dtype=np.bool_)
        measures[self.measure] = True
        return replace(
            self,
            stratum=stratum,
            customer=self.customer[rows],
            value=self.value[rows],
            expected=self.expected[rows],
            measure=np.flatnonzero(measures[rows]),
        )


class Effect(BaseModel):
    """Of ``customers`` exposed (``rows`` of them by dates), against ``others``: mean of what was ``observed``, what was
    ``expected``, and the difference with its interval (same unit: shares of 1, or money).

    ``ratio``: observed over expected, None where nothing was expected. ``p``: chance of so large a difference, either
    way, if there were none.
    """

    model_config = ConfigDict(frozen=True)

    customers: int
    others: int
    rows: int
    observed: float
    expected: float
    difference: Interval
    ratio: float | None
    p: float

    @property
    def at_least(self) -> float:
        """The end of the interval that is nearer to 0, and 0 if it holds 0: what the difference surely amounts to."""
        return max(self.difference.low, 0.0) + min(self.difference.high, 0.0)


def likeness(stratum: Ints, customer: Ints, residual: Floats) -> float:
    """Correlation between residuals of the same customer at different dates, within 0..1."""
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.bincount(stratum, residual) / np.bincount(stratum)
    centred = residual - level[stratum]
    total = np.bincount(customer, centred)
    squares = np.bincount(customer, centred**2)
    number = np.bincount(customer).astype(np.float64)
    pairs = float((number**2 - number).sum())
    variance = float(centred @ centred) / max(len(centred), 1)
    if pairs == 0 or variance == 0.0:
        return 0.0
    return float(np.clip((total**2 - squares).sum() / (pairs * variance), 0.0, 1.0))


def contrast(population: Population, exposed: Rows, aside: Rows | None = None) -> Effect | None:
    """The effect on the rows ``exposed`` (places, each once); None if there is too little to compare.

    Rows ``aside`` that are not exposed are no measure for those who are, and are not among the others.
    """
    stratum = population.stratum
    barred = np.zeros(len(stratum), dtype=np.bool_)
    barred[exposed] = True
    if aside is not None:
        barred[aside] = True
    others = population.measure[~barred[population.measure]]
    strata = int(stratum.max(initial=0)) + 1
    inside = np.bincount(stratum[exposed], minlength=strata)
    outside = np.bincount(stratum[others], minlength=strata)
    usable = (inside > 0) & (outside >= LEAST_OTHERS)
    exposed = exposed[usable[stratum[exposed]]]
    others = others[usable[stratum[others]]]
    if not len(exposed):
        return None
    total = np.bincount(stratum[others], population.residual(others), strata)
    level = np.where(usable, total / np.maximum(outside, 1), 0.0)
    n = len(exposed)
    excess = population.residual(exposed) - level[stratum[exposed]]
    difference = float(excess.mean())
    customers, compared = (int(np.count_nonzero(np.bincount(population.customer[rows]))) for rows in (exposed, others))
    if min(customers, compared) < LEAST_CUSTOMERS:
        return None
    observed = float(population.value[exposed].mean())
    expected = observed - difference
    if population.chance and not _enough(population, exposed, others, inside, outside):
        return None

    # Divided by n0 - 1, as a variance about a mean of the same n0.
    share = inside / np.maximum(outside, 1) * np.sqrt(outside / np.maximum(outside - 1, 1)) / n
    weight = share[stratum[others]]
    of_each = np.bincount(population.customer[others], weight)
    # Few others who stand for many, in strata where most are exposed, are worth less than their number.
    freedom = min(float(customers), float(of_each.sum() ** 2 / (of_each**2).sum())) - 1.0
    if freedom < LEAST_FREEDOM:
        return None
    off = (population.residual(others) - level[stratum[others]]) * weight
    everybody = int(population.customer.max()) + 1
    first = np.bincount(population.customer[exposed], (excess - difference) / n, everybody)
    second = np.bincount(population.customer[others], off, everybody)
    variance = float(((first - second) ** 2).sum()) * (freedom + 1.0) / freedom
    if population.chance:
        # Where an outcome is rare, few may show it by chance and then seem to vary less than they do.
        pooled = _pooled(population, exposed, others, strata)
        variance += max(0.0, _due(population, exposed, np.full(n, 1.0 / n), pooled) - float(first @ first))
        variance += max(0.0, _due(population, others, weight, pooled) - float(second @ second))
    error = float(np.sqrt(variance))
    reach = float(stdtrit(freedom, 0.5 + LEVEL / 2.0)) * error
    low, high = difference - reach, difference + reach
    if population.chance:
        low, high = max(low, min(-expected, difference)), min(high, max(1.0 - expected, difference))
    p = 2.0 * float(stdtr(freedom, -abs(difference) / error)) if error > 0 else 1.0
    return Effect(
        customers=customers,
        others=compared,
        rows=n,
        observed=observed,
        expected=expected,
        difference=Interval(mean=difference, low=low, high=high),
        ratio=observed / expected if expected > 0 else None,
        p=p,
    )


def _pooled(population: Population, exposed: Rows, others: Rows, strata: int) -> Floats:
    """Mean residual of each stratum, were the exposed like the others."""
    rows = np.concatenate([exposed, others])
    of = population.stratum[rows]
    return np.asarray(np.bincount(of, population.residual(rows), strata) / np.maximum(np.bincount(of, None, strata), 1))


def _due(population: Population, rows: Rows, weight: Floats, pooled: Floats) -> float:
    """Variance of the weighted sum of outcomes that chance makes by itself; rows of one customer as alike as usual."""
    chance = np.clip(population.expected[rows] + pooled[population.stratum[rows]], 0.0, 1.0)
    of = population.customer[rows]
    own = float((weight**2).sum())
    together = float((np.bincount(of, weight) ** 2).sum())
    design = 1.0 + population.alike * (together / own - 1.0)
    return design * float((weight**2 * chance * (1.0 - chance)).sum())


def _enough(population: Population, exposed: Rows, others: Rows, inside: Ints, outside: Ints) -> bool:
    """Whether so many exposed would have shown either outcome often enough, by all rows of their strata together.

    By all rows, exposed and others: a rule that looked at the outcomes of the exposed alone would choose by result.
    """
    rows = np.concatenate([exposed, others])
    happened = np.bincount(population.stratum[rows], population.value[rows], len(inside))
    due = float((happened * inside / np.maximum(inside + outside, 1)).sum())
    return min(due, len(exposed) - due) >= LEAST_EXPECTED
