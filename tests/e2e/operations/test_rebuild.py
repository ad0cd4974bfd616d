"""States made anew from the log take the place of damaged ones: nothing is lost, doubled or signalled again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from infra.clickhouse.client import ClickHouse
from infra.kafka.admin import KafkaAdmin
from schemas.topics import LOYALTY_SIGNALS, TOUCHPOINTS
from services.cli.console import CommandError, ExitCode
from services.cli.learning.activation import activate
from services.cli.rebuild import rebuild
from services.cli.settings import load_settings
from services.cli.verification.against import Compared, by_log
from services.cli.verification.swapping import BESIDE, FORMER, Rebuilt
from services.cli.verify import verify
from services.scoring.risk.model import DEFAULT, RiskModel, documented
from tests.e2e.operations.damage import change_state, remove
from tests.e2e.scoring.load import make_load, produce
from tests.e2e.scoring.parts import DEADLINE_S, NO_REVIEWS, Machine
from tests.fakes.models import model_like_default

pytestmark = pytest.mark.stack

SEED: Final = 20_260_420
ALL: Final[dict[str, Any]] = {"sample_size": None, "customer": None, "limit": 100, "as_json": True}
Command = Callable[..., tuple[int, Any]]


def ends(stage: Machine, topic: str) -> int:
    with KafkaAdmin(stage.bootstrap) as admin:
        return sum(admin.end_offsets(topic).values())


def tables_of(tables: ClickHouse) -> set[str]:
    return {name for (name,) in tables.query("SELECT name FROM system.tables WHERE database = 'touchstone'")}


def test_damaged_states_are_made_anew_and_the_stream_goes_on(
    stage: Machine, tables: ClickHouse, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = make_load(SEED, 2_400, "rebuild-", time.time_ns() // 1000)
    before, meanwhile = load.records[:1_600], load.records[1_600:2_000]
    stage.start_worker(**NO_REVIEWS)
    stage.until(lambda: stage.members() == 1, "the worker reads the log", 2 * DEADLINE_S)
    produce(stage.bootstrap, before)
    stage.until_quiet()

    code, document = command(rebuild, swap=True, limit=100, as_json=True)
    assert (code, document["equal"], document["swapped"]) == (0, True, False)

    # One is wrong, one is gone, one pretends to be further than the log is.
    wrong, lost, ahead = (
        name
        for (name,) in tables.query(
            "SELECT customer_id FROM touchstone.customer_state FINAL WHERE felt > 2 ORDER BY customer_id LIMIT 3"
        )
    )
    change_state(tables, wrong, felt=99, band="high", risk=0.123)
    remove(tables, "customer_state", f"customer_id = '{lost}'")
    change_state(tables, ahead, log_offset=1_000_000)
    code, document = command(rebuild, swap=False, limit=100, as_json=True)
    assert (code, document["swapped"]) == (1, False)
    assert {shown["customer"] for shown in document["checks"]["log"]["shown"]} == {wrong, lost, ahead}
    # A worker's memory was made from the old states: it is not to be swapped away under it.
    with pytest.raises(CommandError, match="1 scoring workers run elsewhere") as refused:
        rebuild(swap=True, limit=100, as_json=True)
    assert refused.value.code is ExitCode.NO
    assert not {BESIDE, FORMER} & tables_of(tables)

    # The stream moves on while states are made anew; its worker ends only before the swap.
    class Late(Rebuilt):
        def catch_up(self) -> int:
            records = super().catch_up()
            assert records == len(meanwhile)
            return records

    def build_and_move_on(*arguments: Any, **options: Any) -> Iterator[Compared]:
        yield from by_log(*arguments, **options)
        produce(stage.bootstrap, meanwhile)
        stage.until_quiet()
        stage.end_workers()

    monkeypatch.setattr("services.cli.rebuild.by_log", build_and_move_on)
    monkeypatch.setattr("services.cli.rebuild.Rebuilt", Late)
    signals, events = ends(stage, LOYALTY_SIGNALS), ends(stage, TOUCHPOINTS)
    told = tables.query("SELECT count() FROM touchstone.loyalty_signals")
    code, document = command(rebuild, swap=True, limit=100, as_json=True)
    assert (code, document["swapped"]) == (0, True)
    monkeypatch.undo()
    assert ends(stage, TOUCHPOINTS) == events + len(meanwhile)
    moved = ends(stage, LOYALTY_SIGNALS) - signals
    assert tables.query("SELECT count() FROM touchstone.loyalty_signals") == [(told[0][0] + moved,)]
    assert BESIDE not in tables_of(tables)
    assert FORMER in tables_of(tables)


def test_what_follows_the_swap_is_exact(stage: Machine, tables: ClickHouse, command: Command) -> None:
    code, document = command(verify, **ALL)
    assert (code, document["equal"]) == (0, True), document
    load = make_load(SEED, 2_400, "rebuild-", time.time_ns() // 1000)
    stage.start_worker(**NO_REVIEWS)
    produce(stage.bootstrap, load.records[2_000:])
    stage.until(lambda: stage.members() == 1, "the worker reads the log", 2 * DEADLINE_S)
    stage.settle()
    code, document = command(verify, **ALL)
    assert (code, document["equal"]) == (0, True), document


def test_states_can_count_other_kinds_as_coming_back(stage: Machine, tables: ClickHouse, command: Command) -> None:
    """From the swap on: in the states, in what judges, in what may be activated, and for a worker that starts then."""
    stage.end_workers()
    counted = "SELECT sum(activities), sum(active_days) FROM touchstone.customer_state FINAL"
    [before] = tables.query(counted)
    [reviews] = tables.query("SELECT count() FROM touchstone.touchpoints FINAL WHERE kind = 'review'")
    with pytest.raises(CommandError, match="activity_kinds must be some of") as refused:
        rebuild(swap=True, limit=1, activity=["smiles"], as_json=True)
    assert refused.value.code is ExitCode.WRONG_USE
    code, document = command(rebuild, swap=True, limit=1, activity=["review"], as_json=True)
    assert (code, document["swapped"]) == (0, True)
    assert tables.query(counted)[0] != before
    assert tables.query(counted)[0][0] == reviews[0] > 0
    [(parameters,)] = tables.query("SELECT argMax(parameters, activated_at) FROM touchstone.models")
    assert RiskModel.from_json(parameters) == documented(["review"])
    usual = model_like_default("counts-purchases", {})
    with pytest.raises(CommandError, match="counts purchase, renewal, subscription as coming back") as refused:
        activate(load_settings(), usual.version, usual.to_json(), time.time_ns() // 1000)
    assert refused.value.code is ExitCode.WRONG_USE

    stage.start_worker(**NO_REVIEWS)
    stage.until(lambda: stage.members() == 1, "the worker reads the log", 2 * DEADLINE_S)
    later = make_load(SEED + 1, 400, "other-kinds-", time.time_ns() // 1000)
    produce(stage.bootstrap, later.records)
    stage.settle()
    code, document = command(verify, **ALL)
    assert (code, document["equal"]) == (0, True), document
    versions = tables.query("SELECT DISTINCT toString(model_version) FROM touchstone.customer_state FINAL")
    assert {version for (version,) in versions} <= {"", documented(["review"]).version}
    stage.end_workers()
    code, document = command(rebuild, swap=True, limit=1, activity=list(DEFAULT.activity_kinds), as_json=True)
    assert (code, document["swapped"]) == (0, True)
    assert command(verify, **ALL)[0] == 0
