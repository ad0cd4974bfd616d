"""One member of a group reads the whole topic: who, with none, one and three of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # kafka-python reads its files in an old way
    from infra.kafka.one_reader import OneReader

TOPIC = "loyalty-signals"


class Cluster:
    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {2, 0, 1} if topic == TOPIC else None


@dataclass
class Member:
    member_id: str
    reader: OneReader
    topics: tuple[str, ...] = (TOPIC,)

    @property
    def metadata(self) -> Any:
        return self.reader.metadata(self.topics)


def assigned(*members: Member, generation: int = 1) -> dict[str, dict[str, list[int]]]:
    """Partitions by topic, by member; each member is told its own."""
    given = OneReader().assign(Cluster(), list(members))
    by_id = {member.member_id: member for member in members}
    for member_id, assignment in given.items():
        by_id[member_id].reader.on_assignment(assignment, generation)
    return {
        member_id: {topic: list(partitions) for topic, partitions in assignment.assigned_partitions}
        for member_id, assignment in given.items()
    }


ALL = {TOPIC: [0, 1, 2]}


def test_nobody_is_given_nothing() -> None:
    assert assigned() == {}


def test_one_reads_all() -> None:
    assert assigned(Member("a", OneReader())) == {"a": ALL}


def test_of_three_new_ones_the_lowest_reads() -> None:
    assert assigned(*(Member(name, OneReader()) for name in "cab")) == {"a": ALL, "b": {}, "c": {}}


def test_who_reads_keeps_reading_when_others_join() -> None:
    holder = Member("m", OneReader())
    assigned(holder)
    others = [Member("a", OneReader()), Member("z", OneReader())]
    assert assigned(*others, holder) == {"a": {}, "m": ALL, "z": {}}
    assert assigned(others[1], others[0], holder)["m"] == ALL


def test_when_the_reader_goes_the_lowest_of_the_others_takes_over_and_keeps_it() -> None:
    holder, second, third = (Member(name, OneReader()) for name in "abc")
    assigned(holder, second, third)
    assert assigned(third, second) == {"b": ALL, "c": {}}
    # The one that comes back under another id, or the same, stands by.
    assert assigned(Member("a", OneReader()), second, third)["b"] == ALL


def test_who_was_replaced_without_knowing_it_does_not_take_back() -> None:
    paused, relief = Member("a", OneReader()), Member("b", OneReader())
    assigned(paused, relief, generation=4)
    assert assigned(relief, generation=5) == {"b": ALL}
    # It comes back under the lower id, and still says that it reads.
    assert assigned(paused, relief, generation=6) == {"a": {}, "b": ALL}
    assert assigned(paused, relief, generation=7) == {"a": {}, "b": ALL}


def test_a_topic_that_is_not_there_yet_has_no_partitions() -> None:
    assert assigned(Member("a", OneReader(), ("nowhere",))) == {"a": {"nowhere": []}}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_all_is_read_by_exactly_one(number: int) -> None:
    given = assigned(*(Member(f"m{at}", OneReader()) for at in range(number)))
    assert sum(bool(topics) for topics in given.values()) == 1
