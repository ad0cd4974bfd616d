"""``touchstone fit`` and ``touchstone models`` on real tables: what is kept, what is told, what is refused."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from scipy.special import logit

from infra.clickhouse import activations
from infra.clickhouse.checks import Held, latest_checks
from infra.clickhouse.models import list_models, save_model
from schemas.activation import Activation
from schemas.tables import MODEL_CHECKS, MODELS
from services.cli.learning.history import read_history
from services.cli.learning.translate import to_risk_model
from services.learning import judging
from services.learning.features import CONTACT
from services.learning.model import FEATURES, LearntModel
from services.scoring import as_of
from services.scoring.risk.model import DEFAULT, RiskModel
from tests.integration.learning import histories
from tests.integration.learning.histories import JUDGED
from tests.integration.learning.shops import DAY_US, FIRST_DAY, Deployment, frame, shop

pytestmark = pytest.mark.stack

AS_OF = "2022-11-04"
"""The day after the shop's last."""
CUSTOMERS = 120
FIT = ("fit", "--asof", AS_OF, "--horizon", "30")


@pytest.fixture
def judged(deployment: Deployment) -> Deployment:
    """A shop whose customers are judged by the documented default."""
    deployment.store(shop(CUSTOMERS))
    row = (DEFAULT.version, datetime(2022, 1, 1, tzinfo=UTC), DEFAULT.to_json(), "")
    deployment.client.insert_rows(MODELS.name, MODELS.names, [row])
    return deployment


def as_json(deployment: Deployment, *arguments: str) -> Any:
    done = deployment.run(*arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_a_fit_is_kept_told_and_judges_nobody(judged: Deployment) -> None:
    done = judged.run(*FIT)
    assert done.code == 0, done.err
    [active, kept] = list_models(judged.client)
    assert (active.version, active.was_active) == (DEFAULT.version, True)
    assert kept.version == f"fitted-{datetime.now(UTC):%Y%m%d}-1"
    assert not kept.was_active
    learnt, judging = LearntModel.model_validate_json(kept.report), RiskModel.from_json(kept.parameters)
    assert judging.horizon_days == learnt.horizon_days == 30
    assert judging.activity_kinds == learnt.kinds == DEFAULT.activity_kinds
    assert judging.base.alpha == learnt.base.alpha
    for said in (
        "leaving    no purchase or renewal or subscription within 30 days",
        "BG/NBD: r ",
        "base alone",
        "own rhythm and spend",
        "experience was not tried: nothing that was felt, or that we asked, is in these events",
        f"{DEFAULT.version} (judges now)",
        f"touchstone models activate {kept.version}",
    ):
        assert said in done.out, said

    again = as_json(judged, *FIT)
    assert again["version"].endswith("-2")
    assert again["saved"]
    assert again["horizon_days"] == 30
    assert [layer["layer"] for layer in again["layers"]] == ["rhythm", "contact", "experience"]
    assert len(again["beside"]) == 2
    second = list_models(judged.client)[2]
    strip = {"version"}
    assert json.loads(second.parameters).keys() == json.loads(kept.parameters).keys()
    assert {k: v for k, v in json.loads(second.parameters).items() if k not in strip} == {
        k: v for k, v in json.loads(kept.parameters).items() if k not in strip
    }


def test_models_are_listed_shown_and_compared(judged: Deployment) -> None:
    as_json(judged, *FIT, "--version", "autumn")
    listed = {entry["version"]: entry for entry in as_json(judged, "models")}
    assert listed["autumn"]["state"] == "not activated"
    assert listed["autumn"]["learnt"]["customers"] == CUSTOMERS
    assert listed[DEFAULT.version]["state"] == "active"
    assert "autumn" in judged.run("models").out

    shown = judged.run("models", "show", "autumn")
    assert "state      not activated" in shown.out
    assert "the base judges alone" in shown.out
    assert "weights: log-odds" in judged.run("models", "show", DEFAULT.version).out
    document = as_json(judged, "models", "show", DEFAULT.version)
    assert document["parameters"]["base.alpha"] == DEFAULT.base.alpha
    assert document["report"] is None

    compared = as_json(judged, "models", "compare", DEFAULT.version, "autumn", "--asof", AS_OF, "-n", "3")
    assert compared["customers"] == CUSTOMERS
    assert sum(sum(row.values()) for row in compared["bands"].values()) == CUSTOMERS
    assert len(compared["changes"]) == 3
    assert compared["quality"].keys() == {DEFAULT.version, "autumn"}
    assert "autumn has learnt from events of that window" in compared["notes"][0]
    told = judged.run("models", "compare", DEFAULT.version, "autumn", "--asof", AS_OF)
    assert "largest changes" in told.out
    assert "flatter it" in told.err


def test_a_model_compared_with_itself_changes_nothing(judged: Deployment) -> None:
    compared = as_json(judged, "models", "compare", DEFAULT.version, DEFAULT.version, "--asof", AS_OF)
    assert compared["changed_band"] == 0
    assert compared["changes"][0]["risk_a"] == compared["changes"][0]["risk_b"]


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        ((*FIT, "--version", "default-9"), 2, "not beginning with default-"),
        ((*FIT, "--version", DEFAULT.version), 2, "not beginning with default-"),
        ((*FIT, "--version", "a b"), 2, "letters, digits"),
        ((*FIT, "--report", "/dev/null"), 2, "is a file: name a folder"),
        (("models", "activate", "spring"), 1, "there is no model spring"),
        (("models", "shadow", DEFAULT.version), 2, "cannot run beside itself"),
        (("models", "shadow", DEFAULT.version, "--off"), 2, "not both"),
        (("fit", "--asof", "2022-01-01"), 1, "bring history in"),
        ((*FIT, "--activity", "referral"), 2, "it has purchase"),
        (("models", "show", "spring"), 1, f"there are: {DEFAULT.version}"),
        (("models", "compare", DEFAULT.version, "spring"), 1, "there is no model spring"),
        (("models", "praise"), 2, "No such command"),
    ],
)
def test_what_cannot_be_is_refused(judged: Deployment, arguments: tuple[str, ...], code: int, remedy: str) -> None:
    done = judged.run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert remedy in done.err
    assert len(list_models(judged.client)) == 1


