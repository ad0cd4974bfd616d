"""What the stream would say of a customer, out of stored events as a report has them."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from schemas.tables import DIMENSIONS
from services.scoring.decay import DAY_US
from services.scoring.facts import sentences_at
from services.scoring.risk.features import TERMS
from services.scoring.risk.model import DEFAULT
from services.scoring.risk.words import NOTHING_THERE

FIRST: Final = 19_000
NOW_US: Final = (FIRST + 41) * DAY_US


def event(customer: str, day: float, kind: str, **more: Any) -> dict[str, Any]:
    nothing = {f"{dimension}_{part}": 0.0 for dimension in DIMENSIONS for part in ("valence", "weight")}
    return {
        "customer_id": customer,
        "occurred_at": int((FIRST + day) * DAY_US),
        "kind": kind,
        "touchpoint": "store",
        "case_id": "",
        "amount": None,
        **nothing,
        **more,
    }


def said(*events: dict[str, Any]) -> dict[str, dict[str, str]]:
    frame = pl.DataFrame(events, schema_overrides={"amount": pl.Float64}).with_columns(
        pl.col("kind", "touchpoint").cast(pl.Categorical)
    )
    return {row.pop("customer_id"): row for row in sentences_at(frame, NOW_US, DEFAULT).to_dicts()}


def test_each_term_has_the_customers_own_sentence() -> None:
    failed = {f"{dimension}_valence": -0.9 for dimension in DIMENSIONS} | {f"{d}_weight": 1.0 for d in DIMENSIONS}
    found = said(
        event("bob", 40, "purchase", amount=5.0),
        event("ann", 0, "purchase", amount=30.0),
        event("ann", 24, "purchase", amount=40.0),
        event("ann", 12, "purchase", amount=20.0),
        event("ann", 24, "refund", amount=-15.0),
        event("ann", 31, "interaction", touchpoint="web.checkout", **failed),
        event("ann", 35, "complaint_opened", case_id="7"),
        event("ann", 38, "cancellation"),
    )
    assert list(found) == ["ann", "bob"]
    assert set(found["ann"]) == set(TERMS)
    ann = found["ann"]
    assert ann["rhythm"] == "last came 17 days ago, usual gap 12 days"
    assert ann["frequency"] == "came on 3 of the last 41 days"
    assert ann["spend"].startswith("spends about 25 a visit, lately ")
    assert ann["worst"] == "a bad moment at web.checkout, 10 days ago"
    assert ann["complaints"] == "complaint open for 6 days"
    assert ann["feedback"] == "unhappy feedback unanswered for 6 days"
    assert ann["cancelled"] == "cancelled 3 days ago"
    assert found["bob"]["rhythm"] == "came once, 1 day ago"
    assert found["bob"]["contact"] == "no contact on record but coming"
    assert {term: found["bob"][term] for term in NOTHING_THERE} == NOTHING_THERE


def test_what_comes_later_is_not_told() -> None:
    before = event("ann", 3, "purchase", amount=10.0)
    assert said(before) == said(before, event("ann", 41, "complaint_opened"), event("bob", 50, "purchase"))
