"""Rows of events in the order of their table's key.

Whole strings are dear to compare. Nearly always the first eight bytes after what all customers have in common tell
them apart, and no two events of a customer happened in the same microsecond: rows are sorted by these two numbers,
and the few that they leave undecided by the whole key.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from infra.clickhouse.blocks import Order, string_buffers

_KEY: Final = ("customer_id", "occurred_at", "event_id")
_DIGEST_BYTES: Final = 8


def key_order(frame: pl.DataFrame) -> Order:
    """Places (n,) of the rows of a frame by customer_id (bytewise), occurred_at and event_id, none of them null."""
    customers, occurred = frame.get_column("customer_id"), frame.get_column("occurred_at")
    if frame.height < 2:
        return np.arange(frame.height)
    digests = _digests(customers)
    numbers = pl.DataFrame({"digest": digests, "occurred_at": occurred})
    order = numbers.select(pl.arg_sort_by("digest", "occurred_at")).to_series().to_numpy().astype(np.intp)
    digests, times = digests[order], occurred.to_numpy()[order]
    names = customers.gather(order)
    same = digests[1:] == digests[:-1]
    undecided = same & ((times[1:] == times[:-1]) | (names.slice(1) != names.slice(0, len(names) - 1)).to_numpy())
    if undecided.any():
        runs = np.concatenate(([0], np.cumsum(~same)))
        mixed = np.zeros(runs[-1] + 1, dtype=np.bool_)
        mixed[runs[1:][undecided]] = True
        # Runs of one digest keep their places: sorting the rows of all such runs together moves none to another.
        places = np.flatnonzero(mixed[runs])
        rows = order[places]
        order[places] = rows[frame.select(_KEY)[rows].select(pl.arg_sort_by(*_KEY)).to_series().to_numpy()]
    return order


def _digests(values: pl.Series) -> npt.NDArray[np.uint64]:
    """Eight bytes of each value after the prefix that all have in common, as numbers in the order of the bytes.

    Values that end earlier are filled up with zeros.
    """
    least, most = str(values.min()).encode(), str(values.max()).encode()
    # What the first and the last have in common, all between them have too.
    differing = (place for place, (one, other) in enumerate(zip(least, most, strict=False)) if one != other)
    common = next(differing, min(len(least), len(most)))
    starts, data = string_buffers(values)
    padded = np.concatenate((data, np.zeros(_DIGEST_BYTES, dtype=np.uint8)))
    # The number that begins at each byte.
    at_byte = np.ndarray((len(data) + 1,), dtype=">u8", buffer=padded.data, strides=(1,))
    digests = at_byte[starts[:-1] + common].astype(np.uint64)
    left = np.diff(starts) - common
    if (short := left < _DIGEST_BYTES).any():
        # What follows belongs to the next value.
        foreign_bits = (8 * (_DIGEST_BYTES - left[short])).astype(np.uint64)
        digests[short] = np.where(foreign_bits < 64, digests[short] >> foreign_bits << foreign_bits, 0)
    return digests
