"""Bytes of the log to columns: total, and as fast as a columnar reader allows.

The records of a batch are laid out as one in-memory Avro container block and read at once. In front of each goes a
random marker that the container schema declares as a fixed field: a record that is shorter or longer than its schema
says shifts the marker, so no record can borrow bytes from its neighbour unnoticed. From a block that does not read,
the records that a second reader cannot take either are removed; should that not do, the rest is halved until the
records at fault stand alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import fastavro
import polars as pl
import polars_avro
from polars_avro._avro_rs import AvroSource  # the public reader ignores the batch size that makes it stop in time
from polars_avro._source import seekable_factory

from schemas.emotions import EMOTIONS
from schemas.kinds import KINDS, OUTCOMES
from schemas.metrics import METRICS
from schemas.reasons import Reason
from schemas.versions import BY_HEADER, CURRENT, HEADER_BYTES, MARKER, VERSIONS, SchemaVersion, kinds_of

MARKER_BYTES: Final = 8
MAX_ID_BYTES: Final = 4 * 255
MAX_JOURNEY_BYTES: Final = 400
"""The edge is stricter. Journeys are a dictionary in the table, which texts without end would burst."""
FUTURE_TOLERANCE_US: Final = 24 * 3600 * 1_000_000
"""How far occurred_at may lie after received_at before the record counts as damaged. The edge is stricter."""
END_US: Final = 4_102_444_800_000_000
"""2100-01-01: from then on a clock is damaged, and seconds would outgrow the 32 bits that states keep of them."""

KIND_TYPE: Final = pl.Enum(KINDS)
OUTCOME_TYPE: Final = pl.Enum(OUTCOMES)
METRIC_TYPE: Final = pl.Enum(list(METRICS))
EMOTION_TYPE: Final = pl.Enum(EMOTIONS)

COLUMNS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "event_id": pl.Binary,
    "customer_id": pl.String,
    "occurred_at": pl.Int64,
    "received_at": pl.Int64,
    "source": pl.String,
    "kind": KIND_TYPE,
    "touchpoint": pl.String,
    "channel": pl.String,
    "journey_id": pl.String,
    "outcome": OUTCOME_TYPE,
    "metric": METRIC_TYPE,
    "rating": pl.Float64,
    "emotion": EMOTION_TYPE,
    "intensity": pl.Float64,
    "confidence": pl.Float64,
    "amount_micros": pl.Int64,
    "currency": pl.String,
    "case_id": pl.String,
    "text": pl.String,
    "sender_event_id": pl.String,
    "attributes": pl.Map(pl.String, pl.String),
    "journey": pl.String,
}
"""Columns of a decoded batch, in order. Times are integer UTC microseconds."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be taken; ``index`` is its place in the batch that was handed in."""

    index: int
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """``frame`` has `COLUMNS`; row i came from record ``rows[i]``. Every record is in exactly one of the two."""

    frame: pl.DataFrame
    rows: pl.Series
    rejects: tuple[Reject, ...]


_UNREADABLE: Final = (polars_avro.AvroError, pl.exceptions.PolarsError, StopIteration, SystemError)
"""What the reader raises for a damaged block; SystemError is its own failure to say which of the others."""


