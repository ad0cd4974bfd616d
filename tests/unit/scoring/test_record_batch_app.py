"""What the app is made of, without starting it."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from faust.transport.drivers.aiokafka import Transport
from faust.types import TP

from services.scoring.record_batches.app import RecordBatchApp, StreamOptions, build_app
from services.scoring.record_batches.batch import RecordBatch
from services.scoring.record_batches.scheduler import WholeFetchScheduler
from services.scoring.record_batches.transport import RecordBatchTransport
from services.scoring.record_batches.watchdog import LoopGuard


class Listener:
    async def on_partitions_revoked(self, revoked: set[TP]) -> None: ...

    async def on_partitions_assigned(self, assigned: set[TP]) -> None: ...


async def handle(batches: list[RecordBatch]) -> None: ...


@pytest.fixture
def app() -> RecordBatchApp:
    options = StreamOptions(brokers="127.0.0.1:9092, 127.0.0.1:9093", topic="touchpoints", group="touchstone-scoring")
    return build_app(options, handle, Listener())


def test_group_is_named_exactly(app: RecordBatchApp) -> None:
    assert app.conf.id == "touchstone-scoring"


def test_all_brokers_are_used(app: RecordBatchApp) -> None:
    transport = cast(Transport, app.transport)
    assert isinstance(transport, RecordBatchTransport)
    assert [(url.scheme, url.host, url.port) for url in transport.url] == [
        ("kafka", "127.0.0.1", 9092),
        ("kafka", "127.0.0.1", 9093),
    ]


def test_settings_that_keep_promises(app: RecordBatchApp) -> None:
    conf = app.conf
    assert (conf.broker_session_timeout, conf.broker_rebalance_timeout, conf.broker_heartbeat_interval) == (
        6,
        10,
        2,
    )
    assert conf.broker_max_poll_records == 30_000
    assert conf.consumer_max_fetch_size == 8 * 1024 * 1024
    assert conf.consumer_auto_offset_reset == "earliest"
    assert str(conf.processing_guarantee.value) == "at_least_once"
    scheduler: Any = conf.ConsumerScheduler
    assert scheduler is WholeFetchScheduler
    assert not conf.web_enabled
    assert not conf.topic_allow_declare
    assert conf.topic_disable_leader
    assert conf.table_standby_replicas == 0
    assert (conf.key_serializer, conf.value_serializer) == ("raw", "raw")


def test_faust_does_no_bookkeeping_of_its_own(app: RecordBatchApp) -> None:
    (agent,) = app.agents.values()
    topic = agent.channel
    assert topic.get_topic_name() == "touchpoints"
    assert topic.acks is False
    assert topic.allow_empty is False


def test_a_drain_and_a_commit_fit_in_the_rebalance_timeout() -> None:
    options = StreamOptions(brokers="b:1", topic="t", group="g")
    assert 2 * options.drain_timeout_s < options.rebalance_timeout_s
    assert 3 * options.heartbeat_interval_s <= options.session_timeout_s <= options.request_timeout_s


def test_loop_guard_ends_a_process_whose_loop_stands_still(caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    codes: list[int] = []

    def exit_process(code: int) -> None:
        codes.append(code)
        ended.set()

    guard = LoopGuard(2, tick_s=0.01, exit_process=exit_process)
    guard.start()
    assert ended.wait(10)
    assert codes == [1]
    assert "event loop has not run" in caplog.text


def test_loop_guard_is_calmed_by_a_beat_but_not_when_the_end_is_expected() -> None:
    ended = threading.Event()
    guard = LoopGuard(1_000_000, tick_s=0.001, exit_process=lambda code: ended.set())
    guard.start()
    guard.expect_end_within(5)
    guard.beat()
    assert ended.wait(10)


def test_loop_guard_may_be_told_an_earlier_end_but_no_later_one() -> None:
    ended = threading.Event()
    guard = LoopGuard(1_000_000, tick_s=0.001, exit_process=lambda code: ended.set())
    guard.start()
    guard.expect_end_within(1_000_000)
    guard.expect_end_within(5)
    guard.expect_end_within(1_000_000)
    assert ended.wait(10)


def test_stopped_loop_guard_lets_the_process_live() -> None:
    guard = LoopGuard(1, tick_s=0.001, exit_process=lambda code: pytest.fail("ended"))
    guard.stop()
    guard.start()
    guard.join()
