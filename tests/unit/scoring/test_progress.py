"""When a worker calls itself stuck."""

from __future__ import annotations

from services.scoring.record_batches.progress import Observation, ProgressRule


def seen(position: int, end: int | None, *, excused: bool = False) -> Observation[str]:
    return Observation({"p0": position}, None if end is None else {"p0": end}, excused)


def first_reason(rule: ProgressRule[str], observations: list[Observation[str]], every_s: float) -> tuple[int, str]:
    for index, observation in enumerate(observations):
        reason = rule.observe(1000.0 + index * every_s, observation)
        if reason is not None:
            return index, reason
    return -1, ""


def test_no_progress_with_records_waiting_is_a_stall_after_30_s() -> None:
    index, reason = first_reason(ProgressRule(), [seen(100, 250)] * 20, every_s=5.0)
    assert index == 6
    assert reason == "p0: no progress for 30 s at position 100, 150 records behind the end"


def test_progress_or_nothing_to_do_is_no_stall() -> None:
    assert first_reason(ProgressRule(), [seen(n, 10_000) for n in range(50)], 5.0)[0] == -1
    assert first_reason(ProgressRule(), [seen(250, 250)] * 50, 5.0)[0] == -1


def test_one_stuck_partition_is_enough() -> None:
    observations = [Observation({"p0": n, "p1": 7}, {"p0": 99, "p1": 8}) for n in range(20)]
    index, reason = first_reason(ProgressRule(), observations, 5.0)
    assert index == 6
    assert reason.startswith("p1:")


def test_a_step_forward_starts_the_count_again() -> None:
    observations = [seen(1, 9)] * 6 + [seen(2, 9)] * 6
    assert first_reason(ProgressRule(), observations, 5.0)[0] == -1


def test_waking_from_a_pause_is_no_stall() -> None:
    rule: ProgressRule[str] = ProgressRule()
    assert rule.observe(0.0, seen(1, 9)) is None
    assert rule.observe(5.0, seen(1, 9)) is None
    assert rule.observe(5_000.0, seen(1, 9)) is None


def test_unknown_ends_are_borne_longer() -> None:
    index, reason = first_reason(ProgressRule(), [seen(1, None)] * 50, 5.0)
    assert index == 24
    assert "could not be learned for 120 s" in reason


def test_excused_waiting_is_no_stall_and_clears_the_count() -> None:
    observations = [seen(1, 9)] * 6 + [seen(1, 9, excused=True)] * 30 + [seen(1, 9)] * 6
    assert first_reason(ProgressRule(), observations, 5.0)[0] == -1


def test_a_revoked_partition_is_forgotten() -> None:
    rule: ProgressRule[str] = ProgressRule()
    for second in range(0, 30, 5):
        assert rule.observe(float(second), seen(1, 9)) is None
    assert rule.observe(30.0, Observation({}, {})) is None
    assert rule.observe(35.0, seen(1, 9)) is None
