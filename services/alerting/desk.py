"""The desk: signals in, alerts decided and kept. One thread, that of the reader of the topic.

Alerts are written before the states that follow from them, and both before the reader's position: what was done and not
committed is decided again with the same ids, and what the log of alerts has already is not decided a second time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from services.alerting.alert import Alert, Fate
from services.alerting.decide import decide
from services.alerting.intake import frame, read
from services.alerting.metrics import AlertingMetrics
from services.alerting.rules.model import RuleSet
from services.alerting.store import Store
from services.alerting.sweep import asks_for_segments

_log: Final = logging.getLogger(__name__)


class Desk:
    """Takes signals, for whoever plans calls."""

    def __init__(
        self,
        store: Store,
        rules: Callable[[], RuleSet],
        decided: Callable[[Sequence[Alert]], None],
        metrics: AlertingMetrics,
        now_us: Callable[[], int],
    ) -> None:
        """``rules``: those that hold now; ``decided`` is told of alerts that wait, once they are kept."""
        self._store = store
        self._rules = rules
        self._decided = decided
        self._metrics = metrics
        self._now_us = now_us

    def take(self, values: Sequence[bytes]) -> None:
        """Decide by the topic's records. Raises what the store raises; then the same records are to come again."""
        taken = read(values)
        if taken.unreadable:
            _log.error("%d records of topic loyalty-signals are no signals and are passed over", len(taken.unreadable))
            self._metrics.signals((), len(taken.unreadable))
        rules = self._rules()
        customers = sorted({signal.customer_id for signal in taken.signals})
        if not customers:
            return
        segments = self._store.segments(customers) if asks_for_segments(rules) else {}
        decided = decide(rules, frame(taken.signals, segments), self._store.load_states(customers))
        known = self._store.fates(decided.alerts)
        fresh = [alert for alert in decided.alerts if (alert.alert_id, alert.turn) not in known]
        self._store.write_alerts(fresh)
        self._store.write_states(decided.states)
        now_us = self._now_us()
        self._metrics.signals([(now_us - signal.judged_at_us) / 1e6 for signal in taken.signals], 0)
        self._metrics.alerts(fresh)
        waiting = [
            alert for alert in decided.alerts if known.get((alert.alert_id, alert.turn), Fate.WAITING) is Fate.WAITING
        ]
        if waiting:
            self._decided(waiting)
