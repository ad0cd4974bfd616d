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

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtr, stdtrit  # Student's t

from services.learning.measures import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEAST_CUSTOMERS: Final = 30
"""Exposed, and as many others: fewer make the normal distribution of a mean doubtful."""
LEAST_EXPECTED: Final = 5.0
"""Outcomes of either sort among the exposed, were they like the others; fewer could not be told from chance."""
LEAST_OTHERS: Final = 5
"""In a stratum; exposed customers without so many like them are not compared."""
LEVEL: Final = 0.90
"""Of intervals: as everywhere in learning, the 5th to the 95th percentile."""


@dataclass(frozen=True, slots=True)
class Population:
    """n rows: ``stratum`` and ``customer`` as codes from 0, what happened (``value``) and what was expected.

    ``chance``: whether the value is 1 or 0 and the expectation its chance. ``alike``: correlation of residuals of one
    customer, 0..1.
    """

    stratum: Ints
    customer: Ints
    value: Floats
    expected: Floats
    chance: bool
    alike: float = 0.0

    @property
    def residual(self) -> Floats:
        return self.value - self.expected

    def take(self, rows: npt.NDArray[np.intp]) -> Population:
        """Some of the rows."""
        return Population(
            self.stratum[rows], self.customer[rows], self.value[rows], self.expected[rows], self.chance, self.alike
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


def likeness(population: Population) -> float:
    """Correlation between residuals of the same customer at different dates, within 0..1."""
    centred = population.residual - _means(population.stratum, population.residual)[population.stratum]
    total = np.bincount(population.customer, centred)
    squares = np.bincount(population.customer, centred**2)
    number = np.bincount(population.customer).astype(np.float64)
    pairs = float((number**2 - number).sum())
    variance = float(centred @ centred) / max(len(centred), 1)
    if pairs == 0 or variance == 0.0:
        return 0.0
    return float(np.clip((total**2 - squares).sum() / (pairs * variance), 0.0, 1.0))


def _means(of: Ints, values: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.bincount(of, values) / np.bincount(of))


def contrast(
    population: Population, exposed: npt.NDArray[np.intp], aside: npt.NDArray[np.intp] | None = None
) -> Effect | None:
    """The effect on the rows ``exposed`` (places, each once); None if there is too little to compare.

    Rows ``aside`` that are not exposed are no measure for those who are, and are not among the others.
    """
    stratum, residual = population.stratum, population.residual
    other = np.ones(len(stratum), dtype=np.bool_)
    if aside is not None:
        other[aside] = False
    other[exposed] = False
    strata = int(stratum.max()) + 1
    inside = np.bincount(stratum[exposed], minlength=strata)
    outside = np.bincount(stratum[other], minlength=strata)
    usable = (inside > 0) & (outside >= LEAST_OTHERS)
    exposed = exposed[usable[stratum[exposed]]]
    others = np.flatnonzero(other & usable[stratum])
    if not len(exposed):
        return None
    total = np.bincount(stratum[others], residual[others], strata)
    level = np.where(usable, total / np.maximum(outside, 1), 0.0)
    n = len(exposed)
    excess = residual[exposed] - level[stratum[exposed]]
    difference = float(excess.mean())
    customers = int(np.unique(population.customer[exposed]).size)
    compared = int(np.unique(population.customer[others]).size)
    if min(customers, compared) < LEAST_CUSTOMERS:
        return None
    observed = float(population.value[exposed].mean())
    expected = observed - difference
    if population.chance and not _enough(population, exposed, others, inside, outside):
        return None

    everybody = int(population.customer.max()) + 1
    first = np.bincount(population.customer[exposed], (excess - difference) / n, everybody)
    # Divided by n0 - 1, as a variance about a mean of the same n0.
    share = inside / np.maximum(outside, 1) * np.sqrt(outside / np.maximum(outside - 1, 1)) / n
    off = (residual[others] - level[stratum[others]]) * share[stratum[others]]
    second = np.bincount(population.customer[others], off, everybody)
    variance = float(((first - second) ** 2).sum()) * customers / (customers - 1)
    if population.chance:
        # Among few exposed nobody, or everybody, may have the outcome: what is seen then varies less than what was due.
        due = np.clip(population.expected[exposed] + level[stratum[exposed]], 0.0, 1.0)
        sizes = np.bincount(population.customer[exposed])
        design = 1.0 + population.alike * (float((sizes**2).sum()) / n - 1.0)
        least = design * float((due * (1.0 - due)).sum()) / n**2
        variance += max(0.0, least - float((first**2).sum()))
    error = float(np.sqrt(variance))
    freedom = customers - 1
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


def _enough(
    population: Population, exposed: npt.NDArray[np.intp], others: npt.NDArray[np.intp], inside: Ints, outside: Ints
) -> bool:
    """Whether so many exposed would have shown either outcome often enough, by all rows of their strata together.

    By all rows, exposed and others: a rule that looked at the outcomes of the exposed alone would choose by result.
    """
    rows = np.concatenate([exposed, others])
    happened = np.bincount(population.stratum[rows], population.value[rows], len(inside))
    due = float((happened * inside / np.maximum(inside + outside, 1)).sum())
    return min(due, len(exposed) - due) >= LEAST_EXPECTED
