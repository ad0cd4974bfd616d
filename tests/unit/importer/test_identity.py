"""Ids are the same in every import of the same rows, and copies of a row are told apart by their count."""

from __future__ import annotations

import uuid

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from services.importer.identity import RowIds, find_twins, row_contents


def ids_of(contents: list[str], chunk_rows: int = 3, dataset: str = "d") -> list[str]:
    chunks = [pl.Series(contents[at : at + chunk_rows], dtype=pl.String) for at in range(0, len(contents), chunk_rows)]
    ids = RowIds(dataset, find_twins(chunks))
    return [row_id for chunk in chunks for row_id in ids.take(chunk)]


def test_ids_are_uuids_of_version_5() -> None:
    assert {uuid.UUID(row_id).version for row_id in ids_of(["a", "b"])} == {5}


def test_ids_are_fixed_for_ever() -> None:
    # If this fails, importing a file again would add every row of it a second time.
    assert ids_of(["a\x1fb", "a\x1fb", ""]) == [
        "849281a5-469a-5b73-b468-3ecd039a00ff",
        "1df4d0dd-7c39-5c40-8ecd-c4ef5ddb7e6e",
        "333dce2c-fb45-5404-8c31-410434991edd",
    ]


def test_copies_differ_and_keep_their_ids_whatever_the_chunks() -> None:
    contents = ["a", "b", "a", "c", "a", "b"]
    assert len(set(ids_of(contents))) == 6
    assert ids_of(contents, 1) == ids_of(contents, 4) == ids_of(contents, 6)


def test_another_data_set_has_other_ids() -> None:
    assert not set(ids_of(["a"])) & set(ids_of(["a"], dataset="e"))


@given(st.lists(st.sampled_from(["", "a", "b", "ä", "a\x1f0"]), max_size=30), st.integers(1, 7), st.integers(1, 7))
def test_order_within_a_chunk_size_never_matters(contents: list[str], one: int, other: int) -> None:
    ids = ids_of(contents, one)
    assert ids == ids_of(contents, other)
    assert len(set(ids)) == len(contents)
    # Rows in another order are the same set of events.
    assert set(ids) == set(ids_of(contents[::-1], one))


def test_every_column_counts_and_empty_is_not_null() -> None:
    frame = pl.DataFrame({"a": ["x", "x", "x"], "b": [1.5, None, 1.5], "c": ["", "", None]})
    assert row_contents(frame).n_unique() == 3


def test_nested_and_binary_columns_are_content_too() -> None:
    frame = pl.DataFrame({"l": [[1], [2]], "s": [{"k": 1}, {"k": 1}], "b": [b"\xff", b"\xff"]})
    assert row_contents(frame).n_unique() == 2
