"""A plan is made of its seed alone, and can be carried out."""

from __future__ import annotations

import random
from collections import Counter

from tests.faults.load import make_load
from tests.faults.plan import DRAWS, KILLED, Kind, LoadPlan, make_kill_plan, make_plan

NOW_US = 1_790_000_000_000_000
SEEDS = range(400)


def test_a_seed_gives_the_same_plan_and_another_seed_another() -> None:
    plans = [make_plan(seed) for seed in SEEDS]
    assert plans == [make_plan(seed) for seed in SEEDS]
    assert len({(plan.load, plan.faults) for plan in plans}) == len(SEEDS)


def test_all_sorts_of_faults_come_up_alone_and_at_once() -> None:
    plans = [make_plan(seed) for seed in SEEDS]
    kinds = Counter((fault.kind, fault.target) for plan in plans for fault in plan.faults)
    assert {kind for kind, _ in kinds} == {draw(random.Random(1), 0.0).kind for _, draw in DRAWS}
    assert any(len({fault.at_s for fault in plan.faults}) < len(plan.faults) for plan in plans)
    assert min(len(plan.faults) for plan in plans) == 1


def test_no_fault_undoes_another_of_its_target() -> None:
    for seed in SEEDS:
        faults = make_plan(seed).faults
        for number, one in enumerate(faults):
            for other in faults[number + 1 :]:
                if one.target == other.target:
                    assert one.end_s < other.at_s or other.end_s < one.at_s


def test_a_load_is_that_of_its_seed_and_says_what_is_in_it() -> None:
    plan = LoadPlan(events=600, customers=30, repeated=0.2, conflicting=0.05, poison=0.02, refused=0.05)
    load = make_load(plan, 7, "x-", NOW_US)
    assert load == make_load(plan, 7, "x-", NOW_US)
    sent = [event_id for request in load.requests for event_id in request.event_ids if event_id is not None]
    sent += [record.event_id for record in load.records if record.event_id is not None]
    assert set(sent) == load.contents.keys()
    assert len(sent) == len(load.contents) + load.repeats + load.conflicts
    assert sum(record.event_id is None for record in load.records) == load.poison > 0
    assert sum(request.event_ids.count(None) for request in load.requests) == load.refused > 0
    assert load.repeats > 50
    assert load.conflicts > 5
    moments = [record.at_s for record in load.records]
    assert moments == sorted(moments)
    assert max(moments) <= plan.seconds


def test_customers_of_two_runs_have_nothing_in_common() -> None:
    plan = LoadPlan(events=200, customers=10)
    one, other = make_load(plan, 7, "a-", NOW_US), make_load(plan, 7, "b-", NOW_US)
    assert len(one.contents) == len(other.contents) == 200
    assert not one.contents.keys() & other.contents.keys()


def test_plans_of_kills_kill_each_part_in_turn_and_nothing_else() -> None:
    plans = [make_kill_plan(seed) for seed in range(2 * len(KILLED))]
    assert [[fault.target for fault in plan.faults] for plan in plans] == [[target] for target in 2 * KILLED]
    assert {fault.kind for plan in plans for fault in plan.faults} == {Kind.KILL}
    assert len({plan.faults for plan in plans}) == len(plans), "at moments of their own"
