"""When a receiver may be called."""

from __future__ import annotations

from services.alerting.delivery.circuit import FAILURES_TO_OPEN, MOST_OPEN_S, Circuit, Mode
from services.alerting.delivery.retry import Verdict


def opened() -> Circuit:
    circuit = Circuit()
    for _ in range(FAILURES_TO_OPEN):
        circuit = circuit.started().after(Verdict.RETRY, 0)
    return circuit


def test_it_opens_after_failures_in_a_row_only() -> None:
    circuit = Circuit()
    for _ in range(3 * FAILURES_TO_OPEN):
        circuit = circuit.after(Verdict.RETRY, 0).after(Verdict.DELIVERED, 0)
    assert circuit == Circuit()
    assert opened().mode is Mode.OPEN
    assert opened().admits_from_us() == 10_000_000


def test_one_probe_decides() -> None:
    probing = opened().started()
    assert probing.mode is Mode.PROBING
    assert probing.admits_from_us() is None
    assert probing.after(Verdict.DELIVERED, 1) == Circuit()
    assert probing.after(Verdict.NEVER, 1) == Circuit()
    again = probing.after(Verdict.RETRY, 10_000_000)
    assert (again.mode, again.until_us) == (Mode.OPEN, 30_000_000)


def test_it_stays_open_for_five_minutes_at_most() -> None:
    circuit = opened()
    for _ in range(50):
        circuit = circuit.started().after(Verdict.RETRY, 0)
    assert circuit.until_us == MOST_OPEN_S * 1_000_000


def test_late_answers_of_calls_that_were_under_way_do_not_lengthen_it() -> None:
    assert opened().after(Verdict.RETRY, 9_000_000).until_us == 10_000_000
    assert opened().after(Verdict.DELIVERED, 9_000_000) == Circuit()


def test_a_receiver_may_ask_for_a_pause_of_an_hour_at_most() -> None:
    assert Circuit().after(Verdict.SLOW_DOWN, 0, 120.0).admits_from_us() == 120_000_000
    assert Circuit().after(Verdict.SLOW_DOWN, 0, 1e9).admits_from_us() == 3_600_000_000
    assert Circuit().after(Verdict.SLOW_DOWN, 0, None).mode is Mode.CLOSED


def test_gone_disables_until_somebody_steps_in() -> None:
    gone = Circuit().after(Verdict.GONE, 0)
    assert gone.mode is Mode.DISABLED
    assert gone.admits_from_us() is None
    assert gone.after(Verdict.DELIVERED, 0) is gone
    assert gone.by_hand().admits_from_us() == 0
    assert Circuit().by_hand() == Circuit()
