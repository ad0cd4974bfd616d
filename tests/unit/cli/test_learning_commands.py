"""What the commands that learn ask of the tables and make of the answers, without an engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from typer.testing import CliRunner

from infra.clickhouse.models import NEVER, StoredModel
from services.cli.console import CommandError, ExitCode
from services.cli.learning import models
from services.cli.learning.activation import Activated
from services.cli.learning.asking import kinds_of, learning, moment_us, silence_note
from services.cli.learning.experience import Remembered, experience_of
from services.cli.learning.history import COLUMNS, FELT, LEARNT_FROM, History, history_sql, learnable, read_history
from services.cli.learning.levels import levels
from services.cli.learning.risk import checked, predicted
from services.cli.learning.translate import to_learnt, to_risk_model
from services.learning.activity import DAY_US
from services.learning.errors import BadHistory, TooLittle
from services.scoring.risk.model import DEFAULT, RiskModel

DAY = 20_000
AS_OF_US = (DAY + 200) * DAY_US


class Tables:
    """Answers by what is asked for, and remembers it."""

    def __init__(self, events: pl.DataFrame, sources: tuple[str, ...] = ("shop",)) -> None:
        self.events, self.sources = events, sources
        self.asked: list[str] = []

    def frame(self, sql: str) -> pl.DataFrame:
        self.asked.append(sql)
        if "DISTINCT" in sql:
            return pl.DataFrame({"name": self.sources})
        return self.events


def events(*rows: tuple[str, float, str, float | None, str]) -> pl.DataFrame:
    """(customer, day, kind, amount, currency) as the table gives them."""
    names = ["customer_id", "occurred_at", "kind", "amount", "currency"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(
        (pl.col("occurred_at") * DAY_US).cast(pl.Int64), pl.col("amount").cast(pl.Float64)
    )


def weekly(customers: int = 60) -> pl.DataFrame:
    return events(
        *(
            (f"c{n:03}", DAY + day, "purchase", 5.0, "EUR")
            for n in range(customers)
            for day in range(n, 200 if n % 3 else 120, 7 + n % 5)
        )
    )


@pytest.mark.parametrize(
    ("given", "us"),
    [
        ("1971-01-01", 365 * DAY_US),
        ("2026-03-01", 20_513 * DAY_US),
        ("2026-03-01T12:00:00Z", 20_513 * DAY_US + DAY_US // 2),
        ("2026-03-01T12:00:00+02:00", 20_513 * DAY_US + DAY_US // 2 - 7_200_000_000),
        ("2026-03-01T00:00:00.000001", 20_513 * DAY_US + 1),
    ],
)
def test_moments_are_exact(given: str, us: int) -> None:
    assert moment_us(given) == us


@pytest.mark.parametrize("given", ["", "soon", "2026-13-01", "1970-12-31", "9999-12-31T23:59:59+00:00"])
def test_other_moments_are_wrong_use(given: str) -> None:
    with pytest.raises(CommandError) as refused:
        moment_us(given)
    assert refused.value.code is ExitCode.WRONG_USE


def test_kinds_may_be_given_in_any_way() -> None:
    assert kinds_of(None, None) is None
    assert kinds_of(["purchase"], ["renewal"]) == ["purchase", "renewal"]
    assert kinds_of(["purchase,renewal", "purchase"], None) == ["purchase", "renewal"]
    with pytest.raises(CommandError, match="no kind of event: there are interaction, "):
        kinds_of(["xyz"], None)
    with pytest.raises(CommandError, match="review_due is no kind"):
        kinds_of(["review_due"], None)


def test_only_what_is_needed_is_read_and_nothing_from_the_moment_on() -> None:
    sql = history_sql(LEARNT_FROM, before_us=AS_OF_US, source="o'neill")
    assert f"t.occurred_at < fromUnixTimestamp64Micro({AS_OF_US}, 'UTC')" in sql
    assert r"t.source = 'o\'neill'" in sql
    assert "FINAL" in sql
    assert re.search(r"t\.kind NOT IN \([^)]*'review_due'", sql)
    assert "touchpoint AS" not in sql
    assert "emotion_weight AS emotion_weight" in history_sql((*LEARNT_FROM, *FELT))
    assert set(FELT) <= set(COLUMNS)


def test_the_most_common_currency_counts() -> None:
    found, notes, currency = learnable(
        events(
            ("a", DAY, "purchase", 5.0, "EUR"),
            ("a", DAY + 1, "refund", -2.0, "EUR"),
            ("b", DAY + 2, "purchase", 900.0, "JPY"),
            ("b", DAY + 3, "interaction", None, ""),
        )
    )
    assert found["amount"].to_list() == [5.0, -2.0, None, None]
    assert found.columns == list(LEARNT_FROM)
    assert currency == "EUR"
    assert notes == ["money counts in EUR alone; events whose amount is in another currency, and left out: JPY in 1"]


def test_clocks_that_were_never_set_are_left_out() -> None:
    found, notes, _ = learnable(events(("a", 0.0, "purchase", 5.0, "EUR"), ("a", DAY, "purchase", 5.0, "EUR")))
    assert found.height == 1
    assert notes[0].startswith("events of the year 1970, left out: 1.")


def test_a_data_set_is_a_source_if_there_is_one() -> None:
    tables = Tables(weekly())
    assert read_history(tables, dataset="shop").source == "shop"
    assert "t.source = 'shop'" in tables.asked[-1]
    history = read_history(tables, dataset="cdnow")
    assert history.source is None
    assert history.notes == ("no source is named cdnow: all events are used",)
    assert "t.source" not in tables.asked[-1]


def test_predictions_have_their_columns_and_sound_risks(capsys: pytest.CaptureFixture[str]) -> None:
    rows = predicted(Tables(weekly()), "2025-03-28", AS_OF_US, 21, ["purchase"], None)
    assert rows.columns == ["dataset", "asof", "customer_id", "risk"]
    assert rows["dataset"].unique().to_list() == ["all"]
    assert rows["customer_id"].to_list() == [f"c{n:03}" for n in range(60)]
    assert rows["risk"].is_between(0.0, 1.0, closed="none").all()
    stopped = rows["risk"].gather_every(3)
    assert (
        stopped.min()
        > rows.filter(~pl.col("customer_id").is_in(rows["customer_id"].gather_every(3).to_list()))["risk"].max()
    )  # type: ignore[operator]
    assert "60 customers by" in capsys.readouterr().err


@pytest.mark.parametrize("risk", [0.0, 1.0, float("nan"), float("inf"), None])
def test_a_wrong_number_is_never_written(risk: float | None) -> None:
    rows = pl.DataFrame({"asof": ["x", "x"], "customer_id": ["a", "b"], "risk": [0.5, risk]})
    with pytest.raises(CommandError, match="customer b as of x got a risk of"):
        checked(rows)


def test_refusals_end_with_their_code() -> None:
    for error, code in ((BadHistory("x"), ExitCode.WRONG_USE), (TooLittle("x"), ExitCode.NO)):
        with pytest.raises(CommandError, match="as of then: x") as refused, learning("as of then"):
            raise error
        assert refused.value.code is code


def test_a_silence_longer_than_the_horizon_is_said() -> None:
    history = History(events(("a", DAY, "purchase", 1.0, "EUR")))
    assert silence_note(history, (DAY + 30) * DAY_US, 30) is None
    said = silence_note(history, (DAY + 31) * DAY_US, 30)
    assert said is not None
    assert "use --asof 2024-10-05" in said


@pytest.fixture
def activated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Calls of the activation, whose event one of two partitions does not show yet for any other model than the
    default; no server."""
    calls: list[tuple[object, ...]] = []

    @contextmanager
    def nowhere(_settings: object) -> Iterator[None]:
        yield None

    def activate(_settings: object, version: str, parameters: str, now_us: int) -> Activated:
        calls.append((version, parameters, now_us))
        return Activated(version, now_us, (0, 1), (0, 1), waiting=() if version == DEFAULT.version else (1,))

    learnt = replace(DEFAULT, version="autumn")
    stored = [
        StoredModel(DEFAULT.version, datetime(2026, 1, 1, tzinfo=UTC), DEFAULT.to_json(), ""),
        StoredModel("autumn", NEVER, learnt.to_json(), ""),
        StoredModel("broken", NEVER, "{}", ""),
    ]
    monkeypatch.setattr(models, "tables", nowhere)
    monkeypatch.setattr(models, "list_models", lambda _client: stored)
    monkeypatch.setattr(models.activation, "activate", activate)
    return calls


