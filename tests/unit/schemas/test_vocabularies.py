"""One spelling of everything: the schema files, the closed vocabularies, tables and layouts agree."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from typing import Any, get_args

import numpy as np
import pytest

from schemas import state_layout, tables, topics
from schemas.decode import COLUMNS, EMOTION_TYPE, KIND_TYPE, METRIC_TYPE, OUTCOME_TYPE
from schemas.emotions import CLUSTER_OF, CLUSTERS, EMOTIONS, Cluster
from schemas.kinds import FAMILIES, FAMILY_OF, KINDS, NOT_FOLDED, OUTCOMES, RESERVED_KINDS, Family
from schemas.metrics import METRICS
from schemas.reasons import Reason, Verdict
from schemas.state_layout import BANDS, CODES, FLOAT_INDEX, FLOATS, INT_INDEX, INTS, PACKED, TIMES
from schemas.tables import CUSTOMER_STATE, TABLES, TOUCHPOINTS
from schemas.touchpoint import KIND_TYPES, Emotion, Metric, Outcome
from schemas.versions import BY_HEADER, CURRENT, HEADER_BYTES, MARKER, VERSIONS

SHIPPED = {
    "touchpoint.v1.avsc": "7fc9107546d405538ccd827c9500e30a19ade184789e74deddb0098c90e0fcef",
    "touchpoint.v2.avsc": "fb4bafebe065a9e06465feadf864b145c08d9d27d0ad9216cb891f7d49d90cfd",
    "touchpoint.v3.avsc": "ad9fcd2bd16dd0b7bbfb20a0b415dadbdaa854862c55e9560c6ca4f35274c721",
    "touchpoint.v4.avsc": "e09654950bec36d434677d1ed817a28bf34d90e691d6df62c223b7e08873b710",
}
"""SHA-256 of every schema file ever shipped. Records written with them are in the log for ever: a change is a new
file under the next version, never another sum here."""


def fields() -> dict[str, Any]:
    return {field["name"]: field["type"] for field in CURRENT.document["fields"]}


def symbols(name: str) -> tuple[str, ...]:
    kind = fields()[name]
    if isinstance(kind, list):
        assert kind[0] == "null"
        kind = kind[1]
    return tuple(kind["symbols"])


def test_schema_files_are_immutable() -> None:
    folder = resources.files("schemas") / "avro"
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.name.endswith(".avsc")
    }
    assert found == SHIPPED


def test_versions_count_from_one_and_each_has_its_fingerprint() -> None:
    assert [version.version for version in VERSIONS] == list(range(1, len(SHIPPED) + 1))
    assert CURRENT is VERSIONS[-1]
    assert len(BY_HEADER) == len(VERSIONS)
    for header, version in BY_HEADER.items():
        assert header == version.header
        assert (header[:2], len(header)) == (MARKER, HEADER_BYTES)


@pytest.mark.parametrize("place", range(1, len(VERSIONS)))
def test_a_version_adds_kinds_or_fields_that_may_be_null_at_the_end_and_changes_nothing_else(place: int) -> None:
    """What reads records of mixed versions, and what writes the oldest version that will do, stand on this."""
    before, after = VERSIONS[place - 1].document, VERSIONS[place].document
    old, new = before.pop("fields"), after.pop("fields")
    assert after == before
    [known], [kinds] = (
        [field["type"].pop("symbols") for field in fields if field["name"] == "kind"] for fields in (old, new)
    )
    assert kinds[: len(known)] == known
    assert new[: len(old)] == old
    assert len(new) + len(kinds) > len(old) + len(known)
    for field in new[len(old) :]:
        assert (field["type"][0], field["default"]) == ("null", None), field["name"]


def test_documents_are_parsed_afresh() -> None:
    CURRENT.document["fields"].clear()
    assert CURRENT.document["fields"]


def test_enums_of_the_schema_are_the_vocabularies() -> None:
    """In the same order: the place of a symbol is what stands in the log."""
    assert symbols("kind") == KINDS
    assert symbols("outcome") == OUTCOMES
    assert symbols("metric") == tuple(METRICS)
    assert symbols("emotion") == EMOTIONS


def test_columns_are_the_fields_of_the_schema() -> None:
    assert tuple(COLUMNS) == tuple(fields())
    types = {"kind": KIND_TYPE, "outcome": OUTCOME_TYPE, "metric": METRIC_TYPE, "emotion": EMOTION_TYPE}
    assert {name: COLUMNS[name] for name in types} == types


def test_what_may_be_absent_has_null_as_its_default() -> None:
    for field in CURRENT.document["fields"]:
        if isinstance(field["type"], list):
            assert (field["type"][0], field["default"]) == ("null", None), field["name"]
        assert field["doc"], field["name"]


def test_kinds_are_in_exactly_one_family() -> None:
    assert len(set(KINDS)) == len(KINDS) == sum(map(len, FAMILIES.values()))
    assert set(FAMILY_OF) == set(KINDS)
    assert set(FAMILIES) == set(Family)
    assert {"review_due", "model_activated", "case_step"} == RESERVED_KINDS
    assert set(NOT_FOLDED) < RESERVED_KINDS


def test_the_edge_takes_every_kind_that_is_not_reserved() -> None:
    assert set(KIND_TYPES) == set(KINDS) - RESERVED_KINDS
    assert get_args(Outcome) == OUTCOMES
    assert get_args(Metric) == tuple(METRICS)
    assert get_args(Emotion) == EMOTIONS


def test_emotions_are_in_exactly_one_cluster() -> None:
    assert len(set(EMOTIONS)) == len(EMOTIONS) == 20
    assert list(CLUSTERS) == list(Cluster)
    assert [len(names) for names in CLUSTERS.values()] == [8, 5, 5, 2]
    assert all(name in CLUSTERS[CLUSTER_OF[name]] for name in EMOTIONS)


def test_scales() -> None:
    assert {name: (scale.low, scale.high, scale.whole) for name, scale in METRICS.items()} == {
        "nps": (0, 10, True),
        "csat": (1, 5, True),
        "ces": (1, 7, True),
        "stars": (1, 5, False),
        "sentiment": (-1, 1, False),
    }


@pytest.mark.parametrize("vocabulary", [Reason, Verdict])
def test_words_are_stable_labels(vocabulary: type[Reason] | type[Verdict]) -> None:
    for word in vocabulary:
        assert re.fullmatch(r"[a-z_]+", word.value)
        assert word.name.lower() == word.value


def test_names_of_tables_and_columns() -> None:
    assert len({table.name for table in TABLES}) == len(TABLES)
    for table in TABLES:
        assert len(set(table.names)) == len(table.names), table.name
        for column in table.columns:
            assert re.fullmatch(r"[a-z][a-z0-9_]*", column.name)
            assert column.comment, column.name


def test_the_table_of_events_keeps_every_field_and_how_it_was_read() -> None:
    readings = {f"{d}_{part}" for d in tables.DIMENSIONS for part in ("valence", "weight")}
    assert set(TOUCHPOINTS.names) == set(fields()) | readings | {"log_partition", "log_offset"}


def test_every_column_of_a_state_has_its_place_in_memory() -> None:
    places = {state_layout.KEY, *FLOATS, *INTS, *PACKED}
    assert places == set(CUSTOMER_STATE.names)
    assert len(FLOATS) + len(INTS) + len(PACKED) + 1 == len(CUSTOMER_STATE.names)
    assert set(CODES) | TIMES | {state_layout.VERSION} <= set(INTS)
    assert [FLOATS[i] for i in FLOAT_INDEX.values()] == list(FLOATS)
    assert [INTS[i] for i in INT_INDEX.values()] == list(INTS)
    types = {column.name: column.type for column in CUSTOMER_STATE.columns}
    for name, pack in PACKED.items():
        assert types[name] == f"FixedString({pack.item_bytes * pack.width})"
        assert np.dtype(pack.dtype).itemsize == pack.item_bytes


def test_bands_ascend() -> None:
    assert BANDS == ("low", "elevated", "high")


def test_topics() -> None:
    assert [topic.name for topic in topics.TOPICS] == ["touchpoints", "loyalty-signals", "rejected"]
    log = topics.TOPICS[0]
    assert log.config["retention.ms"] == "-1", "the log is the source of truth"
    assert log.config["cleanup.policy"] == "delete"
    assert json.loads(log.config["message.timestamp.before.max.ms"]) == (1 << 63) - 1
    assert all(topic.partitions >= 1 for topic in topics.TOPICS)
