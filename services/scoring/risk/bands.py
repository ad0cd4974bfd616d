"""Bands of risk with separate levels for entering and leaving, and a minimum stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.scoring.expressions import Algebra, Term

HOUR_US: Final = 3_600_000_000


def next_band(o: Algebra, band: Term, since_us: Term, risk: Term, at_us: Term, parameters: Mapping[str, Term]) -> Term:
    """The band after a judgement: 0 low, 1 elevated, 2 high.

    Rising takes effect at once. Falling takes a risk below the band's leave level and a stay of ``dwell_hours``.
    """
    p = parameters
    entered = _level(o, risk, p["bands.elevated_enter"], p["bands.high_enter"])
    kept = _level(o, risk, p["bands.elevated_leave"], p["bands.high_leave"])
    stayed = at_us - since_us >= p["bands.dwell_hours"] * float(HOUR_US)
    fallen = o.maximum(o.minimum(band, kept), entered)
    return o.where(stayed, fallen, o.maximum(band, entered))


def _level(o: Algebra, risk: Term, elevated: Term, high: Term) -> Term:
    return o.where(risk >= high, 2, o.where(risk >= elevated, 1, 0))
