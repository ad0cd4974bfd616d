"""``touchstone risk`` on a real table: whom it judges, from what, and what it says of histories it cannot use."""

from __future__ import annotations

import polars as pl
import pytest

from tests.integration.learning.histories import AS_OF, AS_OF_DAY, JUDGED, days
from tests.integration.learning.shops import DAY_US, Deployment, frame, shop

pytestmark = pytest.mark.stack


def predictions(deployment: Deployment, *more: str, asof: str = AS_OF) -> pl.DataFrame:
    done = deployment.run("risk", "--asof", asof, "--out", "risk.csv", *more)
    assert done.code == 0, done.err
    return pl.read_csv(deployment.folder / "risk.csv", schema_overrides={"asof": pl.String, "customer_id": pl.String})


def sound(rows: pl.DataFrame) -> bool:
    chance = rows.get_column("risk")
    return bool(chance.len() and chance.is_finite().all() and (chance > 0).all() and (chance < 1).all())


def test_everybody_known_by_then_is_judged_by_what_happened_before(deployment: Deployment) -> None:
    events = shop(150)
    before = events.filter(pl.col("occurred_at") < AS_OF_DAY * DAY_US)
    deployment.store(events)
    rows = predictions(deployment, "--horizon", "30", "--dataset", "winter")
    assert rows.columns == ["dataset", "asof", "customer_id", "risk"]
    assert rows["customer_id"].to_list() == sorted(set(before["customer_id"]))
    assert set(rows["dataset"]) == {"winter"}
    assert set(rows["asof"]) == {AS_OF}
    assert sound(rows)
    assert rows["risk"].n_unique() > 50

    deployment.client.query("TRUNCATE TABLE touchstone.touchpoints")
    deployment.store(before)
    assert predictions(deployment, "--horizon", "30", "--dataset", "winter").equals(rows)


def test_several_dates_and_kinds_in_one_call(deployment: Deployment) -> None:
    deployment.store(shop(120))
    done = deployment.run(
        *("risk", "--asof", AS_OF, "--asof", "2022-09-05T12:00:00Z"),
        *("--horizon", "30", "--activity", "purchase", "renewal", "--dataset", "shop"),
    )
    assert done.code == 0, done.err
    rows = pl.read_csv(done.out.encode(), schema_overrides={"asof": pl.String})
    assert set(rows["asof"]) == {AS_OF, "2022-09-05T12:00:00Z"}
    assert "coming back is purchase or renewal" in done.err
    assert "no source is named" not in done.err


def test_a_data_set_is_told_apart_by_its_source(deployment: Deployment) -> None:
    ours = shop(120)
    theirs = ours.with_columns(
        source=pl.lit("elsewhere"),
        customer_id="x" + pl.col("customer_id"),
    )
    deployment.store(pl.concat([ours, theirs]))
    rows = predictions(deployment, "--dataset", "elsewhere", "--horizon", "30")
    assert rows["customer_id"].str.starts_with("xc").all()
    done = deployment.run("risk", "--asof", AS_OF, "--dataset", "nowhere", "--horizon", "30")
    assert "no source is named nowhere: all events are used" in done.err
    assert done.out.count("\n") == 1 + 2 * rows.height


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--asof", "soon"), "write it as 2026-03-01"),
        (("--asof", "9999-01-01"), "between 1971 and 2149"),
        (("--asof", AS_OF, "--activity", "purchases"), "did you mean purchase"),
        (("--asof", AS_OF, "purchase"), "after --activity"),
        (("--asof", AS_OF, "--horizon", "0"), "greater than or equal to 1"),
        (("--asof", AS_OF, "--out", "nowhere/risk.csv"), "a folder that exists"),
        (("--asof", AS_OF, "--activity", "referral"), "no event of kind referral in this history; it has purchase"),
    ],
)
def test_wrong_use_is_named(deployment: Deployment, arguments: tuple[str, ...], remedy: str) -> None:
    deployment.store(frame([("a", AS_OF_DAY - 30.0, "purchase", 5.0)]))
    done = deployment.run("risk", *arguments)
    assert (done.code, done.out) == (2, "")
    assert remedy in done.err


def test_a_server_that_is_not_there_is_3(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_CLICKHOUSE_HTTP_PORT", "1")
    done = deployment.run("risk", "--asof", AS_OF)
    assert (done.code, done.out) == (3, "")
    assert "does not answer" in done.err


REFUSED = {
    "no event at all": ([], "bring history in"),
    "nobody came twice": ([(f"c{n}", AS_OF_DAY - 40.0, "purchase", 1.0) for n in range(9)], "set the horizon"),
    "all on the same day": (
        [(f"c{n}", AS_OF_DAY - 0.5 + n / 1000, "purchase", 1.0) for n in range(300)],
        "set the horizon",
    ),
}


@pytest.mark.parametrize("history", REFUSED, ids=list(REFUSED))
def test_too_little_is_refused_with_the_remedy(deployment: Deployment, history: str) -> None:
    rows, remedy = REFUSED[history]
    if rows:
        deployment.store(frame(rows))
    done = deployment.run("risk", "--asof", AS_OF)
    assert (done.code, done.out) == (1, "")
    assert remedy in done.err


@pytest.mark.parametrize("history", JUDGED, ids=list(JUDGED))
def test_odd_histories_get_sound_risks(deployment: Deployment, history: str) -> None:
    deployment.store(frame(JUDGED[history]))
    rows = predictions(deployment, "--horizon", "30")
    assert sound(rows)
    assert rows["customer_id"].n_unique() == len({row[0] for row in JUDGED[history]})


def test_a_customer_of_a_hundred_thousand_events(deployment: Deployment) -> None:
    many = frame(days("busy", *(-i / 400 for i in range(1, 100_001))))
    deployment.store(pl.concat([shop(120), many]))
    rows = predictions(deployment, "--horizon", "30")
    assert sound(rows)
    assert rows.filter(pl.col("customer_id") == "busy")["risk"][0] < 0.1


def test_one_currency_counts_and_the_others_are_named(deployment: Deployment) -> None:
    euros = shop(120)
    deployment.store(euros)
    alone = predictions(deployment, "--horizon", "30")
    deployment.client.query("TRUNCATE TABLE touchstone.touchpoints")
    third = pl.int_range(pl.len()) % 3 == 0
    deployment.store(
        euros.with_columns(
            currency=pl.when(third).then(pl.lit("JPY")).otherwise("currency"),
            amount_micros=pl.when(third).then(pl.col("amount_micros") * 160).otherwise("amount_micros"),
        )
    )
    done = deployment.run("risk", "--asof", AS_OF, "--horizon", "30", "--out", "risk.csv")
    assert "money counts in EUR alone" in done.err
    assert "JPY in " in done.err
    mixed = pl.read_csv(deployment.folder / "risk.csv")
    assert sound(mixed)
    assert mixed["customer_id"].to_list() == alone["customer_id"].to_list()
