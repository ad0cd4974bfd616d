"""What a risk model is: numbers with names. Fitted or documented, it is an artefact with a version."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.kinds import FAMILIES, Family

_BEHAVIOURS: Final = tuple(kind for family in (Family.STAY, Family.SAY, Family.SPEND) for kind in FAMILIES[family])


class ModelError(ValueError):
    """A stored model cannot be used; the message names the parameter."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """MBG/NBD parameters, times in days: purchases while alive are Poisson with Gamma(r, alpha) rates, and after
    each purchase a customer drops out with a Beta(a, b) probability (Batislam, Denizel, Filiztekin 2007)."""

    r: float = 0.55
    alpha: float = 18.0
    a: float = 0.6
    b: float = 2.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """Log-odds per unit of each piece of evidence. Positive numbers make leaving likelier."""

    score: float = 1.4
    """Per 50 points below the typical score."""
    trend: float = 0.9
    """Per 50 points of decline of the fast score against the slow one."""
    volatility: float = 0.5
    """Per unit of standard deviation of valence."""
    worst: float = 0.35
    """Per unit of decayed severity of the worst recent moment."""
    complaints: float = 0.35
    """Per open complaint, up to three."""
    complaint_age: float = 0.3
    """Per e-fold of weeks the oldest open complaint has waited."""
    feedback: float = 0.3
    """For unhappy feedback that nobody followed up, fading with the slow half-life."""
    surveys: float = 0.08
    """Per recent survey request beyond three."""
    spend: float = 0.25
    """Per e-fold of recent spend below the customer's own level, up to one."""
    cancelled: float = 2.2
    """For a cancellation that nothing came after, fading with the slow half-life."""


@dataclass(frozen=True, slots=True)
class Bands:
    """Levels of risk. Leaving takes a lower level than entering, and a stay of at least ``dwell_hours``."""

    elevated_enter: float = 0.75
    elevated_leave: float = 0.67
    high_enter: float = 0.90
    high_leave: float = 0.84
    dwell_hours: float = 24.0


@dataclass(frozen=True, slots=True)
class RiskModel:
    """Everything the risk formula uses. `DEFAULT` is the documented model for a deployment without history."""

    version: str
    horizon_days: float = 30.0
    intercept: float = 0.0
    """Log-odds of the average customer: what reasons are counted from."""
    no_activity_log_odds: float = -0.4
    """Base log-odds of a customer without any behaviour on record."""
    typical_score: float = 60.0
    activity_kinds: tuple[str, ...] = ("purchase", "renewal", "subscription")
    rhythm: Rhythm = field(default_factory=Rhythm)
    evidence: Evidence = field(default_factory=Evidence)
    bands: Bands = field(default_factory=Bands)

    def __post_init__(self) -> None:
        if not self.version:
            raise ModelError("a risk model needs a version")
        if not self.activity_kinds or not set(self.activity_kinds) <= set(_BEHAVIOURS):
            raise ModelError(f"risk model {self.version}: activity_kinds must be some of {', '.join(_BEHAVIOURS)}")
        for name, value in self.parameters().items():
            if not math.isfinite(value):
                raise ModelError(f"risk model {self.version}: {name} must be a finite number, not {value}")
        levels = self.bands
        if not (
            0 < levels.elevated_leave <= levels.elevated_enter <= levels.high_enter < 1
            and levels.elevated_leave <= levels.high_leave <= levels.high_enter
        ):
            raise ModelError(f"risk model {self.version}: band levels must ascend, leave levels not above enter levels")
        if self.horizon_days <= 0 or min(dataclasses.astuple(self.rhythm)) <= 0:
            raise ModelError(f"risk model {self.version}: horizon and rhythm parameters must be positive")

    def parameters(self) -> dict[str, float]:
        """Every number of the formula by its dotted name."""
        flat = {
            "horizon_days": self.horizon_days,
            "intercept": self.intercept,
            "no_activity_log_odds": self.no_activity_log_odds,
            "typical_score": self.typical_score,
        }
        for group in ("rhythm", "evidence", "bands"):
            flat |= {f"{group}.{name}": value for name, value in dataclasses.asdict(getattr(self, group)).items()}
        return flat

    def to_json(self) -> str:
        """The model as stored in table ``models``."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> RiskModel:
        """Read a stored model; unknown or missing names are refused by `ModelError`."""
        try:
            document: Any = json.loads(text)
        except ValueError as error:
            raise ModelError(f"stored risk model is not JSON: {error}") from error
        # Missing names must not become defaults here: SQL reads the same text and would see zeros.
        parts = {"rhythm": Rhythm, "evidence": Evidence, "bands": Bands}
        _same_names("the model", document, cls)
        for name, part in parts.items():
            _same_names(name, document[name], part)
        groups = {name: part(**document[name]) for name, part in parts.items()}
        try:
            return cls(**{**document, **groups, "activity_kinds": tuple(document["activity_kinds"])})
        except TypeError as error:
            raise ModelError(f"stored risk model cannot be read: {error}") from error


def _same_names(where: str, found: Any, shape: Any) -> None:
    names = {part.name for part in dataclasses.fields(shape)}
    if not isinstance(found, dict) or set(found) != names:
        differing = ", ".join(sorted(set(found) ^ names)) if isinstance(found, dict) else "everything"
        raise ModelError(f"stored risk model cannot be read: missing or unknown in {where}: {differing}")


DEFAULT: Final = RiskModel(version="default-1")
