"""Laws of deciding: the cuts between batches and repeats change nothing, and turns follow each other."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.alerting.alert import Alert, AlertState, Phase, Turn
from services.alerting.rules.model import RuleSet
from tests.fakes.alerting import HOUR_US, START_US, Alerting, frame, rule, rule_set, signal

DURATIONS = ("0s", "1h", "5h")
SIGNALS = st.lists(
    st.fixed_dictionaries(
        {
            "customer": st.sampled_from(["ann", "bob", "cem"]),
            "band": st.sampled_from(["low", "elevated", "high"]),
            "risk": st.sampled_from([0.0, 0.4, 0.9, float("nan")]),
            "hours": st.integers(0, 4),
        }
    ),
    max_size=30,
)
RULES = st.builds(
    lambda until, dwell, keep, rest: rule_set(
        rule("one", until=until, for_=dwell, keep_firing_for=keep, cooldown=rest),
        rule("two", when="risk > 0.5 AND band <> 'low'"),
    ),
    st.sampled_from([None, "band = 'low'", "risk < 0.5"]),
    *[st.sampled_from(DURATIONS)] * 3,
)


def log(drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    signals, at_us = [], START_US
    for offset, each in enumerate(drawn):
        at_us += each["hours"] * HOUR_US
        signals.append(signal(each["customer"], offset, at_us, band=each["band"], risk=each["risk"]))
    return signals


def kept(alerting: Alerting) -> tuple[set[str], dict[tuple[str, str], AlertState]]:
    """All that was decided; as text, since unknown facts are unlike themselves."""
    return {repr(alert) for alert in alerting.alerts}, alerting.states


def at_once(rules: RuleSet, signals: list[dict[str, Any]]) -> Alerting:
    alerting = Alerting(rules)
    alerting.take(*signals)
    return alerting


@given(rules=RULES, drawn=SIGNALS, cuts=st.lists(st.integers(0, 30), max_size=8))
def test_cuts_between_batches_change_nothing(rules: RuleSet, drawn: list[dict[str, Any]], cuts: list[int]) -> None:
    signals, alerting = log(drawn), Alerting(rules)
    for start, end in pairwise(sorted({0, len(signals), *(cut for cut in cuts if cut < len(signals))})):
        alerting.take(*signals[start:end])
    assert kept(alerting) == kept(at_once(rules, signals))


@given(rules=RULES, drawn=SIGNALS, data=st.data())
def test_repeats_of_any_suffix_decide_nothing_new(rules: RuleSet, drawn: list[dict[str, Any]], data: Any) -> None:
    signals, alerting = log(drawn), Alerting(rules)
    done = 0
    while done < len(signals):
        back = data.draw(st.integers(0, done))
        end = data.draw(st.integers(done + 1, len(signals)))
        alerting.take(*signals[back:end])
        done = end
    assert kept(alerting) == kept(at_once(rules, signals))
    assert alerting.take_frame(frame(signals)).alerts == []


@given(rules=RULES, drawn=SIGNALS)
def test_an_alert_fires_and_resolves_in_turn(rules: RuleSet, drawn: list[dict[str, Any]]) -> None:
    alerting = at_once(rules, log(drawn))

    def pair(alert: Alert) -> tuple[str, str]:
        return alert.rule, alert.customer_id

    for (name, customer), turned in groupby(sorted(alerting.alerts, key=pair), key=pair):
        alerts = list(turned)
        assert [alert.turn for alert in alerts] == [(Turn.FIRING, Turn.RESOLVED)[i % 2] for i in range(len(alerts))]
        ids = [alert.alert_id for alert in alerts]
        assert all(fired == resolved for fired, resolved in zip(ids[::2], ids[1::2], strict=False))
        assert len(set(ids)) == (len(ids) + 1) // 2
        fires = alerting.states[name, customer].phase is Phase.FIRING
        assert fires == (alerts[-1].turn is Turn.FIRING)
        of = rules.by_name[name]
        rests = [fired.at_us - resolved.at_us for resolved, fired in zip(alerts[1::2], alerts[2::2], strict=False)]
        assert all(rest >= of.cooldown_us for rest in rests)
