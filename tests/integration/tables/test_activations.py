"""Activations of models as rows: written again without harm, and the models that are shown as active."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.clickhouse import activations
from infra.clickhouse.client import ClickHouse
from schemas.activation import Activation
from schemas.tables import DATABASE, MODEL_ACTIVATIONS, MODELS

pytestmark = pytest.mark.stack

AT_US = 1_772_443_245_123_456
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def empty(clickhouse: ClickHouse) -> Iterator[None]:
    for table in (MODEL_ACTIVATIONS, MODELS):
        clickhouse.query(f"TRUNCATE TABLE {DATABASE}.{table.name}")
    yield
    for table in (MODEL_ACTIVATIONS, MODELS):
        clickhouse.query(f"TRUNCATE TABLE {DATABASE}.{table.name}")


def of(partition: int, offset: int, version: str, after_us: int = 0) -> Activation:
    return Activation(partition, offset, AT_US + after_us, version, f'{{"version": "{version}", "odd": "a\\\\b\'c"}}')


def shown(client: ClickHouse) -> str:
    [(version,)] = client.query(f"SELECT argMax(version, activated_at) FROM {DATABASE}.{MODELS.name}")
    return str(version)


def test_what_was_written_is_read_up_to_where_a_worker_begins(clickhouse: ClickHouse) -> None:
    some = [of(0, 5, "a"), of(0, 9, "b", 10), of(1, 2, "a")]
    activations.write(clickhouse, some)
    activations.write(clickhouse, some[:2])
    assert activations.load(clickhouse, 0, 9) == [some[0]]
    assert activations.load(clickhouse, 0, 10) == some[:2]
    assert activations.load(clickhouse, 3, 1_000) == []
    assert activations.latest(clickhouse) == {0: some[1], 1: some[2]}
    assert shown(clickhouse) == "b"


def test_a_redelivered_activation_does_not_come_before_later_ones(clickhouse: ClickHouse) -> None:
    activations.write(clickhouse, [of(0, 5, "a")])
    activations.write(clickhouse, [of(0, 9, "b", 10)])
    activations.write(clickhouse, [of(0, 12, "a", 20)])
    activations.write(clickhouse, [of(0, 9, "b", 10), of(0, 5, "a")])
    assert shown(clickhouse) == "a"


def test_the_report_of_a_fit_stays(clickhouse: ClickHouse) -> None:
    fitted = of(0, 5, "a")
    clickhouse.insert_rows(MODELS.name, MODELS.names, [("a", EPOCH, fitted.parameters, "the report")])
    assert activations.unlogged(clickhouse) == [], "fitted is not active"
    activations.write(clickhouse, [fitted])
    rows = clickhouse.query(f"SELECT toUnixTimestamp64Micro(activated_at), report FROM {DATABASE}.{MODELS.name} FINAL")
    assert rows == [(AT_US, "the report")]
    assert activations.unlogged(clickhouse) == []


def test_the_default_is_shown_until_a_model_is_activated_however_late_it_is_written(clickhouse: ClickHouse) -> None:
    activations.write(clickhouse, [of(0, 5, "a")])
    activations.show_default(clickhouse, "default-2", "{}", "default-")
    assert shown(clickhouse) == "a"
    assert activations.unlogged(clickhouse) == ["default-2"]


def test_a_new_default_takes_the_place_of_an_older_one_and_of_no_other(clickhouse: ClickHouse) -> None:
    noon = EPOCH + timedelta(days=20_000)
    clickhouse.insert_rows(MODELS.name, MODELS.names, [("default-1", noon, "{}", ""), ("hand-made", EPOCH, "{}", "")])
    activations.show_default(clickhouse, "default-2", "{}", "default-")
    activations.show_default(clickhouse, "default-2", "{}", "default-")
    assert shown(clickhouse) == "default-2"
    assert activations.unlogged(clickhouse) == ["default-1", "default-2"]
    activations.write(clickhouse, [of(0, 5, "a", 20_000 * 86_400_000_000)])
    assert shown(clickhouse) == "a"
