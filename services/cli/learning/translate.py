"""A learnt model as the model that the stream and SQL judge by, and back: the same formula, other names."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from services.learning.evidence import Judged, Weights
from services.learning.fitting import LOOKBACK_DAYS
from services.learning.model import FEATURES, BaseRates, LearntModel, Span
from services.scoring.risk.model import DEFAULT, Bands, Base, RiskModel, Weight, Worth, every_weight

_UNUSED: Final = Weight()


def to_risk_model(model: LearntModel, bands: Bands | None = None) -> RiskModel:
    """What judges by ``model``. ``bands``: levels, or the documented ones.

    A coefficient counts standardised values, a slope counts them as they are: slope = coefficient / scale.
    """
    w = model.weights
    weights = {
        name: Weight(w.coefficients[j] / w.scales[j], w.means[j], w.lows[j], w.highs[j])
        if w.coefficients[j]
        else _UNUSED
        for j, name in enumerate(model.features)
    }
    base = model.base
    worth = model.worth
    return RiskModel(
        version=model.version,
        horizon_days=float(model.horizon_days),
        no_activity_log_odds=model.no_activity_log_odds,
        activity_kinds=model.kinds,
        base=Base(base.variant, base.r, base.alpha, base.a, base.b),
        base_mean=w.base_mean,
        base_slope=w.slope,
        intercept=w.intercept,
        weights=every_weight(weights),
        worth=Worth() if worth is None else Worth(worth.p, worth.q, worth.gamma),
        bands=bands or DEFAULT.bands,
    )


def to_learnt(model: RiskModel, horizon_days: int | None = None, kinds: tuple[str, ...] | None = None) -> LearntModel:
    """``model`` as one that judges from events, so that it can be measured; asked for another horizon or other kinds
    if they are given. It carries no history of its own."""
    weights = [model.weights[name] for name in FEATURES]
    ones = (1.0,) * len(FEATURES)
    variant = "bg" if model.base.variant == "bg" else "mbg"
    return LearntModel(
        version=model.version,
        horizon_days=horizon_days or max(1, round(model.horizon_days)),
        kinds=kinds or model.activity_kinds,
        lookback_days=LOOKBACK_DAYS,
        base=BaseRates(variant=variant, r=model.base.r, alpha=model.base.alpha, a=model.base.a, b=model.base.b),
        weights=Weights(
            intercept=model.intercept,
            base_mean=model.base_mean,
            slope=model.base_slope,
            means=tuple(weight.mean for weight in weights),
            scales=ones,
            lows=tuple(weight.low for weight in weights),
            highs=tuple(weight.high for weight in weights),
            coefficients=tuple(weight.slope for weight in weights),
        ),
        no_activity_log_odds=model.no_activity_log_odds,
        judged=Judged(kept=(), strength=0.0, by="nothing", verdicts=()),
        base_quality=(),
        span=Span(first_day=0, as_of_us=0, snapshot_days=(), customers=0, active_days=0, rows=0),
    )


def asked_for(model: RiskModel, horizon_days: int, kinds: tuple[str, ...]) -> RiskModel:
    """``model``, asked for another horizon and other kinds of coming back."""
    return replace(model, horizon_days=float(horizon_days), activity_kinds=kinds)
