"""The timer that makes silence an event."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.decode import decode
from schemas.review import encode_review
from services.scoring.reviews import Reviews

NOW_US = 1_760_000_000_000_000


def test_a_review_is_a_record_of_the_contract_with_one_id_for_one_state() -> None:
    first, same, later = (
        encode_review("ada", 1, 5, NOW_US),
        encode_review("ada", 1, 5, NOW_US + 99),
        encode_review("ada", 1, 6, NOW_US),
    )
    decoded = decode([first, same, later], b"markmark")
    assert not decoded.rejects
    assert decoded.frame["kind"].to_list() == ["review_due"] * 3
    ids = decoded.frame["event_id"].to_list()
    assert ids[0] == ids[1] != ids[2]


def test_each_state_is_asked_for_once_and_only_for_owned_partitions() -> None:
    due = [("ada", 0, 5), ("bob", 1, 7)]
    asked: list[Sequence[int]] = []
    sent: list[str] = []

    def crossings(partitions: Sequence[int], limit: int) -> list[tuple[str, int, int]]:
        asked.append(partitions)
        return [row for row in due if row[1] in partitions][:limit]

    owned = frozenset[int]()
    busy = False
    reviews = Reviews(
        crossings,
        lambda customers, values, stamp: sent.extend(customers),
        lambda: owned,
        lambda: busy,
        lambda: NOW_US,
        1.0,
        (),
    )
    assert reviews.once() == 0
    assert asked == []
    owned, busy = frozenset({0, 1}), True
    assert reviews.once() == 0
    busy = False
    assert reviews.once() == 2
    assert reviews.once() == 0
    due[0] = ("ada", 0, 9)
    assert reviews.once() == 1
    assert sent == ["ada", "bob", "ada"]
    assert reviews.appended == 3