def test_a_model_is_activated_with_its_numbers(activated: list[tuple[object, ...]]) -> None:
    done = CliRunner().invoke(models.models, ["activate", DEFAULT.version])
    assert (done.exit_code, done.output) == (0, f"model {DEFAULT.version} judges from now on, in all 2 partitions\n")
    waiting = CliRunner().invoke(models.models, ["activate", "autumn", "--json"])
    assert waiting.exit_code == ExitCode.NO
    assert json.loads(waiting.output)["complete"] is False
    assert [call[0] for call in activated] == [DEFAULT.version, "autumn"]
    assert RiskModel.from_json(str(activated[1][1])).version == "autumn"


def test_a_model_that_cannot_be_read_is_not_activated(activated: list[tuple[object, ...]]) -> None:
    done = CliRunner().invoke(models.models, ["activate", "broken"])
    assert isinstance(done.exception, CommandError)
    assert "model broken cannot judge here" in str(done.exception)
    assert activated == []


def test_facts_are_worked_out_once_and_not_mixed_up() -> None:
    asked: list[int] = []

    def experience(frame: pl.DataFrame, _as_of_us: int) -> pl.DataFrame:
        asked.append(frame.height)
        return frame.select("customer_id")

    facts = Remembered(experience)
    some = weekly()
    assert facts(some, AS_OF_US) is facts(some, AS_OF_US)
    facts(some, AS_OF_US - 1)
    facts(some.head(10), AS_OF_US)
    facts(some.tail(10), AS_OF_US)
    assert asked == [some.height, some.height, 10, 10]


def test_facts_are_made_where_something_was_felt() -> None:
    assert experience_of(History(weekly())) is None
    assert experience_of(History(events(("a", DAY, "complaint_opened", None, "")))) is not None


def test_levels_of_bands_follow_the_risks_of_who_was_active() -> None:
    model = to_learnt(DEFAULT)
    n = 400
    names = [f"c{i:03d}" for i in range(n)]
    events = pl.DataFrame(
        {
            "customer_id": names,
            "kind": ["purchase"] * n,
            # The last hundred have been silent for more than a year.
            "occurred_at": [AS_OF_US - (30 if i < 300 else 500) * DAY_US for i in range(n)],
        }
    )
    risks = pl.DataFrame({"customer_id": names, "risk": [(i + 1) / 1000 if i < 300 else 0.999 for i in range(n)]})
    found = levels(model, events, risks, AS_OF_US)
    assert found.high_enter == pytest.approx(0.2701)
    assert found.elevated_enter == pytest.approx(0.22525)
    assert found.elevated_leave < found.elevated_enter < found.high_leave < found.high_enter
    assert to_risk_model(model, found).bands == found
    assert levels(model, events[:20], risks, AS_OF_US) == DEFAULT.bands, "too few"
    alike = risks.with_columns(risk=pl.lit(0.4))
    assert levels(model, events, alike, AS_OF_US) == DEFAULT.bands, "too much alike"
