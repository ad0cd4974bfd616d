"""The two checks of states: against one SQL query over the stored events, and against a fresh fold of the log.

Each customer is compared as of the later of two places: where their own state stands, and what the stream had committed
before the state was read. Up to there the state must have everything; what the stream did meanwhile is not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.clickhouse.client import quoted
from infra.kafka.read import read_partition
from schemas.reasons import Reason
from schemas.rejected import STAGE_LOG
from schemas.state_layout import CODES, KEY, PACKED
from schemas.tables import DATABASE, MODEL_ACTIVATIONS, REJECTED_EVENTS, REPEATED_EVENTS, TOUCHPOINTS
from schemas.topics import TOUCHPOINTS as TOPIC
from services.cli.verification.deployment import Deployment, end_of
from services.cli.verification.population import Population, condition, load_states, moved
from services.scoring import readings
from services.scoring.ports import StateRows
from services.scoring.recompute import PLACED, RECOMPUTED, placed_sql, recompute_sql
from services.scoring.verify.compare import JUDGED, Difference, differences
from services.scoring.verify.refold import MOST_CUSTOMERS, MOST_EVENTS, Refold, Share, ShareTooLargeError, Wanted
from services.scoring.verify.rows import SCHEMA, plain, to_frame

BY_SQL: Final = "sql"
BY_LOG: Final = "log"

_RECOMPUTED: Final = frozenset({*PLACED, *(column.name for column in RECOMPUTED)})


@dataclass(frozen=True, slots=True)
class Limits:
    """What is held in memory at once, in the fold of a log."""

    customers: int = MOST_CUSTOMERS
    events: int = MOST_EVENTS


@dataclass(frozen=True, slots=True)
class Compared:
    """Some customers against one of the two. ``moved``: of how many the stream wrote a later state meanwhile."""

    against: str
    customers: int
    moved: int
    differences: list[Difference]


def uncompared(deployment: Deployment) -> frozenset[str]:
    """Columns that no fold can say anything of: models have judged of which the log does not say which one when."""
    return frozenset(JUDGED) if deployment.unlogged else frozenset()


def by_sql(deployment: Deployment, population: Population) -> Iterator[Compared]:
    """Page by page against the recompute over table ``touchpoints``."""
    client = deployment.client
    last = {at: end - 1 for at, end in deployment.committed.items()}
    for names in population.pages(client):
        stream = load_states(client, condition(names))
        stands = dict(stream.select(KEY, "log_offset").iter_rows())
        where = f"{condition(names)} AND {_upto(stands, last)}"
        placed = plain(client.frame(placed_sql(where)))
        made = plain(client.frame(recompute_sql(deployment.model.activity_kinds, where)))
        found = differences(stream, _filled(placed.join(made, on=KEY, how="left")), _RECOMPUTED)
        customers = len(stands.keys() | set(placed.get_column(KEY)))
        yield Compared(BY_SQL, customers, moved(client, stands), found)


def _upto(stands: Mapping[str, int], last: Mapping[int, int]) -> str:
    """The condition on an event's place: up to what is committed of its partition, or where its customer stands."""
    by_partition = f"transform(log_partition, {list(last)}, {list(last.values())}, toInt64(-1))"
    if not stands:
        return f"log_offset <= {by_partition}"
    offsets = ", ".join(map(str, stands.values()))
    by_customer = f"transform(customer_id, [{quoted(list(stands))}], [{offsets}], toInt64(-1))"
    return f"log_offset <= greatest(toInt64({by_partition}), toInt64({by_customer}))"


def _filled(frame: pl.DataFrame) -> pl.DataFrame:
    """A customer of whom there are reviews alone has nothing to add up: zeros, empty names, empty sets."""
    nothing = {
        name: pl.lit(bytes(PACKED[name].item_bytes * PACKED[name].width))
        if name in PACKED
        else pl.lit("" if name in CODES else 0)
        for name in frame.columns
        if name != KEY
    }
    return frame.with_columns(pl.coalesce(name, empty.cast(SCHEMA[name])) for name, empty in nothing.items())


def by_log(
    deployment: Deployment,
    population: Population,
    limits: Limits = Limits(),
    keep: Callable[[StateRows], None] = lambda rows: None,
) -> Iterator[Compared]:
    """Share by share against a fold of the log from offset 0; ``keep`` is given the states it comes to.

    The log must begin at 0. Raises KafkaInfraError, ClickHouseError, ShareTooLargeError.
    """
    homeless = _homeless(deployment, population)
    for partition in sorted(deployment.committed):
        shares = [Share()] if population.names is not None else _shares(deployment, partition, limits)
        while shares:
            share = shares.pop()
            try:
                yield _fold_share(deployment, population, homeless, partition, share, limits, keep)
            except ShareTooLargeError:
                shares += share.halves()


def _homeless(deployment: Deployment, population: Population) -> frozenset[str]:
    """Of customers given by name those without a state: whatever partition has events of them may be theirs."""
    if population.names is None:
        return frozenset()
    rows = deployment.client.query(
        f"SELECT DISTINCT customer_id FROM {DATABASE}.customer_state WHERE {condition(population.names)}"
    )
    return frozenset(population.names) - {name for (name,) in rows}


