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


@dataclass(frozen=True, slots=True)
class _Side:
    """Rows that are compared: the exposed, or the others. ``residual``: value less expectation."""

    stratum: Ints
    customer: Ints
    value: Floats
    expected: Floats
    residual: Floats

    @classmethod
    def of(cls, population: Population, rows: Rows) -> _Side:
        value, expected = population.value[rows], population.expected[rows]
        return cls(population.stratum[rows], population.customer[rows], value, expected, value - expected)

    def __len__(self) -> int:
        return len(self.value)

    def customers(self) -> int:
        return int(np.count_nonzero(np.bincount(self.customer)))


def contrast(population: Population, exposed: Rows, aside: Rows | None = None) -> Effect | None:
    """The effect on the rows ``exposed`` (places, each once); None if there is too little to compare.

    Rows ``aside`` that are not exposed are no measure for those who are, and are not among the others.
    """
    strata = int(population.stratum.max(initial=0)) + 1
    barred = np.zeros(len(population.stratum), dtype=np.bool_)
    barred[exposed] = True
    if aside is not None:
        barred[aside] = True
    others = population.measure[~barred[population.measure]]
    inside = np.bincount(population.stratum[exposed], minlength=strata)
    outside = np.bincount(population.stratum[others], minlength=strata)
    usable = (inside > 0) & (outside >= LEAST_OTHERS)
    they = _Side.of(population, exposed[usable[population.stratum[exposed]]])
    rest = _Side.of(population, others[usable[population.stratum[others]]])
    customers, compared = they.customers(), rest.customers()
    if min(customers, compared) < LEAST_CUSTOMERS:
        return None
    if population.chance and not _enough(they, rest, strata):
        return None
    n = len(they)
    level = np.bincount(rest.stratum, rest.residual, strata) / np.maximum(outside, 1)
    excess = they.residual - level[they.stratum]
    difference = float(excess.mean())
    observed = float(they.value.mean())
    expected = observed - difference

    # Divided by n0 - 1, as a variance about a mean of the same n0.
    share = inside / np.maximum(outside, 1) * np.sqrt(outside / np.maximum(outside - 1, 1)) / n
    weight = share[rest.stratum]
    of_each = np.bincount(rest.customer, weight)
    # Few others who stand for many, in strata where most are exposed, are worth less than their number.
    freedom = min(float(customers), float(of_each.sum() ** 2 / (of_each**2).sum())) - 1.0
    if freedom < LEAST_FREEDOM:
        return None
    everybody = int(max(they.customer.max(), rest.customer.max())) + 1
    first = np.bincount(they.customer, (excess - difference) / n, everybody)
    second = np.bincount(rest.customer, (rest.residual - level[rest.stratum]) * weight, everybody)
    variance = float(((first - second) ** 2).sum()) * (freedom + 1.0) / freedom
    if population.chance:
        # Where an outcome is rare, few may show it by chance and then seem to vary less than they do.
        pooled = _of_both(they.residual, rest.residual, they, rest, strata)
        due = (_due(they, np.full(n, 1.0 / n), pooled, population.alike), _due(rest, weight, pooled, population.alike))
        variance += max(0.0, due[0] - float(first @ first)) + max(0.0, due[1] - float(second @ second))
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


def _of_both(of_they: Floats, of_rest: Floats, they: _Side, rest: _Side, strata: int) -> Floats:
    """Mean of each stratum over both sides: what it would be, were the exposed like the others."""
    total = np.bincount(they.stratum, of_they, strata) + np.bincount(rest.stratum, of_rest, strata)
    rows = np.bincount(they.stratum, None, strata) + np.bincount(rest.stratum, None, strata)
    return np.asarray(total / np.maximum(rows, 1))


def _due(side: _Side, weight: Floats, pooled: Floats, alike: float) -> float:
    """Variance of the weighted sum of outcomes that chance makes by itself; rows of one customer as alike as usual."""
    chance = np.clip(side.expected + pooled[side.stratum], 0.0, 1.0)
    squares = weight**2
    together = float((np.bincount(side.customer, weight) ** 2).sum())
    design = 1.0 + alike * (together / float(squares.sum()) - 1.0)
    return design * float((squares * chance * (1.0 - chance)).sum())


def _enough(they: _Side, rest: _Side, strata: int) -> bool:
    """Whether so many exposed would have shown either outcome often enough, by all rows of their strata together.

    By all rows, exposed and others: a rule that looked at the outcomes of the exposed alone would choose by result.
    """
    due = float(_of_both(they.value, rest.value, they, rest, strata)[they.stratum].sum())
    return min(due, len(they) - due) >= LEAST_EXPECTED
