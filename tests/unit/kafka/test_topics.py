from __future__ import annotations

import pytest

from infra.kafka import topics
from infra.kafka.settings import TopicSettings
from infra.kafka.topics import topics_for
from schemas.topics import REJECTED, TOPICS, TOUCHPOINTS


def test_copies_and_partitions_are_those_asked_for_and_the_rest_is_kept() -> None:
    made = {topic.name: topic for topic in topics_for(24, 2)}
    assert made.keys() == {topic.name for topic in TOPICS}
    assert made[TOUCHPOINTS].partitions == 24
    assert made[REJECTED].partitions == 1
    for topic in TOPICS:
        assert made[topic.name].config == {**topic.config, "min.insync.replicas": "2"}


def test_more_copies_to_acknowledge_than_there_are_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOUCHSTONE_KAFKA_MIN_INSYNC", "2")
    monkeypatch.setenv("TOUCHSTONE_KAFKA_REPLICATION", "1")
    assert topics.main() == 2
    assert "nothing would ever be acknowledged" in capsys.readouterr().err


def test_nobody_there_is_told_by_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOUCHSTONE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    assert TopicSettings().kafka_replication == 1
    assert topics.main() == 3
    assert "does not answer" in capsys.readouterr().err