def _shares(deployment: Deployment, partition: int, limits: Limits) -> list[Share]:
    """As few as will do by what the tables say; those that are too large all the same are halved later."""
    [(customers,)] = deployment.client.query(
        f"SELECT uniq(customer_id) FROM {DATABASE}.{TOUCHPOINTS.name} WHERE log_partition = {partition}"
    )
    needed = max(customers / limits.customers, deployment.committed[partition] / limits.events, 1)
    modulus = 1 << (int(needed * 1.1) - 1).bit_length() if needed > 1 else 1
    return [Share(modulus, remainder) for remainder in range(modulus)]


def _fold_share(
    deployment: Deployment,
    population: Population,
    homeless: frozenset[str],
    partition: int,
    share: Share,
    limits: Limits,
    keep: Callable[[StateRows], None],
) -> Compared:
    client, last = deployment.client, deployment.committed[partition] - 1
    chosen = share.sql() if population.names is None else condition(population.names)
    stream = load_states(client, f"log_partition = {partition} AND {chosen}")
    stands = dict(stream.select(KEY, "log_offset").iter_rows())
    upto = {name: max(offset, last) for name, offset in stands.items()}
    upto |= dict.fromkeys(homeless, last)
    if not upto and not population.whole:
        return Compared(BY_LOG, 0, 0, [])
    wanted = Wanted(upto, last if population.whole else None, share)
    # A state may claim to stand where the log has nothing: it is held to what there is.
    end = min(max((last, *upto.values())) + 1, end_of(deployment.where.kafka_bootstrap, partition))
    folded = fold(deployment, partition, wanted, end, limits)
    frame = to_frame(folded)
    elsewhere = _elsewhere(deployment, partition, set(frame.get_column(KEY)) - stands.keys())
    if elsewhere:
        frame = frame.filter(~pl.col(KEY).is_in(sorted(elsewhere)))
    keep(_without(folded, elsewhere))
    found = differences(stream, frame, SCHEMA.keys(), uncompared(deployment))
    customers = len(stands.keys() | set(frame.get_column(KEY)))
    return Compared(BY_LOG, customers, moved(client, stands), found)


def fold(deployment: Deployment, partition: int, wanted: Wanted, end: int, limits: Limits) -> StateRows:
    """The states that a partition's log comes to, from offset 0, without records that no worker of their time could
    read: this version may, but their places were passed, and what was in them counts where it was sent again."""
    passed = _passed(deployment, partition)
    refold = Refold(
        partition,
        wanted,
        deployment.model,
        readings.shipped(),
        lambda: os.urandom(8),
        most_customers=limits.customers,
        most_events=limits.events,
    )
    for records in read_partition(deployment.where.kafka_bootstrap, TOPIC, partition, 0, end):
        if not passed.size or not (left_out := np.isin(records.offsets, passed)).any():
            refold.take(records.offsets, records.values, records.timestamps_ms)
            continue
        kept = np.flatnonzero(~left_out)
        values = [records.values[place] for place in kept.tolist()]
        refold.take(records.offsets[kept], values, [records.timestamps_ms[place] for place in kept.tolist()])
    return refold.states()


def _passed(deployment: Deployment, partition: int) -> npt.NDArray[np.int64]:
    """Offsets whose schema or risk model was unknown to the worker that met them, and that no newer worker took after
    all (as it may when the first one died before it had committed)."""
    rejected = (
        f"SELECT log_offset FROM {DATABASE}.{REJECTED_EVENTS.name} WHERE stage = '{STAGE_LOG}' "
        f"AND log_partition = {partition} AND reason IN ('{Reason.UNKNOWN_SCHEMA}', '{Reason.UNUSABLE_MODEL}')"
    )
    offsets = {offset for (offset,) in deployment.client.query(rejected)}
    if offsets:
        for table in (TOUCHPOINTS, REPEATED_EVENTS, MODEL_ACTIVATIONS):
            taken = (
                f"SELECT log_offset FROM {DATABASE}.{table.name} "
                f"WHERE log_partition = {partition} AND log_offset IN ({rejected})"
            )
            offsets -= {offset for (offset,) in deployment.client.query(taken)}
    return np.array(sorted(offsets), dtype=np.int64)


def _elsewhere(deployment: Deployment, partition: int, names: Sequence[str] | set[str]) -> set[str]:
    """Those who live in another partition: the stream rejects what comes of them here."""
    if not names:
        return set()
    rows = deployment.client.query(
        f"SELECT DISTINCT customer_id FROM {DATABASE}.customer_state "
        f"WHERE log_partition != {partition} AND {condition(sorted(names))}"
    )
    return {name for (name,) in rows}


def _without(rows: StateRows, names: set[str]) -> StateRows:
    if not names:
        return rows
    kept = [place for place, name in enumerate(rows.customers) if name not in names]
    return StateRows(
        [rows.customers[place] for place in kept],
        rows.floats[kept],
        rows.ints[kept],
        rows.activity_days[kept],
        rows.cases[kept],
        rows.recent_ids[kept],
        rows.touchpoints,
        rows.models,
    )
