"""Events in the order of their table's key: as Python sorts the whole keys."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clickhouse.key_order import key_order

Key = tuple[str, int, bytes]


def ordered(keys: list[Key]) -> list[Key]:
    schema = {"customer_id": pl.String, "occurred_at": pl.Int64, "event_id": pl.Binary}
    places = key_order(pl.DataFrame(keys, schema=schema, orient="row"))
    assert sorted(places.tolist()) == list(range(len(keys))), "every row has its place"
    return [keys[place] for place in places.tolist()]


def expected(keys: list[Key]) -> list[Key]:
    return sorted(keys, key=lambda key: (key[0].encode(), *key[1:]))


# Few different characters and lengths: prefixes, runs of one digest and equal keys come up all the time.
names = st.text(alphabet="ab\0\U0001f600", max_size=12) | st.text(max_size=20)
prefixed = st.tuples(st.sampled_from(["", "customer-", "customer-with-a-long-name-"]), names).map("".join)
ids = st.binary(min_size=16, max_size=16) | st.sampled_from([bytes(16), b"x" * 16])
keys = st.lists(st.tuples(prefixed, st.integers(0, 3) | st.integers(0, 2**52), ids), max_size=40)


@given(keys)
def test_any_keys(keys: list[Key]) -> None:
    assert ordered(keys) == expected(keys)


@pytest.mark.parametrize("shared", ["", "shared prefix, longer than a digest: "])
@pytest.mark.parametrize("differing", ["{:02d}", "{:08d}", "{:09d}", "{:04d} of one department", "{:036d}"])
def test_identifiers_of_usual_forms(shared: str, differing: str) -> None:
    keys = [(shared + differing.format(7 * n % 60), 5 - n % 3, bytes([n % 7] * 16)) for n in range(300)]
    assert ordered(keys) == expected(keys)