def test_not_kept_when_not_wanted_but_reported(judged: Deployment) -> None:
    done = judged.run(*FIT, "--no-save", "--report", "autumn")
    assert done.code == 0, done.err
    assert "not kept" in done.out
    page = (judged.folder / "autumn" / "report.html").read_text("utf-8")
    assert "base and evidence" in page
    assert list((judged.folder / "autumn").glob("*.png"))
    days = shop(CUSTOMERS).select("customer_id", day=pl.col("occurred_at") // DAY_US).unique()
    for customer in re.findall(r"<h3>Customer (\w+): risk", page):
        own = days.filter(pl.col("customer_id") == customer)["day"].sort()
        silent = FIRST_DAY + 300 - int(own[-1])
        said = (
            f"last came {silent} day{'s' * (silent != 1)} ago, usual gap " if len(own) > 1 else f"came once, {silent} "
        )
        assert said in page, "in the customer's own numbers"
    assert len(list_models(judged.client)) == 1


def test_a_name_is_used_once(judged: Deployment) -> None:
    assert judged.run(*FIT, "--version", "autumn").code == 0
    done = judged.run(*FIT, "--version", "autumn")
    assert done.code == 2
    assert "take another name" in done.err


def test_an_old_history_is_said_to_look_like_leaving(judged: Deployment) -> None:
    done = judged.run("fit", "--no-save", "--horizon", "30")
    assert done.code == 0, done.err
    assert f"use --asof {AS_OF}" in done.err


def test_a_history_too_short_for_evidence_gives_the_base_alone(deployment: Deployment) -> None:
    rows = [(f"c{n}", FIRST_DAY + 20.0 * n / 40 + at, "purchase", 5.0) for n in range(40) for at in (0.0, 7.0)]
    deployment.store(frame(rows))
    done = deployment.run("fit", "--asof", "2022-02-20")
    assert done.code == 0, done.err
    assert "too little history for evidence" in done.out
    [kept] = list_models(deployment.client)
    assert not any(weight.slope for weight in RiskModel.from_json(kept.parameters).weights.values())


def test_a_model_in_the_shadow_is_seen_beside_the_active_one(judged: Deployment) -> None:
    judged.run(*FIT, "--version", "autumn")
    assert "no model runs" in judged.run("models", "shadow").out
    assert judged.client.query("SELECT count() FROM touchstone.shadow_scores") == [(0,)]
    assert as_json(judged, "models", "shadow", "autumn") == {"shadow": "autumn"}
    assert {entry["version"]: entry["state"] for entry in as_json(judged, "models")}["autumn"] == "shadow"
    judged.fold(shop(CUSTOMERS), DEFAULT.activity_kinds)
    rows = judged.client.query("SELECT model, shadow_model, risk, shadow_risk FROM touchstone.shadow_scores")
    assert len(rows) == CUSTOMERS
    assert {row[:2] for row in rows} == {(DEFAULT.version, "autumn")}
    assert all(0 < row[2] < 1 and 0 < row[3] < 1 for row in rows)
    assert as_json(judged, "models", "shadow", "--off") == {"shadow": None}
    assert judged.client.query("SELECT count() FROM touchstone.shadow_scores") == [(0,)]


def test_a_kept_model_judges_in_sql_as_it_was_learnt(judged: Deployment) -> None:
    judged.run(*FIT, "--version", "autumn")
    learnt = LearntModel.model_validate_json(list_models(judged.client)[1].report)
    random = np.random.default_rng(3)
    many = len(FEATURES)
    weights = learnt.weights.model_copy(
        update={
            "slope": 0.2,
            "intercept": 0.3,
            "means": tuple(random.normal(size=many)),
            "scales": tuple(random.uniform(0.5, 2.0, many)),
            "lows": (-2.0,) * many,
            "highs": (5.0,) * many,
            # Learning takes no notice of contact where there never was any.
            "coefficients": tuple(random.normal(size=many) * ~np.isin(FEATURES, CONTACT)),
        }
    )
    learnt = learnt.model_copy(update={"version": "bent", "weights": weights})
    save_model(judged.client, "bent", to_risk_model(learnt).to_json(), learnt.model_dump_json())
    judged.fold(shop(CUSTOMERS), DEFAULT.activity_kinds)
    at_us = (FIRST_DAY + 300) * DAY_US
    _, known = as_of.as_of()
    model = "(SELECT parameters FROM touchstone.models FINAL WHERE version = 'bent')"
    sql = as_of.select({"customer_id": "s_customer_id", "risk": known["risk"]}, f"toFloat64({at_us})", model=model)
    found = judged.client.frame(f"SELECT * FROM ({sql}) ORDER BY customer_id")
    expected = judging.risks(learnt, read_history(judged.client, before_us=at_us).events, at_us)
    assert found["customer_id"].to_list() == expected["customer_id"].to_list()
    assert_allclose(logit(found["risk"].to_numpy()), logit(expected["risk"].to_numpy()), atol=1e-6)


def test_a_model_is_checked_on_the_latest_window(judged: Deployment) -> None:
    assert as_json(judged, *FIT, "--version", "autumn")["saved"]
    done = judged.run("models", "check", "--asof", AS_OF)
    assert done.code in (0, 1), done.err
    assert f"model      {DEFAULT.version}" in done.out
    assert "did not come back within 30 days" in done.out
    found = as_json(judged, "models", "check", "autumn", "--asof", AS_OF)
    assert (found["version"], found["verdict"], found["horizon_days"]) == ("autumn", "holds", 30)
    assert found["n"] == sum(part["n"] for part in found["bins"])
    assert (
        "autumn has learnt from events of that window" in judged.run("models", "check", "autumn", "--asof", AS_OF).err
    )
    early = judged.run("models", "check", "--asof", "2022-02-01")
    assert (early.code, early.out) == (1, "")
    assert "no window to check on yet" in early.err


def test_a_finding_is_kept_and_one_on_an_earlier_window_hides_none(judged: Deployment) -> None:
    client = judged.client
    found = as_json(judged, "models", "check", "--asof", AS_OF)
    assert judged.run("models", "check", "--asof", "2022-09-01").code in (0, 1)
    assert judged.run("models", "check", "--asof", "2022-11-05", "--no-save").code in (0, 1)
    assert judged.run("models", "check", "--asof", "2100-01-01").code in (0, 1), "not kept: that window has not ended"
    kept = client.frame(f"SELECT * FROM touchstone.{MODEL_CHECKS.name} FINAL ORDER BY judged_at DESC")
    assert kept.height == 2
    row = kept.row(0, named=True)
    assert row["version"] == DEFAULT.version
    assert row["judged_at"].date() == date(2022, 10, 5), "a horizon of 30 days before"
    told = {"n": found["n"], "expected": found["expected"], "observed": found["observed"], "verdict": found["verdict"]}
    assert {name: row[name] for name in told} == told
    measures = ("auc", "brier", "ece", "log_loss")
    assert [row[name] for name in measures] == [found["quality"][name] for name in measures]
    assert [row["allowed_low"], row["allowed_high"], row["spread"]] == [*found["allowed"], found["spread"]]
    assert not row["flattered"]
    checked_before_us = datetime.now(UTC).timestamp() * 1e6
    activations.write(client, [Activation(0, 7, 5_000_000, DEFAULT.version, DEFAULT.to_json())])
    [shown, unknown] = latest_checks(client, [DEFAULT.version, "nobody"])
    assert (shown.verdict, shown.ece) == (found["verdict"], found["quality"]["ece"])
    assert shown.activated_at_us == 5_000_000
    assert shown.checked_at_us is not None
    assert checked_before_us - 60e6 < shown.checked_at_us <= checked_before_us
    assert unknown == Held("nobody", None, None, "", 0.0)


def test_a_check_of_a_model_on_what_it_has_learnt_from_says_so(judged: Deployment) -> None:
    assert as_json(judged, *FIT, "--version", "autumn")["saved"]
    as_json(judged, "models", "check", "autumn", "--asof", AS_OF)
    assert judged.client.query("SELECT flattered FROM touchstone.model_checks WHERE version = 'autumn'") == [(True,)]


def test_what_was_felt_is_tried(deployment: Deployment) -> None:
    purchases = shop(CUSTOMERS)
    days = purchases.select("customer_id", day=pl.col("occurred_at") / DAY_US).gather_every(3)
    deployment.store(purchases)
    deployment.store(frame([(customer, day + 0.5, "survey_response", None) for customer, day in days.iter_rows()]))
    found = as_json(deployment, *FIT, "--no-save")
    tried = {layer["layer"]: layer["gain"] for layer in found["layers"]}
    assert tried["contact"] is not None
    assert tried["experience"] is not None
    assert found["quality"]["n"] > CUSTOMERS


@pytest.mark.parametrize(
    "history",
    ["one customer", "nobody ever comes again", "everybody comes every day", "no purchases", "clocks of 1970 and 2200"],
)
def test_odd_histories_give_models_that_can_judge(deployment: Deployment, history: str) -> None:
    deployment.store(frame(JUDGED[history]))
    found = as_json(deployment, "fit", "--asof", histories.AS_OF, "--horizon", "30")
    [kept] = list_models(deployment.client)
    assert RiskModel.from_json(kept.parameters).version == found["version"]
    if history == "no purchases":
        assert found["activity"] == ["interaction"]
        assert "touchstone rebuild --swap --activity interaction" in " ".join(found["notes"])
