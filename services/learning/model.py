"""The learnt model: everything that is needed to judge a customer from what their state holds."""

from __future__ import annotations

import math
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.learning.bgnbd import Rates
from services.learning.errors import ModelMismatch
from services.learning.evidence import Judged, Weights
from services.learning.features import CONTACT, EXPERIENCE, RHYTHM
from services.learning.measures import Quality
from services.learning.value import Worth

FORMULAS: Final = 2
"""Goes up when a feature or a formula changes its meaning: an older model is refused, not misread."""
FEATURES: Final = (*RHYTHM, *CONTACT, *EXPERIENCE)


class BaseRates(BaseModel):
    """Parameters of the base model; ``alpha`` in days."""

    model_config = ConfigDict(frozen=True)

    variant: Literal["bg", "mbg"]
    r: float = Field(gt=0)
    alpha: float = Field(gt=0)
    a: float = Field(gt=0)
    b: float = Field(gt=0)

    def rates(self) -> Rates:
        return Rates(self.variant, self.r, self.alpha, self.a, self.b)


class Span(BaseModel):
    """What was learnt from: first active day and as-of moment, dates of snapshots, and counts."""

    model_config = ConfigDict(frozen=True)

    first_day: int
    as_of_us: int
    snapshot_days: tuple[int, ...]
    customers: int
    active_days: int
    rows: int


class LearntModel(BaseModel):
    """A fitted model. ``no_activity_log_odds``: for customers who are known and never came. ``worth``: of a coming;
    None where amounts are too few to learn it."""

    model_config = ConfigDict(frozen=True)

    version: str = Field(min_length=1)
    formulas: int = FORMULAS
    horizon_days: int = Field(ge=1)
    kinds: tuple[str, ...] = Field(min_length=1)
    lookback_days: int = Field(ge=1)
    base: BaseRates
    features: tuple[str, ...] = FEATURES
    weights: Weights
    no_activity_log_odds: float
    worth: Worth | None = None
    judged: Judged
    base_quality: tuple[tuple[str, Quality], ...]
    span: Span
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.formulas != FORMULAS or self.features != FEATURES:
            raise ModelMismatch(
                f"model {self.version} was made by formulas {self.formulas}, these are {FORMULAS}: fit again"
            )
        lists = (
            self.weights.means,
            self.weights.scales,
            self.weights.lows,
            self.weights.highs,
            self.weights.coefficients,
        )
        if any(len(values) != len(FEATURES) for values in lists):
            raise ModelMismatch(f"model {self.version} does not have one weight a feature: fit again")
        numbers = [self.no_activity_log_odds, self.weights.intercept, self.weights.slope, self.weights.base_mean]
        if (
            not all(math.isfinite(value) for values in (*lists, numbers) for value in values)
            or min(self.weights.scales) <= 0
        ):
            raise ModelMismatch(f"model {self.version} holds a number that is not finite: fit again")
        return self
