"""What a scoring worker counts. Names and meanings are documented; dashboards rely on them."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.scoring.core import Effects
from services.scoring.shell import Effect

REGISTRY: Final = CollectorRegistry()

RECORDS: Final = Counter("touchstone_scoring_records", "Records of topic touchpoints done with", registry=REGISTRY)
STORED: Final = Counter("touchstone_scoring_stored", "Events stored, reviews among them", registry=REGISTRY)
REPEATED: Final = Counter(
    "touchstone_scoring_repeated", "Events dropped because their id came before", ["conflict"], registry=REGISTRY
)
REJECTED: Final = Counter(
    "touchstone_scoring_rejected", "Records that could not be taken", ["reason"], registry=REGISTRY
)
SIGNALS: Final = Counter("touchstone_scoring_signals", "Crossings of a risk band", ["to_band"], registry=REGISTRY)
STATES: Final = Counter("touchstone_scoring_states_written", "Rows written to customer_state", registry=REGISTRY)
WRITES: Final = Counter("touchstone_scoring_writes", "Sets of effects written and acknowledged", registry=REGISTRY)
CACHED: Final = Gauge("touchstone_scoring_cached_customers", "Customers in memory", registry=REGISTRY)
UNREACHABLE: Final = Gauge(
    "touchstone_scoring_waiting_for_tables", "1 while the tables cannot be reached", registry=REGISTRY
)


def count(effect: Effect, effects: Effects) -> None:
    """Count a set of effects once, when all of it is written."""
    if effect is not Effect.ACKNOWLEDGED:
        return
    RECORDS.inc(effects.records)
    STORED.inc(sum(written.frame.height for written in effects.events))
    for event in effects.repeated:
        REPEATED.labels(str(event.conflict).lower()).inc()
    for record in effects.rejected:
        REJECTED.labels(record.reason).inc()
    for crossings in effects.signals:
        for band, number in crossings.get_column("to_band").value_counts().iter_rows():
            SIGNALS.labels(band).inc(number)
    STATES.inc(len(effects.dirty()))
    WRITES.inc()
