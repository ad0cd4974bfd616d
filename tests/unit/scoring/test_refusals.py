"""Whatever stands in topic `rejected` becomes a row, or is scoring's own."""

from __future__ import annotations

import orjson
import pytest

from schemas.rejected import STAGE_INGEST, STAGE_LOG, encode_rejected
from services.scoring.refusals import refusal

WRITTEN_MS = 1_760_000_000_000
LAST_US = 4_102_444_800_000_000


def record(**members: object) -> bytes:
    good = orjson.loads(
        encode_rejected(
            stage=STAGE_INGEST,
            received_at_us=7,
            reason="unknown_kind",
            field="/kind",
            detail="no such kind",
            payload=b"{}",
            customer_id="ada",
            source="shop",
        )
    )
    return orjson.dumps(good | members)


def test_what_ingest_refused_becomes_a_row() -> None:
    row = refusal(0, 3, WRITTEN_MS, record())
    assert row is not None
    assert (row.log_partition, row.log_offset, row.rejected_at_us) == (0, 3, 7)
    assert (row.reason, row.field, row.source, row.customer_id) == ("unknown_kind", "/kind", "shop", "ada")
    assert row.payload == b"{}"


def test_what_scoring_rejected_has_its_row_already() -> None:
    assert refusal(0, 3, WRITTEN_MS, record(stage=STAGE_LOG)) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"stage": "ingest"}',
        record(payload=7),
        record(payload=None),
        record(payload="a", payload_encoding="base64"),
        record(received_at="yesterday"),
        record(received_at=None),
        record().replace(b'"received_at":7', b'"received_at":1e999'),
    ],
)
def test_a_record_that_cannot_be_read_becomes_a_row_with_its_bytes(value: bytes) -> None:
    row = refusal(0, 3, WRITTEN_MS, value)
    assert row is not None
    assert (row.reason, row.payload, row.rejected_at_us) == ("undecodable", value, WRITTEN_MS * 1000)


@pytest.mark.parametrize(("named", "kept"), [(1 << 63, LAST_US), (1e300, LAST_US), (-5, 0)])
def test_times_that_no_table_holds_are_brought_near(named: float, kept: int) -> None:
    row = refusal(0, 3, WRITTEN_MS, record(received_at=named))
    assert row is not None
    assert row.rejected_at_us == kept
    broken = refusal(0, 3, int(named), b"")
    assert broken is not None
    assert broken.rejected_at_us == kept
