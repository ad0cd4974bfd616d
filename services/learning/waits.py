"""How long after a step one is usually asked, where nothing else happened in between.

Time from a step to the asking, cut short by the next step: whoever went on can no longer be asked in that state, so
plain medians of those who were asked would be far too short for steps that others follow. The median of the
product-limit estimate (Kaplan, Meier, 1958) is right for that.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

LEAST_ASKED: Final = 20
"""With fewer journeys asked after a step, nothing is said of it."""
_HALF: Final = 0.5


def usual_waits(known: pl.DataFrame) -> dict[str, int]:
    """Microseconds by touchpoint; only those after which at least half of the journeys that stay there are asked.

    ``known``: key, touchpoint, occurred_at of the steps that were known when a journey was asked, and asked_us.
    """
    at = pl.col("occurred_at")
    ends = (
        known.sort("key", "occurred_at", "touchpoint")
        .with_columns(next_us=at.shift(-1).over("key"))
        .select(
            "touchpoint",
            wait_us=(pl.coalesce("next_us", "asked_us") - at).clip(lower_bound=0),
            asked=pl.col("next_us").is_null(),
        )
    )
    found = {}
    for (touchpoint,), part in ends.group_by("touchpoint"):
        asked = int(part.get_column("asked").sum())
        if asked < LEAST_ASKED:
            continue
        # Of the same wait, those who were asked come first: the others could still have been.
        part = part.sort("wait_us", "asked", descending=[False, True])
        left = np.arange(part.height, 0, -1, dtype=np.float64)
        staying = np.cumprod(1.0 - part.get_column("asked").to_numpy() / left)
        if staying[-1] <= _HALF:
            found[str(touchpoint)] = int(part.get_column("wait_us")[int(np.argmax(staying <= _HALF))])
    return found
