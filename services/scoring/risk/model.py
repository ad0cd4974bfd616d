"""What a risk model is: numbers with names. Fitted or documented, it is an artefact with a version."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.kinds import FAMILIES, Family
from services.scoring.risk.features import FEATURES

VARIANTS: Final = ("bg", "mbg")
WEIGHT_PARTS: Final = ("slope", "mean", "low", "high")
_EVERY_KIND: Final = tuple(
    kind for family, kinds in FAMILIES.items() if family is not Family.INTERNAL for kind in kinds
)


class ModelError(ValueError):
    """A stored model cannot be used; the message names the parameter."""


@dataclass(frozen=True, slots=True)
class Base:
    """BG/NBD (``bg``) or MBG/NBD (``mbg``) parameters, times in days: while alive, customers come at Gamma(r, alpha)
    rates, and after each coming they leave for good with a Beta(a, b) probability; by ``mbg`` also after the first
    (Fader, Hardie, Lee 2005; Batislam, Denizel, Filiztekin 2007)."""

    variant: str = "mbg"
    r: float = 0.55
    alpha: float = 18.0
    a: float = 0.6
    b: float = 2.5


@dataclass(frozen=True, slots=True)
class Weight:
    """What a feature adds: slope x (value held to low..high, less mean), in log-odds. Slope 0: it is not used."""

    slope: float = 0.0
    mean: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Worth:
    """Gamma-gamma parameters (Fader, Hardie 2013): worth of a coming given x of them with mean amount m is
    p (gamma + x m) / (p x + q - 1). The default is the customer's own mean."""

    p: float = 1.0
    q: float = 1.0
    gamma: float = 0.0


@dataclass(frozen=True, slots=True)
class Bands:
    """Levels of risk. Leaving takes a lower level than entering, and a stay of at least ``dwell_hours``."""

    elevated_enter: float = 0.75
    elevated_leave: float = 0.67
    high_enter: float = 0.90
    high_leave: float = 0.84
    dwell_hours: float = 24.0


DEFAULT_WEIGHTS: Final[Mapping[str, Weight]] = {
    "score": Weight(-0.028, 60.0, 0.0, 100.0),
    "trend": Weight(-0.018, 0.0, -100.0, 100.0),
    "volatility": Weight(0.5, 0.0, 0.0, 2.0),
    "worst": Weight(0.35, 0.0, 0.0, 10.0),
    "open_complaints": Weight(0.35, 0.0, 0.0, 3.0),
    "complaint_days": Weight(0.13, 0.0, 0.0, 8.2),
    "feedback_unanswered": Weight(0.3, 0.0, 0.0, 1.0),
    "survey_load": Weight(0.08, 3.0, 3.0, 50.0),
    "spend_trend": Weight(-0.25, 0.0, -1.0, 1.0),
    "cancelled": Weight(2.2, 0.0, 0.0, 1.0),
}
"""Weights of the documented default; features that are not named weigh nothing."""


def every_weight(given: Mapping[str, Weight]) -> Mapping[str, Weight]:
    """``given`` in the order of `FEATURES`, with weights of 0 for those that are not named."""
    return {name: given.get(name, Weight()) for name in FEATURES}


