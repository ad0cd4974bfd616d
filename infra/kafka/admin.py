"""Administration of a Kafka cluster: topics, positions of a group, reachability. Every call ends in time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the library's package exports by import alone
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from infra.kafka.errors import (
    ClusterRefusedError,
    ClusterUnreachableError,
    KafkaInfraError,
    TopicMismatchError,
)

DEFAULT_TIMEOUT_S = 10.0


class TopicSpec(Protocol):
    """A topic as it should be; schemas.topics.Topic has this shape."""

    @property
    def name(self) -> str: ...
    @property
    def partitions(self) -> int: ...
    @property
    def config(self) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is: ``config`` holds the settings that differ from the broker's defaults."""

    name: str
    partitions: int
    replication_factor: int
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class TopicChanges:
    """What ``ensure_topics`` did, by topic name."""

    created: tuple[str, ...]
    reconfigured: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """Where a group stands on one partition, in records. ``committed`` is None before the group's first
    commit.
    """

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group: its state (STABLE, EMPTY, DEAD, ...) and the number of its members."""

    state: str
    members: int


@dataclass(frozen=True, slots=True)
class ClusterState:
    """Brokers that answer and take requests."""

    cluster_id: str
    controller_id: int
    brokers: tuple[str, ...]


# Kafka makes its bookkeeping of groups when first asked for one, and elects leaders just after a topic is
# made.
_NOT_YET = frozenset(
    {
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class KafkaAdmin:
    """A connection for administration; a context manager.

    ``bootstrap`` is ``host:port``, several with commas. Raises ClusterUnreachableError when nobody answers
    within ``timeout_s``, which also bounds every later request.
    """

    def __init__(self, bootstrap: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.bootstrap = bootstrap
        self._timeout_s = timeout_s
        _require_listener(bootstrap, timeout_s)
        self._config: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "client.id": "touchstone-admin",
            "socket.timeout.ms": max(10, int(timeout_s * 1000)),
            # What goes wrong is raised here; the library would also print it.
            "log_level": 0,
            "error_cb": _ignore,
        }
        self._client = AdminClient(self._config)

    def close(self) -> None:
        """Nothing to flush: the connection ends with the object."""

    def __enter__(self) -> KafkaAdmin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except KafkaException as exception:
            error = _error_of(exception)
            # Codes below zero are the client's own: nobody answered.
            if error.code() < 0:
                raise ClusterUnreachableError(
                    f"Kafka at {self.bootstrap} does not answer: {doing}: {error.str()}"
                ) from exception
            raise ClusterRefusedError(
                f"Kafka at {self.bootstrap}: {doing}: {error.name()}: {error.str()}"
            ) from exception
        except TimeoutError as error:
            raise ClusterUnreachableError(f"Kafka at {self.bootstrap} does not answer: {doing}") from error

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """The answer of a call, made again while Kafka says "not yet"."""
        retrying = Retrying(
            retry=retry_if_exception(_is_not_yet),
            wait=wait_fixed(0.1),
            stop=stop_after_delay(self._timeout_s),
            reraise=True,
        )
        return retrying(call)

    def cluster(self) -> ClusterState:
        """The cluster as a client sees it."""
        with self._translated("describe cluster"):
            answer = self._client.describe_cluster(request_timeout=self._timeout_s).result(self._timeout_s + 1)
        brokers = tuple(f"{node.host}:{node.port}" for node in answer.nodes)
        return ClusterState(answer.cluster_id, answer.controller.id if answer.controller else -1, brokers)

    def topics(self) -> dict[str, TopicState]:
        """All topics but Kafka's internal ones, by name."""
        found = {name: topic for name, topic in self._metadata().items() if not name.startswith("__")}
        configs = self._configs(found)
        return {
            name: TopicState(
                name,
                len(topic.partitions),
                min((len(partition.replicas) for partition in topic.partitions.values()), default=0),
                {
                    entry.name: entry.value or ""
                    for entry in configs[name].values()
                    if ConfigSource(entry.source) is ConfigSource.DYNAMIC_TOPIC_CONFIG
                },
            )
            for name, topic in found.items()
        }

    def _metadata(self) -> dict[str, TopicMetadata]:
        with self._translated("list topics"):
            return dict(self._client.list_topics(timeout=self._timeout_s).topics)

    def _configs(self, topics: Iterable[str]) -> dict[str, dict[str, ConfigEntry]]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        if not resources:
            return {}
        with self._translated("describe topics"):
            futures = self._client.describe_configs(resources, request_timeout=self._timeout_s)
            return {resource.name: future.result(self._timeout_s + 1) for resource, future in futures.items()}

    def ensure_topics(self, wanted: Iterable[TopicSpec], *, replication_factor: int = 1) -> TopicChanges:
        """Create what is missing, bring settings of what exists in line, wait until all can be used.

        The number of partitions is never changed: TopicMismatchError names a topic that has another one.
        """
        specs = list(wanted)
        existing = self._metadata()
        for spec in specs:
            found = existing.get(spec.name)
            if found is not None and len(found.partitions) != spec.partitions:
                raise TopicMismatchError(
                    f"topic {spec.name} at {self.bootstrap} has {len(found.partitions)} partitions, "
                    f"{spec.partitions} are asked for. Partitions are fixed when a topic is created, or "
                    f"customers would change partitions: set TOUCHSTONE_PARTITIONS={len(found.partitions)}, "
                    "or start on an empty data folder."
                )
        kept = [spec for spec in specs if spec.name in existing]
        configs = self._configs(spec.name for spec in kept)
        reconfigured = tuple(spec.name for spec in kept if self._reconfigure(spec, configs[spec.name]))
        created = tuple(spec.name for spec in specs if spec.name not in existing)
        for spec in specs:
            if spec.name in created:
                self._create(spec, replication_factor)
        self._await_leaders({spec.name: spec.partitions for spec in specs})
        return TopicChanges(created, reconfigured)

    def _create(self, spec: TopicSpec, replication_factor: int) -> None:
        topic = NewTopic(
            spec.name,
            num_partitions=spec.partitions,
            replication_factor=replication_factor,
            config=dict(spec.config),
        )
        with self._translated(f"create topic {spec.name}"):
            future = self._client.create_topics([topic], request_timeout=self._timeout_s)[spec.name]
            try:
                future.result(self._timeout_s + 1)
            except KafkaException as exception:
                # Another start may have created it between the look and the request.
                if _error_of(exception).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def _reconfigure(self, spec: TopicSpec, current: dict[str, ConfigEntry]) -> bool:
        changes = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in spec.config.items()
            if key not in current or current[key].value != value
        ]
        if not changes:
            return False
        resource = ConfigResource(ResourceType.TOPIC, spec.name, incremental_configs=changes)
        with self._translated(f"set up topic {spec.name}"):
            [future] = self._client.incremental_alter_configs([resource], request_timeout=self._timeout_s).values()
            future.result(self._timeout_s + 1)
        self._await_configs(spec)
        return True

    def _await_configs(self, spec: TopicSpec) -> None:
        """The controller has taken them; brokers learn of them a moment later."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            found = self._configs([spec.name])[spec.name]
            if all(key in found and found[key].value == value for key, value in spec.config.items()):
                return
            if time.monotonic() > deadline:
                raise ClusterRefusedError(
                    f"Kafka at {self.bootstrap}: {spec.name} has other settings after {self._timeout_s:.0f} s"
                )
            time.sleep(0.02)

    def _await_leaders(self, partitions: dict[str, int]) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            found = self._metadata()
            waiting = [name for name, count in partitions.items() if not _has_leaders(found.get(name), count)]
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise ClusterRefusedError(
                    f"Kafka at {self.bootstrap}: no leader after {self._timeout_s:.0f} s for {', '.join(waiting)}"
                )
            time.sleep(0.02)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset that the next record of each partition gets."""
        return self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        """Offset of the oldest record kept in each partition."""
        return self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def _partitions(self, topic: str) -> list[int]:
        metadata = self._metadata().get(topic)
        if metadata is None:
            raise ClusterRefusedError(f"Kafka at {self.bootstrap}: topic {topic} does not exist")
        return sorted(metadata.partitions)

    def _offsets(self, topic: str, spec: Any) -> dict[int, int]:
        asked = {TopicPartition(topic, partition): spec for partition in self._partitions(topic)}
        with self._translated(f"list offsets of {topic}"):
            answer = self._client.list_offsets(asked, request_timeout=self._timeout_s)
            return {where.partition: future.result(self._timeout_s + 1).offset for where, future in answer.items()}

    def group_lag(self, group: str, topic: str) -> list[PartitionLag]:
        """Records of each partition that the group has not committed; all of them before its first commit."""
        partitions = self._partitions(topic)
        # Committed before end: records that arrive in between make the lag too large for a moment, never negative.
        committed = self._committed(group, topic, partitions)
        begins, ends = self.beginning_offsets(topic), self.end_offsets(topic)
        return [
            PartitionLag(
                topic,
                partition,
                committed.get(partition),
                end,
                end - max(committed.get(partition, 0), begins[partition]),
            )
            for partition, end in ends.items()
        ]

    def _committed(self, group: str, topic: str, partitions: list[int]) -> dict[int, int]:
        return {at.partition: at.offset for at in self._positions(group, topic, partitions)}

    def _positions(self, group: str, topic: str, partitions: list[int]) -> list[TopicPartition]:
        with self._outsider(group) as consumer, self._translated(f"list offsets of group {group}"):
            asked = [TopicPartition(topic, partition) for partition in partitions]
            found = self._patiently(lambda: consumer.committed(asked, self._timeout_s))
        return [at for at in found if at.offset >= 0]

    @contextmanager
    def _outsider(self, group: str) -> Iterator[Consumer]:
        # A consumer that never joins: librdkafka's administrative request for a group's offsets ends the whole
        # process with a segmentation fault when Kafka answers that the group's coordinator is not there yet.
        consumer = Consumer({**self._config, "group.id": group, "enable.auto.commit": False})
        try:
            yield consumer
        finally:
            consumer.close()

    def notes(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """What was noted with `note`: offset and text by partition."""
        found = self._positions(group, topic, self._partitions(topic))
        return {at.partition: (at.offset, at.metadata or "") for at in found}

    def note(self, group: str, topic: str, notes: dict[int, tuple[int, str]]) -> None:
        """Commit an offset with a text for each partition, as a group that has no members."""
        at = [TopicPartition(topic, partition, offset, text) for partition, (offset, text) in notes.items()]
        with self._outsider(group) as consumer, self._translated(f"commit offsets of group {group}"):
            self._patiently(lambda: consumer.commit(offsets=at, asynchronous=False))

    def group_state(self, group: str) -> GroupState:
        """State and size of a group; (DEAD, 0) when Kafka does not know it."""
        with self._translated(f"describe group {group}"):
            try:
                answer = self._patiently(lambda: self._describe_group(group))
            except KafkaException as exception:
                if _error_of(exception).code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise
                return GroupState("DEAD", 0)
        return GroupState(answer.state.name, len(answer.members))

    def _describe_group(self, group: str) -> Any:
        futures = self._client.describe_consumer_groups([group], request_timeout=self._timeout_s)
        return futures[group].result(self._timeout_s + 1)


def _error_of(exception: BaseException) -> KafkaError:
    error = exception.args[0]
    assert isinstance(error, KafkaError)
    return error


def _is_not_yet(exception: BaseException) -> bool:
    return isinstance(exception, KafkaException) and _error_of(exception).code() in _NOT_YET


def _has_leaders(topic: TopicMetadata | None, partitions: int) -> bool:
    return (
        topic is not None
        and len(topic.partitions) == partitions
        and all(partition.leader >= 0 for partition in topic.partitions.values())
    )


def _ignore(_: object) -> None:
    """A connection lost is told by the request that needed it."""


def is_ready(bootstrap: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
    """True when a broker answers a client's request and is in the cluster's service; never raises for its
    absence.
    """
    try:
        with KafkaAdmin(bootstrap, timeout_s=timeout_s) as admin:
            return bool(admin.cluster().brokers)
    except KafkaInfraError:
        return False


def _require_listener(bootstrap: str, timeout_s: float) -> None:
    """Fail in milliseconds when no address accepts connections; the library would try for its whole
    timeout.
    """
    deadline = time.monotonic() + timeout_s
    faults = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdigit():
            raise ClusterUnreachableError(f"Kafka address {address!r} is not of the form host:port")
        try:
            left_s = max(0.1, deadline - time.monotonic())
            socket.create_connection((host.strip("[]"), int(port)), timeout=left_s).close()
        except OSError as error:
            faults.append(f"{address}: {error.strerror or error}")
        else:
            return
    raise ClusterUnreachableError(
        f"Kafka does not answer ({'; '.join(faults)}). Is the stack running? `touchstone up` starts it; "
        "TOUCHSTONE_KAFKA_BOOTSTRAP or TOUCHSTONE_KAFKA_PORT says where it is."
    )
