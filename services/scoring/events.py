"""A decoded batch as the arrays the fold works on: one customer's events side by side, in log order."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.decode import KIND_TYPE
from schemas.kinds import KINDS
from services.scoring.readings import Readings, ReadingTable, read_frame
from services.scoring.state import Floats, Ints, Rows, Vocabulary

KIND: Final[dict[str, int]] = {kind: code for code, kind in enumerate(KINDS)}
MICRO: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Events:
    """n events. ``row`` is the customer's place in the states; folding wants them sorted by row, then offset."""

    row: Rows
    offset: Ints
    occurred_us: Ints
    received_us: Ints
    kind: npt.NDArray[np.uint8]
    touchpoint: Ints
    readings: Readings
    amount_micros: Ints
    negative_feedback: npt.NDArray[np.bool_]
    case_hash: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.row)

    def select(self, rows: Rows) -> Events:
        """Some events, in the order given."""
        return Events(
            self.row[rows],
            self.offset[rows],
            self.occurred_us[rows],
            self.received_us[rows],
            self.kind[rows],
            self.touchpoint[rows],
            Readings(self.readings.valence[rows], self.readings.weight[rows]),
            self.amount_micros[rows],
            self.negative_feedback[rows],
            self.case_hash[rows],
        )


UNHAPPY: Final = -0.15
"""Mean valence below which an answer counts as unhappy feedback that wants a follow-up."""


def mean_valence(readings: Readings) -> Floats:
    """Weighted mean over the dimensions; 0 where nothing was felt."""
    weight = readings.weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, (readings.weight * readings.valence).sum(axis=1) / weight, 0.0)


def prepare(frame: pl.DataFrame, row: Rows, offset: Ints, table: ReadingTable, touchpoints: Vocabulary) -> Events:
    """Arrays for a decoded frame whose rows belong to customers ``row`` at log positions ``offset``."""
    kind = frame.get_column("kind").cast(KIND_TYPE).to_physical().cast(pl.UInt8).to_numpy()
    readings = read_frame(table, frame)
    names = frame.get_column("touchpoint").cast(pl.Categorical)
    local = names.to_physical()
    unique = pl.DataFrame({"code": local, "name": names.cast(pl.String)}).unique("code")
    lookup = np.zeros(int(local.max() or 0) + 1 if len(local) else 1, dtype=np.int64)  # type: ignore[arg-type]
    lookup[unique.get_column("code").to_numpy()] = touchpoints.codes(unique.get_column("name").to_list())
    return Events(
        row=row,
        offset=offset,
        occurred_us=frame.get_column("occurred_at").to_numpy(),
        received_us=frame.get_column("received_at").to_numpy(),
        kind=kind,
        touchpoint=lookup[local.to_numpy()],
        readings=readings,
        amount_micros=frame.get_column("amount_micros").fill_null(0).to_numpy(),
        negative_feedback=negative_feedback(kind, readings),
        case_hash=case_hashes(frame, kind),
    )


def negative_feedback(kind: npt.NDArray[np.uint8], readings: Readings) -> npt.NDArray[np.bool_]:
    """Which events are unhappy answers or complaints."""
    answered = (kind == KIND["survey_response"]) | (kind == KIND["emotion"])
    return np.asarray((answered & (mean_valence(readings) < UNHAPPY)) | (kind == KIND["complaint_opened"]))


def case_hashes(frame: pl.DataFrame, kind: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """31 bits of a case's name; only complaints need it. The empty name is a case of its own."""
    hashes = np.zeros(len(kind), dtype=np.uint64)
    rows = np.flatnonzero((kind == KIND["complaint_opened"]) | (kind == KIND["complaint_resolved"]))
    if rows.size:
        cases = frame.get_column("case_id").gather(rows).fill_null("").to_list()
        hashes[rows] = np.fromiter((case_hash(case) for case in cases), dtype=np.uint64, count=rows.size)
    return hashes


def case_hash(case_id: str) -> int:
    """CRC-32 without its lowest bit: SQL has the same function."""
    return zlib.crc32(case_id.encode()) >> 1