class _Reader:
    """Reads blocks written with one schema version."""

    def __init__(self, version: SchemaVersion) -> None:
        framed = {
            "type": "record",
            "name": "Framed",
            "namespace": "touchstone.internal",
            "fields": [
                {"name": "marker", "type": {"type": "fixed", "name": "Marker", "size": MARKER_BYTES}},
                {"name": "header", "type": {"type": "fixed", "name": "Header", "size": HEADER_BYTES}},
                {"name": "touchpoint", "type": version.document},
            ],
        }
        meta = io.BytesIO()
        fastavro.schemaless_writer(
            meta,
            {"type": "map", "values": "bytes"},
            {"avro.schema": json.dumps(framed).encode(), "avro.codec": b"null"},
        )
        self._sync = b"touchstone-block"
        self._head = b"Obj\x01" + meta.getvalue() + self._sync

        fields = [field["name"] for field in version.document["fields"]]
        touchpoint = pl.col("touchpoint").struct
        self._headers_fit = pl.col("header") == pl.lit(version.header)
        self._extended_fit = self._headers_fit
        self._zeros = {version.header: b""}
        for older in (known for known in VERSIONS if known.version < version.version):
            added = fields[len(older.document["fields"]) :]
            later = set(kinds_of(version)) - set(kinds_of(older))
            unsaid = pl.all_horizontal(
                *(touchpoint.field(name).is_null() for name in added),
                *(touchpoint.field("kind") != kind for kind in sorted(later)),
            )
            self._extended_fit |= (pl.col("header") == pl.lit(older.header)) & unsaid
            self._zeros[older.header] = bytes(len(added))
        self._bare = fastavro.parse_schema(_bare(version.document))
        self._sentinel = version.header + _minimal(version.document)

    def fits(self, value: bytes) -> bool:
        """Whether one record's body is what its schema says, to the last byte. Slower than `read` by the record, and
        far faster than finding the records at fault by halving when there are many."""
        body = io.BytesIO(value)
        body.seek(HEADER_BYTES)
        try:
            fastavro.schemaless_reader(body, self._bare, None)
        except Exception:  # damaged bytes: the reader has no error of its own that covers them
            return False
        return body.tell() == len(value)

    def read_with_older(self, values: Sequence[bytes], marker: bytes) -> pl.DataFrame | None:
        """As `read`, for records of this version and of older ones in any order.

        A null is a zero, so an older record and a zero for each field added since are a record of this version. That
        lets no damaged one pass: where bytes are left over before the zeros, they would have to be read as the
        added fields. A value among them shows, as older records have none; nulls leave the zeros over, which shifts
        the marker; and a zero is no end of a longer number, as the last byte before it does not say that more follows.
        A kind that came later shows as well.
        """
        extended = []
        for value in values:
            zeros = self._zeros.get(value[:HEADER_BYTES])
            if zeros is None or (zeros and value[-1] > 0x7F):
                return None
            extended.append(value + zeros)
        return self._read(extended, marker, self._extended_fit)

    def read(self, values: Sequence[bytes], marker: bytes) -> pl.DataFrame | None:
        """The block's columns, or None if any record in it does not fit its schema exactly."""
        return self._read(values, marker, self._headers_fit)

    def _read(self, values: Sequence[bytes], marker: bytes, headers_fit: pl.Expr) -> pl.DataFrame | None:
        # Two sentinels follow. The first one's marker proves that the last record ended where it should; the second
        # is never read: the reader loops for ever on a block whose records are used up while bytes are left.
        rows = len(values) + 1
        body = marker + marker.join((*values, self._sentinel, self._sentinel))
        block = b"".join((self._head, _long(rows + 1), _long(len(body)), body, self._sync))
        try:
            source = AvroSource([seekable_factory(io.BytesIO(block))], False, False)
            frame = pl.DataFrame(next(source.batch_iter(rows, None)))
        except _UNREADABLE:
            return None
        framed = (pl.col("marker") == pl.lit(marker)) & headers_fit
        if frame.height != rows or not frame.select(framed.all()).item():
            return None
        return _normalise(frame.get_column("touchpoint").head(len(values)).struct.unnest())


