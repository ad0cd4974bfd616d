"""De-duplication without a horizon: what is surely new, and what has to be looked up.

A state keeps its newest `RECENT_IDS` event ids, each as ``second << 32 | hash32``, and the latest second that ever
fell out of that set. An event that is newer than that second and whose hash is not in the set cannot be a repeat. All
others are candidates: they are compared with the stored events, which alone decide. So the hash may collide and the
set may be small: both cost a look-up and never an answer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.state_layout import INT_INDEX as INT
from schemas.tables import RECENT_IDS
from services.scoring.state import Ints, Rows, Sets, States

_LOW = np.uint64(0xFFFFFFFF)
_HORIZON = INT["ids_horizon_s"]


def id_keys(event_ids: pl.Series, occurred_us: Ints) -> Sets:
    """``second << 32 | hash32`` per event; the hash folds all sixteen bytes, as ids may share a prefix (UUIDv7)."""
    words = np.frombuffer(b"".join(event_ids.to_list()), dtype="<u4").reshape(-1, 4)
    hashes = np.bitwise_xor.reduce(words, axis=1).astype(np.uint64)
    seconds = (occurred_us // 1_000_000).astype(np.uint64)
    return np.asarray((seconds << np.uint64(32)) | hashes)


def candidates(states: States, row: Rows, keys: Sets) -> npt.NDArray[np.bool_]:
    """Events (customer row and key) that may repeat an earlier one, of the state or of this batch."""
    hashes = keys & _LOW
    seconds = (keys >> np.uint64(32)).astype(np.int64)
    known = ((states.recent_ids[row] & _LOW) == hashes[:, None]) & (states.recent_ids[row] != 0)
    maybe = known.any(axis=1) | (seconds <= states.ints[row, _HORIZON])
    together = (row.astype(np.uint64) << np.uint64(32)) | hashes
    order = np.argsort(together, kind="stable")
    same = np.flatnonzero(together[order][1:] == together[order][:-1])
    maybe[order[same]] = True
    maybe[order[same + 1]] = True
    return np.asarray(maybe)


def remember(states: States, row: Rows, keys: Sets) -> None:
    """Add keys (sorted by customer row) to the states' sets; the newest stay, the horizon rises over what goes.

    Order-free: the set is the newest of all keys ever seen, whatever the order or the batches they came in.
    """
    if not len(row):
        return
    starts = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    counts = np.diff(np.r_[starts, len(row)])
    single = counts == 1
    rows = row[starts[single]]
    if rows.size:
        new = keys[starts[single]]
        sets = states.recent_ids[rows]
        oldest = sets.argmin(axis=1)
        least = sets[np.arange(len(rows)), oldest]
        sets[np.arange(len(rows)), oldest] = np.maximum(least, new)
        states.recent_ids[rows] = sets
        _raise_horizon(states, rows, np.minimum(least, new))
    several = np.flatnonzero(~single)
    if several.size:
        _remember_several(states, row, keys, starts[several], counts[several])


def _remember_several(states: States, row: Rows, keys: Sets, starts: Rows, counts: Rows) -> None:
    rows = row[starts]
    place = np.repeat(np.arange(len(starts)), counts)
    within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    mine = keys[np.repeat(starts, counts) + within]
    order = np.lexsort((mine, place))[::-1]
    place, mine = place[order], mine[order]
    first = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
    rank = np.arange(len(place)) - np.repeat(first, np.diff(np.r_[first, len(place)]))
    width = min(int(counts.max()), RECENT_IDS)
    kept = rank < width
    new = np.zeros((len(starts), width), dtype=np.uint64)
    new[place[kept], rank[kept]] = mine[kept]
    merged = np.sort(np.concatenate((states.recent_ids[rows], new), axis=1), axis=1)
    states.recent_ids[rows] = merged[:, -RECENT_IDS:]
    _raise_horizon(states, rows, merged[:, -RECENT_IDS - 1])
    spilled = np.flatnonzero(~kept)
    if spilled.size:
        np.maximum.at(states.ints[:, _HORIZON], rows[place[spilled]], (mine[spilled] >> np.uint64(32)).astype(np.int64))


def _raise_horizon(states: States, rows: Rows, gone: Sets) -> None:
    seconds = (gone >> np.uint64(32)).astype(np.int64)
    states.ints[rows, _HORIZON] = np.maximum(states.ints[rows, _HORIZON], seconds)
