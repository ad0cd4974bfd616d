"""A scoring worker that kills itself right after an effect.

    python -m tests.e2e.scoring.crash_worker EFFECT N GROUP

N counts the reports of that effect: rejected and signals have two, for their table and for their topic. The worker
reads by a group of its own, because the group of a killed worker would wait for it for ten seconds; with the same
committed positions it sees what its successor would see.
"""

from __future__ import annotations

import os
import signal
import sys

from services.scoring import main, metrics
from services.scoring.core import Effects
from services.scoring.shell import Effect

if __name__ == "__main__":
    wanted, reports_left = Effect(sys.argv[1]), int(sys.argv[2])
    _count = metrics.count

    def count(effect: Effect, effects: Effects) -> None:
        """`metrics.count`, which the shell calls after each effect."""
        global reports_left
        _count(effect, effects)
        if effect is wanted:
            reports_left -= 1
            if not reports_left:
                os.kill(os.getpid(), signal.SIGKILL)

    metrics.count = count
    main.CONSUMER_GROUP = sys.argv[3]  # type: ignore[attr-defined]
    sys.exit(main.main())