def _minimal(schema: dict[str, Any]) -> bytes:
    """The smallest record of a schema: zeros, first symbols, first branches, nothing in the map."""
    zeros: dict[str, Any] = {"string": "", "long": 0, "double": 0.0, "null": None, "map": {}}

    def zero(kind: Any) -> Any:
        if isinstance(kind, list):
            return zero(kind[0])
        if isinstance(kind, dict):
            if kind["type"] == "fixed":
                return bytes(kind["size"])
            if kind["type"] == "enum":
                return kind["symbols"][0]
            return zero(kind["type"])
        return zeros[kind]

    out = io.BytesIO()
    fastavro.schemaless_writer(out, _bare(schema), {field["name"]: zero(field["type"]) for field in schema["fields"]})
    return out.getvalue()


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with plain types alone: times are numbers here, of which any is readable."""
    return {**schema, "fields": [{**f, "type": _without_logical_type(f["type"])} for f in schema["fields"]]}


def _without_logical_type(kind: Any) -> Any:
    return kind["type"] if isinstance(kind, dict) and "logicalType" in kind else kind


def _long(value: int) -> bytes:
    """Avro's zigzag variable-length long, for the non-negative counts of a block header."""
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _normalise(frame: pl.DataFrame) -> pl.DataFrame:
    """Bring any version's columns to `COLUMNS`: columns it does not have are null."""
    present = set(frame.columns)
    return frame.select(
        (pl.col(name) if name in present else pl.lit(None)).cast(dtype).alias(name) for name, dtype in COLUMNS.items()
    )


_READERS: Final[Mapping[bytes, _Reader]] = {header: _Reader(version) for header, version in BY_HEADER.items()}
_EMPTY: Final = pl.DataFrame(schema=COLUMNS)
_UNKNOWN_SCHEMA: Final = (
    "no schema with fingerprint {} is known here; if a newer producer wrote it, upgrade all workers, then run "
    "`touchstone rejected resend --reason unknown_schema`"
)


def decode(values: Sequence[bytes | None], marker: bytes) -> Decoded:
    """Decode a batch of single-object records.

    ``marker``: `MARKER_BYTES` random bytes, new for each call so that no sender can foresee them.
    Never raises for anything in ``values``.
    """
    if len(marker) != MARKER_BYTES:
        raise ValueError(f"marker must be {MARKER_BYTES} bytes")
    if not values:
        return Decoded(_EMPTY, pl.Series("row", [], dtype=pl.UInt32), ())
    frame: pl.DataFrame | None = None
    first = values[0]
    reader = None if first is None else _READERS.get(first[:HEADER_BYTES])
    if reader is not None and None not in values:
        frame = reader.read(values, marker)  # type: ignore[arg-type]
        if frame is None and any(value[:HEADER_BYTES] != first[:HEADER_BYTES] for value in values):  # type: ignore[index]
            frame = _READERS[CURRENT.header].read_with_older(values, marker)  # type: ignore[arg-type]
    if frame is not None:
        rows = pl.int_range(len(values), dtype=pl.UInt32, eager=True).alias("row")
        rejects: list[Reject] = []
    else:
        frame, rows, rejects = _decode_mixed(values, marker)
    return _check(frame, rows, rejects)


def _decode_mixed(values: Sequence[bytes | None], marker: bytes) -> tuple[pl.DataFrame, pl.Series, list[Reject]]:
    """The slow road: sort the records by version and find those at fault."""
    rejects: list[Reject] = []
    groups: dict[bytes, list[int]] = {}
    for index, value in enumerate(values):
        if value is None or len(value) < HEADER_BYTES or value[:2] != MARKER:
            rejects.append(Reject(index, Reason.NOT_SINGLE_OBJECT, "record does not start with the Avro marker C3 01"))
        elif value[:HEADER_BYTES] not in _READERS:
            fingerprint = value[2:HEADER_BYTES].hex()
            rejects.append(Reject(index, Reason.UNKNOWN_SCHEMA, _UNKNOWN_SCHEMA.format(fingerprint)))
        else:
            groups.setdefault(value[:HEADER_BYTES], []).append(index)
    frames: list[pl.DataFrame] = []
    rows: list[int] = []
    for header, indices in groups.items():
        reader = _READERS[header]
        pending, screened, unfit = [indices], False, []
        while pending:
            part = pending.pop()
            frame = reader.read([values[i] for i in part], marker)  # type: ignore[misc]
            if frame is not None:
                frames.append(frame)
                rows.extend(part)
            elif len(part) == 1:
                unfit += part
            elif not screened:
                screened = True
                fit = [i for i in part if reader.fits(values[i])]  # type: ignore[arg-type]
                unfit += sorted(set(part) - set(fit))
                pending += [fit] if fit else []
            else:
                middle = len(part) // 2
                pending += [part[middle:], part[:middle]]
        rejects += [Reject(i, Reason.UNDECODABLE, "body does not fit its schema") for i in unfit]
    if not frames:
        return _EMPTY, pl.Series("row", [], dtype=pl.UInt32), rejects
    row_series = pl.Series("row", rows, dtype=pl.UInt32)
    together = pl.concat(frames).with_columns(row_series).sort("row")
    return together.drop("row"), together.get_column("row"), rejects