@dataclass(frozen=True, slots=True)
class RiskModel:
    """Everything the risk formula uses. `DEFAULT` is the documented model for a deployment without history."""

    version: str
    horizon_days: float = 30.0
    no_activity_log_odds: float = -0.4
    """Log-odds of a customer without any coming on record, before what was felt."""
    activity_kinds: tuple[str, ...] = ("purchase", "renewal", "subscription")
    base: Base = field(default_factory=Base)
    base_mean: float = 0.0
    """With the intercept, log-odds of the average customer: what reasons are counted from."""
    base_slope: float = 0.0
    """How much more (or less) than 1 the base's distance from its mean counts."""
    intercept: float = 0.0
    weights: Mapping[str, Weight] = field(default_factory=lambda: every_weight(DEFAULT_WEIGHTS))
    worth: Worth = field(default_factory=Worth)
    bands: Bands = field(default_factory=Bands)

    def __post_init__(self) -> None:
        if not self.version:
            raise ModelError("a risk model needs a version")
        if not self.activity_kinds or not set(self.activity_kinds) <= set(_EVERY_KIND):
            raise ModelError(f"risk model {self.version}: activity_kinds must be some of {', '.join(_EVERY_KIND)}")
        if self.base.variant not in VARIANTS:
            raise ModelError(f"risk model {self.version}: base.variant must be one of {', '.join(VARIANTS)}")
        _same_names(f"weights of {self.version}", self.weights, FEATURES)
        for name, value in self.parameters().items():
            if not math.isfinite(value):
                raise ModelError(f"risk model {self.version}: {name} must be a finite number, not {value}")
        for name, weight in self.weights.items():
            if weight.low > weight.high:
                raise ModelError(f"risk model {self.version}: weights.{name} has a low above its high")
        levels = self.bands
        if not (
            0 < levels.elevated_leave <= levels.elevated_enter <= levels.high_enter < 1
            and levels.elevated_leave <= levels.high_leave <= levels.high_enter
        ):
            raise ModelError(f"risk model {self.version}: band levels must ascend, leave levels not above enter levels")
        base = self.base
        if min(self.horizon_days, base.r, base.alpha, base.a, base.b) <= 0:
            raise ModelError(f"risk model {self.version}: horizon and base parameters must be positive")
        if self.worth.p <= 0 or self.worth.q < 1 or self.worth.gamma < 0:
            raise ModelError(f"risk model {self.version}: worth needs p above 0, q of at least 1, gamma of at least 0")

    def parameters(self) -> dict[str, float]:
        """Every number of the formula by its dotted name."""
        flat = {
            "horizon_days": self.horizon_days,
            "no_activity_log_odds": self.no_activity_log_odds,
            "base_mean": self.base_mean,
            "base_slope": self.base_slope,
            "intercept": self.intercept,
            "base.modified": float(self.base.variant == "mbg"),
        }
        flat |= {f"base.{name}": getattr(self.base, name) for name in ("r", "alpha", "a", "b")}
        for group in ("worth", "bands"):
            flat |= {f"{group}.{name}": value for name, value in dataclasses.asdict(getattr(self, group)).items()}
        for name, weight in self.weights.items():
            flat |= {f"weights.{name}.{part}": getattr(weight, part) for part in WEIGHT_PARTS}
        return flat

    def to_json(self) -> str:
        """The model as stored in table ``models``. A weight is the list of its `WEIGHT_PARTS`."""
        document = dataclasses.asdict(self)
        document["weights"] = {name: list(dataclasses.astuple(weight)) for name, weight in self.weights.items()}
        return json.dumps(document, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> RiskModel:
        """Read a stored model; unknown or missing names are refused by `ModelError`."""
        try:
            document: Any = json.loads(text)
        except ValueError as error:
            raise ModelError(f"stored risk model is not JSON: {error}") from error
        # Missing names must not become defaults here: SQL reads the same text and would see zeros.
        parts = {"base": Base, "worth": Worth, "bands": Bands}
        _same_names("the model", document, _names(cls))
        for name, part in parts.items():
            _same_names(name, document[name], _names(part))
        _same_names("weights", document["weights"], FEATURES)
        try:
            groups = {name: part(**document[name]) for name, part in parts.items()}
            weights = {name: Weight(*_numbers(document["weights"][name])) for name in FEATURES}
            kinds = tuple(document["activity_kinds"])
            return cls(**{**document, **groups, "weights": weights, "activity_kinds": kinds})
        except (TypeError, ValueError) as error:
            raise ModelError(f"stored risk model cannot be read: {error}") from error


def _numbers(given: Any) -> list[float]:
    if not isinstance(given, list) or len(given) != len(WEIGHT_PARTS):
        raise ModelError(f"stored risk model cannot be read: a weight is a list of {', '.join(WEIGHT_PARTS)}")
    return given


def _names(shape: Any) -> tuple[str, ...]:
    return tuple(part.name for part in dataclasses.fields(shape))


def _same_names(where: str, found: Any, names: Iterable[str]) -> None:
    expected = set(names)
    if not isinstance(found, Mapping) or set(found) != expected:
        differing = ", ".join(sorted(set(found) ^ expected)) if isinstance(found, Mapping) else "everything"
        raise ModelError(f"stored risk model cannot be read: missing or unknown in {where}: {differing}")


DEFAULT: Final = RiskModel(version="default-2")


def documented(activity_kinds: Iterable[str]) -> RiskModel:
    """The documented default of a deployment in which some kinds count as coming back. Its version names them where
    they are not the usual ones. ModelError for kinds that there are not."""
    kinds = tuple(dict.fromkeys(activity_kinds))
    if set(kinds) == set(DEFAULT.activity_kinds):
        return DEFAULT
    return dataclasses.replace(DEFAULT, version="+".join((DEFAULT.version, *kinds)), activity_kinds=kinds)
