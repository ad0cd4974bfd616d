"""Risk models take turns where the log says so: in the rule, in the core, in what is written."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from schemas.activation import CUSTOMER, Activation, encode_activation
from schemas.encode import encode
from services.scoring.core import Core, Effects
from services.scoring.flood import FloodLimit, Floods
from services.scoring.metrics import ModelInfo
from services.scoring.readings import shipped
from services.scoring.risk.model import DEFAULT, ModelError, RiskModel
from services.scoring.shell import Shell
from services.scoring.step import Scorer
from services.scoring.timeline import Judging, Timeline, usable_model
from services.scoring.verify.refold import Refold, Wanted
from services.scoring.verify.rows import to_frame
from tests.fakes.models import ANXIOUS, CALM, model_like_default
from tests.fakes.stream import START_US, FakeTables, FakeTopics, TablesDownError, event, make_core
from tests.unit.scoring.test_shell import FAST, batch, running, until

A, B = model_like_default("a", ANXIOUS), model_like_default("b", CALM)


def activation(model: RiskModel, partition: int = 0, parameters: str | None = None) -> bytes:
    return encode_activation(model.version, parameters or model.to_json(), partition, START_US)


def bad(name: str, after_s: float) -> bytes:
    """An event at which its customer is judged."""
    return event(
        f"{name}-{after_s}", name, after_s=after_s, kind="complaint_opened", outcome=None, case_id=str(after_s)
    )


def take(core: Core, values: list[bytes | None], first: int = 0, partition: int = 0) -> Effects:
    offsets = np.arange(first, first + len(values), dtype=np.int64)
    return core.take(partition, offsets, values, [START_US // 1000] * len(values), ())


def judged_by(core: Core) -> dict[str, str]:
    names = sorted(name for name in core.cache.customers if name)
    frame = to_frame(core.snapshot(core.cache.find(names)))
    return dict(frame.select("customer_id", "model_version").iter_rows())


def versions(judging: Judging, events: int) -> list[str]:
    which = [0] * events if judging.which is None else judging.which.tolist()
    return [judging.models[code].version for code in which]


def test_the_last_activation_below_an_offset_judges() -> None:
    timeline = Timeline(DEFAULT)
    timeline.begin(0, 0, [])
    timeline.begin(3, 0, [(20, B), (5, A)])
    offsets = np.array([4, 6, 19, 21, 100])
    everywhere = timeline.at(np.full(5, 3), offsets)
    assert versions(everywhere, 5) == [DEFAULT.version, "a", "a", "b", "b"]
    assert versions(timeline.at(np.full(5, 0), offsets), 5) == [DEFAULT.version] * 5
    mixed = timeline.at(np.array([0, 3, 0, 3]), np.array([30, 6, 31, 40]))
    assert versions(mixed, 4) == [DEFAULT.version, "a", DEFAULT.version, "b"]
    assert timeline.current() == {0: DEFAULT.version, 3: "b"}


def test_one_model_for_a_whole_batch_is_told_as_one() -> None:
    timeline = Timeline(DEFAULT)
    for partition in range(4):
        timeline.begin(partition, 50, [(7, A)])
    partitions, offsets = np.arange(400) % 4, np.arange(400) + 50
    assert timeline.at(partitions, offsets) == Judging((A,))
    timeline.add(2, 449, B)
    assert timeline.at(partitions, offsets) == Judging((A,)), "it judges what follows it"
    firsts = {0: 50, 1: 51, 2: 52, 3: 53}
    assert versions(timeline.at(partitions, offsets + 10, firsts), 400).count("b") == 3
    assert timeline.at(partitions[partitions != 2], offsets[partitions != 2], {0: 8, 1: 8, 3: 8}) == Judging((A,))
    timeline.add(2, 449, B)
    assert versions(timeline.at(np.array([2, 2]), np.array([449, 450])), 2) == ["a", "b"]


def test_a_partition_begins_with_what_the_table_has_below_it() -> None:
    timeline = Timeline(DEFAULT)
    assert timeline.lacks(0, 10)
    timeline.begin(0, 10, [(3, A)])
    timeline.add(0, 12, B)
    assert not timeline.lacks(0, 10)
    assert timeline.lacks(0, 9), "delivered again from before where it began"
    timeline.begin(0, 2, [])
    assert versions(timeline.at(np.zeros(3, dtype=np.int64), np.array([2, 4, 13])), 3) == [DEFAULT.version, "a", "b"]
    timeline.forget_all()
    assert timeline.lacks(0, 10)


def test_events_of_one_batch_are_judged_on_both_sides_of_an_activation() -> None:
    core = make_core(FakeTables())
    values = [bad("ann", 0), bad("bob", 0), activation(A), bad("bob", 5), activation(B), bad("cid", 9)]
    effects = take(core, values)
    assert judged_by(core) == {"ann": DEFAULT.version, "bob": "a", "cid": "b"}
    assert [(at.log_offset, at.version, at.activated_at_us) for at in effects.activations] == [
        (2, "a", START_US),
        (4, "b", START_US),
    ]
    assert CUSTOMER not in core.cache.customers
    assert [offset for part in effects.events for offset in part.frame["log_offset"]] == [0, 1, 3, 5]
    assert effects.records == 6


def test_each_partition_has_a_model_of_its_own() -> None:
    core = make_core(FakeTables())
    values = [activation(A, 0), bad("ann", 0), bad("bob", 0), activation(B, 2), bad("cid", 0)]
    core.take(np.array([0, 0, 1, 2, 2]), np.array([8, 9, 9, 4, 5]), values, [0] * 5, ())
    assert judged_by(core) == {"ann": "a", "bob": DEFAULT.version, "cid": "b"}
    assert core.timeline.current() == {0: "a", 1: DEFAULT.version, 2: "b"}


def test_a_customer_of_the_reserved_name_is_a_customer() -> None:
    """It is the kind that makes an activation."""
    core = make_core(FakeTables())
    take(core, [bad(CUSTOMER, 0), activation(A), bad(CUSTOMER, 5)])
    assert judged_by(core) == {CUSTOMER: "a"}


def test_what_comes_again_is_judged_as_it_was() -> None:
    """The table may show an activation that lies ahead of where a worker begins."""
    tables = FakeTables()
    values: list[bytes | None] = [bad("ann", 0), activation(A), bad("bob", 5)]
    tables.write_activations(take(make_core(tables), values).activations)
    again = make_core(tables)
    take(again, values)
    assert judged_by(again) == {"ann": DEFAULT.version, "bob": "a"}
    later = make_core(tables)
    take(later, values[2:], first=2)
    assert judged_by(later) == {"bob": "a"}
    assert later.timeline.current() == {0: "a"}


def test_a_table_that_is_away_leaves_everything_as_it_was() -> None:
    tables = FakeTables(failures=[TablesDownError()])
    core = make_core(tables)
    with pytest.raises(TablesDownError):
        take(core, [activation(A), bad("ann", 0)])
    assert core.timeline.current() == {}
    take(core, [activation(A), bad("ann", 0)])
    assert judged_by(core) == {"ann": "a"}


def test_a_stored_activation_that_no_release_of_now_can_read_stops_the_worker() -> None:
    tables = FakeTables()
    tables.write_activations([Activation(0, 3, START_US, "a", '{"version": "a"}')])
    with pytest.raises(ModelError, match="missing or unknown"):
        take(make_core(tables), [bad("ann", 0)], first=7)


def other_kinds() -> str:
    return model_like_default("a", {"activity_kinds": ["referral", "review"]}).to_json()


def test_a_stored_activation_of_a_time_when_states_counted_otherwise_is_passed_over() -> None:
    tables = FakeTables()
    tables.write_activations(
        [Activation(0, 2, START_US, "b", B.to_json()), Activation(0, 3, START_US, "a", other_kinds())]
    )
    core = make_core(tables)
    take(core, [bad("ann", 0)], first=7)
    assert judged_by(core) == {"ann": "b"}


UNUSABLE: list[tuple[str, str]] = [
    ("{", "not JSON"),
    ("[]", "cannot be read"),
    ("null", "cannot be read"),
    ("[" * 100_000, "RecursionError"),
    (json.dumps({**json.loads(A.to_json()), "bands": None}), "cannot be read"),
    (json.dumps({**json.loads(A.to_json()), "horizon_days": "soon"}), "cannot be read"),
    (json.dumps({**json.loads(A.to_json()), "horizon_days": 10**400}), "cannot be read"),
    (json.dumps({**json.loads(A.to_json()), "intercept": math.nan}), "finite"),
    (B.to_json(), "calls itself b"),
    (other_kinds(), "makes them anew"),
    (" ", "not JSON"),
]


@pytest.mark.parametrize(("parameters", "why"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_an_activation_that_cannot_judge_is_rejected_and_the_former_model_stays(parameters: str, why: str) -> None:
    core = make_core(FakeTables())
    effects = take(core, [activation(A), activation(A, parameters=parameters), bad("ann", 0)])
    [rejected] = effects.rejected
    assert (rejected.log_offset, rejected.reason) == (1, "unusable_model")
    assert why in rejected.detail
    assert rejected.detail.endswith("the former model goes on judging")
    assert judged_by(core) == {"ann": "a"}
    assert len(effects.activations) == 1


@pytest.mark.parametrize("attributes", [{}, {"version": "a"}, {"parameters": A.to_json()}, {"version": ""}])
def test_an_activation_without_its_attributes_is_rejected(attributes: dict[str, str]) -> None:
    content: dict[str, Any] = {"event_id": bytes(16), "customer_id": CUSTOMER, "source": "x", "touchpoint": "x"}
    times = {"occurred_at": START_US, "received_at": START_US}
    value = encode({**content, **times, "kind": "model_activated", "attributes": attributes})
    [rejected] = take(make_core(FakeTables()), [value]).rejected
    assert "needs the attributes version and parameters" in rejected.detail


def test_the_order_of_activity_kinds_says_nothing() -> None:
    turned = json.dumps({**json.loads(A.to_json()), "activity_kinds": list(reversed(DEFAULT.activity_kinds))})
    assert usable_model("a", turned, DEFAULT.activity_kinds).version == "a"


def test_nothing_is_activated_beyond_a_stop() -> None:
    tables = FakeTables()
    scorer = Scorer.of(DEFAULT)
    core = make_core(tables)
    floods = Floods(FloodLimit(2, 10), lambda *_: [], lambda _: 0)
    core = Core(core.cache, scorer, shipped(), tables, lambda: b"\x9e\x01marker", floods)
    effects = take(core, [activation(A), b"junk", b"junk", activation(B)])
    assert [at.version for at in effects.activations] == ["a"]
    assert core.timeline.current() == {0: "a"}
    assert effects.records == 2


def test_a_refold_of_one_customer_passes_all_activations() -> None:
    values = [bad("ann", 0), activation(A), bad("bob", 1), bad("ann", 2), activation(B), bad("bob", 3)]
    for size in (1, 6):
        refold = Refold(0, Wanted({"ann": 5}), DEFAULT, shipped(), lambda: b"\x9e\x01marker")
        for start in range(0, len(values), size):
            part = values[start : start + size]
            refold.take(np.arange(start, start + len(part)), part, [0] * len(part))
        frame = to_frame(refold.states())
        assert frame.select("customer_id", "model_version").rows() == [("ann", "a")]


async def test_activations_are_written_before_the_acknowledgement() -> None:
    tables = FakeTables()
    shell = Shell(make_core(tables), tables, FakeTopics(tables.actions), FAST, TablesDownError)
    acknowledged: list[int] = []
    async with running(shell) as task:
        await shell.handle([batch([activation(A)], 0, acknowledged)])
        await until(lambda: acknowledged == [0], task)
    assert tables.actions == ["activations"]
    assert tables.activations[0, 0].version == "a"


async def test_a_revoked_partition_is_looked_up_anew() -> None:
    tables = FakeTables()
    core = make_core(tables)
    shell = Shell(core, tables, FakeTopics(tables.actions), FAST, TablesDownError)
    acknowledged: list[int] = []
    async with running(shell) as task:
        await shell.handle([batch([bad("ann", 0)], 0, acknowledged)])
        await until(lambda: len(acknowledged) == 1, task)
        await shell.on_partitions_revoked(set())
        # Somebody else has read on meanwhile.
        tables.write_activations([Activation(0, 1, START_US, "a", A.to_json())])
        await shell.handle([batch([bad("ann", 9)], 2, acknowledged)])
        await until(lambda: len(acknowledged) == 2, task)
    assert judged_by(core) == {"ann": "a"}


def test_metric_tells_the_model_of_each_partition() -> None:
    registry = CollectorRegistry()
    info = ModelInfo("model_info", "Which", registry)
    assert b"model_info{" not in generate_latest(registry)
    info.set_function(lambda: {1: "b", 0: "a"})
    page = generate_latest(registry).decode()
    assert 'model_info{partition="0",version="a"} 1.0\nmodel_info{partition="1",version="b"} 1.0' in page
