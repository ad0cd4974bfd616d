"""Two models side by side: everybody's risk as of a moment by both, and how both did on the latest window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from services.cli.console import print_table, say
from services.cli.learning.asking import day_of, learning, some_events
from services.cli.learning.history import History
from services.cli.learning.quality import Window, judged_at, latest_window
from services.cli.learning.told import moment, print_qualities
from services.cli.learning.translate import to_learnt
from services.cli.visible import visible
from services.learning import judging
from services.learning.fitting import ExperienceAt
from services.learning.measures import Quality
from services.scoring.risk.model import Bands, RiskModel

BANDS: Final = ("low", "elevated", "high")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to compare; ``learnt_until_us``: it knows what happened before that, None for documented numbers."""

    model: RiskModel
    learnt_until_us: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """``changes``: customer_id, risk_a, risk_b, band_a, band_b of everybody, the largest changes first. ``counts``:
    (3, 3) customers by band under the first and the second model. ``qualities``: on the latest window, by model."""

    first: Subject
    second: Subject
    as_of_us: int
    changes: pl.DataFrame
    counts: npt.NDArray[np.int64]
    window: Window | None
    qualities: tuple[Quality, ...]
    notes: tuple[str, ...]

    @property
    def changed(self) -> int:
        """Customers whose band is another by the second model."""
        return int(self.counts.sum() - np.trace(self.counts))


def compare(
    first: Subject, second: Subject, history: History, as_of_us: int, experience: ExperienceAt | None = None
) -> Comparison:
    """Judge everybody by both. CommandError where there is nobody to judge."""
    some_events(history, moment(as_of_us))
    models = [to_learnt(subject.model) for subject in (first, second)]
    with learning(f"as of {moment(as_of_us)}"):
        a, b = (judging.risks(model, history.events, as_of_us, experience) for model in models)
    changes = (
        a.rename({"risk": "risk_a"})
        .join(b.rename({"risk": "risk_b"}), on="customer_id", maintain_order="left")
        .with_columns(
            band(pl.col("risk_a"), first.model.bands).alias("band_a"),
            band(pl.col("risk_b"), second.model.bands).alias("band_b"),
        )
        .sort((pl.col("risk_b") - pl.col("risk_a")).abs(), "customer_id", descending=[True, False])
    )
    counts = np.zeros((len(BANDS), len(BANDS)), dtype=np.int64)
    np.add.at(counts, (changes["band_a"].to_numpy(), changes["band_b"].to_numpy()), 1)
    # One question for both: that of the second.
    asked = models[1]
    window = latest_window(history.events, as_of_us, asked.horizon_days, asked.kinds)
    qualities: tuple[Quality, ...] = ()
    if window is not None:
        qualities = tuple(
            judged_at(to_learnt(s.model, asked.horizon_days, asked.kinds), history.events, window, experience)
            for s in (first, second)
        )
    return Comparison(
        first,
        second,
        as_of_us,
        changes,
        counts,
        window,
        qualities,
        (*history.notes, *_notes(first, second, window)),
    )


def band(risk: pl.Expr, levels: Bands) -> pl.Expr:
    """Place in `BANDS` by the levels of entering: what a customer without a band so far would be in."""
    high, elevated = risk >= levels.high_enter, risk >= levels.elevated_enter
    return pl.when(high).then(2).when(elevated).then(1).otherwise(0).cast(pl.Int64)


def _notes(first: Subject, second: Subject, window: Window | None) -> list[str]:
    notes = []
    a, b = first.model, second.model
    if (a.horizon_days, set(a.activity_kinds)) != (b.horizon_days, set(b.activity_kinds)):
        notes.append(
            f"{a.version} asks for {a.horizon_days:g} days without {' or '.join(a.activity_kinds)}, {b.version} for "
            f"{b.horizon_days:g} days without {' or '.join(b.activity_kinds)}: the risks answer each its own question; "
            f"on the window both are asked that of {b.version}"
        )
    if window is None:
        return [*notes, "too little history for a window to judge them on"]
    return [*notes, *dict.fromkeys(note for s in (first, second) for note in flattered(s, window.start_us))]


def flattered(subject: Subject, window_start_us: int) -> list[str]:
    """What to say of a model's figures on a window that it has learnt from."""
    if subject.learnt_until_us is None or subject.learnt_until_us <= window_start_us:
        return []
    return [f"{subject.model.version} has learnt from events of that window, so its figures there flatter it"]


def print_comparison(found: Comparison, limit: int) -> None:
    """For a person, on stdout."""
    a, b = found.first.model.version, found.second.model.version
    print(f"{found.changes.height:,} customers as of {moment(found.as_of_us)} UTC; A is {a}, B is {b}\n")
    rows = [
        [f"A {name}", *(f"{count:,}" for count in counts)] for name, counts in zip(BANDS, found.counts, strict=True)
    ]
    print_table(["", *(f"B {name}" for name in BANDS)], rows)
    rise, fall = int(np.triu(found.counts, 1).sum()), int(np.tril(found.counts, -1).sum())
    mean_a, mean_b = (float(found.changes[name].to_numpy().mean()) for name in ("risk_a", "risk_b"))
    print(f"\nby B {found.changed:,} are in another band: {rise:,} in a higher, {fall:,} in a lower one;")
    print(f"the mean risk is {mean_a:.3f} by A and {mean_b:.3f} by B")
    if limit:
        print("\nlargest changes")
        print_table(
            ["customer", "risk by A", "by B", "band by A", "by B"],
            [
                [visible(row[0], 40), f"{row[1]:.4f}", f"{row[2]:.4f}", BANDS[row[3]], BANDS[row[4]]]
                for row in found.changes.head(limit).iter_rows()
            ],
        )
    if found.window is not None:
        window = found.window
        print(f"\nby who left from {day_of(window.start_us)} to {day_of(window.end_us)}, from what was known before:")
        print_qualities(list(zip((a, b), found.qualities, strict=True)))
    for note in found.notes:
        say(note)


def comparison_document(found: Comparison, limit: int) -> dict[str, Any]:
    """For a script."""
    window = found.window
    names = found.first.model.version, found.second.model.version
    return {
        "as_of": moment(found.as_of_us),
        "a": names[0],
        "b": names[1],
        "customers": found.changes.height,
        "changed_band": found.changed,
        "bands": {
            one: {other: int(found.counts[i, j]) for j, other in enumerate(BANDS)} for i, one in enumerate(BANDS)
        },
        "changes": [
            {**row, "band_a": BANDS[row["band_a"]], "band_b": BANDS[row["band_b"]]}
            for row in found.changes.head(limit).iter_rows(named=True)
        ],
        "window": None if window is None else {"from": day_of(window.start_us), "until": day_of(window.end_us)},
        "quality": {name: found.model_dump() for name, found in zip(names, found.qualities, strict=False)},
        "notes": list(found.notes),
    }
