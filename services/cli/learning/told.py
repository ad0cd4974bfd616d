"""What a fit found, in words: for a person, and as a document for a script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from services.cli.console import paint, print_table
from services.cli.learning.asking import day_of
from services.cli.learning.quality import own_quality
from services.learning.activity import DAY_US
from services.learning.evidence import Verdict
from services.learning.measures import Quality
from services.learning.model import LearntModel

BASES: Final = {"bg": "BG/NBD", "mbg": "MBG/NBD"}
LAYERS: Final = {
    "rhythm": "own rhythm and spend",
    "contact": "contact",
    "experience": "experience",
}
"""Layers as people call them, in the order in which they are tried."""
UNTRIED: Final = {
    "rhythm": "does not differ between customers",
    "contact": "there are no events but those that count as coming back",
    "experience": "nothing that was felt, or that we asked, is in these events",
}
QUALITY_HEAD: Final = ["AUC", "Brier", "ECE"]
_WIDTH: Final = 10


def moment(at_us: int) -> str:
    """A UTC moment; a midnight is its date alone."""
    return day_of(at_us) if at_us % DAY_US == 0 else f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M}"


def line(name: str, text: str) -> None:
    print(f"{name.ljust(_WIDTH)} {text}")


def print_fit(model: LearntModel) -> None:
    """Span, counts, what is asked, the base, and what each layer added."""
    span, base = model.span, model.base
    line("model", model.version)
    line("history", f"{day_of(span.first_day * DAY_US)} to {moment(span.as_of_us)} (not included)")
    line("learnt by", f"{span.customers:,} customers who came on {span.active_days:,} days")
    if span.snapshot_days:
        dates = ", ".join(day_of(day * DAY_US) for day in sorted(span.snapshot_days))
        line("", f"evidence from {span.rows:,} looks at a customer, at {dates}")
    line("leaving", f"no {' or '.join(model.kinds)} within {model.horizon_days} days")
    line("base", f"{BASES[base.variant]}: r {base.r:.4g}, alpha {base.alpha:.4g} days, a {base.a:.4g}, b {base.b:.4g}")
    for variant, found in model.base_quality:
        chosen = ", chosen" if variant == base.variant else ""
        line("", f"{BASES[variant]} at earlier dates: log-loss {found.log_loss:.4f}{chosen}")
    print_layers(model)
    for note in model.notes:
        line("note", note)


def print_layers(model: LearntModel) -> None:
    """The base alone, and what each layer adds to those below it, with intervals."""
    verdicts = {verdict.layer: verdict for verdict in model.judged.verdicts}
    if model.judged.verdicts:
        print()
        how = {"time": "later dates, and other customers", "customers": "other customers of the same dates"}
        print(
            f"judged on {how[model.judged.by]} than were learnt from; gains per customer with 5th to 95th percentile:"
        )
        rows = [["base alone", *quality_cells(model.judged.verdicts[0].below), "", ""]]
        rows += [[f"+ {LAYERS[v.layer]}", *quality_cells(v.measured), _gain(v), _kept(v)] for v in verdicts.values()]
        print_table(["", "AUC", "Brier", "ECE", "gain in log-loss", ""], rows)
        print()
    for layer in LAYERS:
        print(f"{paint('*', 'cyan')} {said_of(layer, verdicts.get(layer), model)}")


def said_of(layer: str, verdict: Verdict | None, model: LearntModel) -> str:
    """What one layer added, in a sentence."""
    name = LAYERS[layer]
    if verdict is None:
        if model.judged.by == "nothing":
            return f"{name} was not tried: there is too little history to judge it"
        return f"{name} was not tried: {UNTRIED[layer]}"
    gain = verdict.gain
    interval = f"{gain.mean:+.4f} [{gain.low:+.4f} to {gain.high:+.4f}]"
    if verdict.kept:
        auc = verdict.measured.auc - verdict.below.auc
        return f"{name} makes the risk better: gain {interval}, AUC {auc:+.4f}; it stays"
    if gain.high < 0.0:
        return f"{name} made the risk worse: gain {interval}; it is left out"
    return f"{name} added nothing on this data: gain {interval} cannot be told from chance; it is left out"


def _gain(verdict: Verdict) -> str:
    return f"{verdict.gain.mean:+.4f} [{verdict.gain.low:+.4f} {verdict.gain.high:+.4f}]"


def _kept(verdict: Verdict) -> str:
    return "stays" if verdict.kept else "left out"


def print_qualities(rows: Sequence[tuple[str, Quality]]) -> None:
    """Models side by side on the same customers."""
    print_table(
        ["model", "customers", "left", *QUALITY_HEAD],
        [[name, f"{found.n:,}", f"{found.left:.3f}", *quality_cells(found)] for name, found in rows],
    )


def quality_cells(found: Quality | None) -> list[str]:
    """Under `QUALITY_HEAD`."""
    return ["-"] * len(QUALITY_HEAD) if found is None else [f"{x:.4f}" for x in (found.auc, found.brier, found.ece)]


def document(model: LearntModel) -> dict[str, Any]:
    """A fit for a script."""
    verdicts = {verdict.layer: verdict for verdict in model.judged.verdicts}
    quality = own_quality(model)
    return {
        "version": model.version,
        "history": {"from": day_of(model.span.first_day * DAY_US), "until": moment(model.span.as_of_us)},
        "customers": model.span.customers,
        "active_days": model.span.active_days,
        "horizon_days": model.horizon_days,
        "activity": list(model.kinds),
        "base": model.base.model_dump(),
        "judged_by": model.judged.by,
        "layers": [
            {
                "layer": layer,
                "kept": verdict is not None and verdict.kept,
                "gain": None if verdict is None else verdict.gain.model_dump(),
                "said": said_of(layer, verdict, model),
            }
            for layer in LAYERS
            for verdict in [verdicts.get(layer)]
        ],
        "quality": None if quality is None else quality.model_dump(),
        "notes": list(model.notes),
    }