def _rules() -> list[tuple[str, pl.Expr]]:
    """What breaks the contract, as text and as condition. Senders that write to Kafka directly skip the edge's
    checks."""
    rules: list[tuple[str, pl.Expr]] = [
        ("customer_id is empty", pl.col("customer_id") == ""),
        (
            f"customer_id is longer than {MAX_ID_BYTES} bytes",
            pl.col("customer_id").str.len_bytes() > MAX_ID_BYTES,
        ),
        ("source is empty", pl.col("source") == ""),
        ("touchpoint is empty", pl.col("touchpoint") == ""),
        ("occurred_at is before 1970", pl.col("occurred_at") < 0),
        ("received_at is before 1970", pl.col("received_at") < 0),
        ("received_at is after 2099", pl.col("received_at") >= END_US),
        (
            "occurred_at is more than a day after received_at",
            pl.col("occurred_at") - pl.col("received_at") > FUTURE_TOLERANCE_US,
        ),
        (
            f"journey is empty or longer than {MAX_JOURNEY_BYTES} bytes",
            ~pl.col("journey").str.len_bytes().is_between(1, MAX_JOURNEY_BYTES),
        ),
        ("rating needs a metric", pl.col("metric").is_null() & pl.col("rating").is_not_null()),
        (
            "metric needs a rating",
            pl.col("metric").is_not_null() & pl.col("rating").is_null() & (pl.col("kind") != "survey_sent"),
        ),
        ("rating is not a finite number", ~pl.col("rating").is_finite()),
        ("intensity is not in (0, 1]", ~pl.col("intensity").is_between(0, 1, closed="right")),
        ("confidence is not in (0, 1]", ~pl.col("confidence").is_between(0, 1, closed="right")),
        ("amount_micros is negative", pl.col("amount_micros") < 0),
        (
            "amount_micros and currency come together",
            pl.col("amount_micros").is_null() != pl.col("currency").is_null(),
        ),
        ("kind emotion needs an emotion", (pl.col("kind") == "emotion") & pl.col("emotion").is_null()),
        (
            "kind survey_response needs a rating",
            (pl.col("kind") == "survey_response") & pl.col("rating").is_null(),
        ),
    ]
    rules += [
        (
            f"rating is outside {scale.low:g}..{scale.high:g} for {metric}",
            (pl.col("metric") == metric) & ~pl.col("rating").is_between(scale.low, scale.high),
        )
        for metric, scale in METRICS.items()
    ]
    return rules


_CONTRACT: Final = pl.coalesce(pl.when(broken).then(pl.lit(detail)) for detail, broken in _rules())
"""First broken rule of a row as text, or null."""
_ANY_BROKEN: Final = pl.any_horizontal(broken for _, broken in _rules()).any()
"""Whether there is any: all that is asked of a sound batch."""


def _check(frame: pl.DataFrame, rows: pl.Series, rejects: list[Reject]) -> Decoded:
    if frame.select(_ANY_BROKEN).item():
        broken = frame.select(_CONTRACT.alias("broken")).to_series()
        sound = broken.is_null()
        bad = ~sound
        rejects.extend(
            Reject(index, Reason.OUT_OF_CONTRACT, detail)
            for index, detail in zip(rows.filter(bad).to_list(), broken.filter(bad).to_list(), strict=True)
        )
        frame, rows = frame.filter(sound), rows.filter(sound)
    return Decoded(frame, rows, tuple(sorted(rejects, key=lambda reject: reject.index)))
