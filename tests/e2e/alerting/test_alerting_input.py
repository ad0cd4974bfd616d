"""What comes in wrong: records that are no signals, and rules files that cannot be used."""

from __future__ import annotations

import time

import pytest

from tests.e2e.alerting.desk import Desk, rule, signal

pytestmark = pytest.mark.stack


def test_garbage_is_passed_over_and_counted(desk: Desk) -> None:
    desk.rules(rule("garbage", "risk > 0.4"))
    now_us = time.time_ns() // 1000
    good = signal("garbage-good", 1, now_us)
    bad = [b"", b"{}", b"\xff\xfe", good[:-9], b"[" * 5000, b"null", good.replace(b'"risk":0.5', b'"risk":7')]
    bad += [
        good.replace(f'"judged_at_us":{now_us}'.encode(), b'"judged_at_us":99999999999999999999'),
        good.replace(f'"judged_at_us":{now_us}'.encode(), b'"judged_at_us":-99999999999999999'),
        good.replace(b'"log_offset":1', b'"log_offset":9223372036854775808'),
        good.replace(b'"log_offset":1', b'"log_offset":-5'),
        good.replace(b'"log_partition":1', b'"log_partition":70000'),
        good.replace(b'"customer_id":"garbage-good"', b'"customer_id":""'),
        good.replace(b'"log_odds":1.5', b'"log_odds":NaN'),
    ]
    part = desk.start()
    desk.send([("garbage-good", value) for value in (*bad, good, *bad)])
    desk.machine.until(lambda: desk.inbox.customers() == {"garbage-good"}, "the good one is told")
    desk.until_read()
    assert desk.metric(part, "unreadable_total") == 2 * len(bad)
    desk.end(part)
    assert len(desk.inbox.told()) == 1


def test_a_wrong_rules_file_at_the_start_ends_it_with_the_lines(desk: Desk) -> None:
    desk.rules_path.write_text("version: 1\nrules:\n  - name: x\n    when: band = 'hgh'\n    owner: o\n")
    part = desk.start()
    desk.machine.workers.remove(part)
    assert part.exit_code() == 2
    said = part.log_path.read_text()
    assert f"{desk.rules_path}:4" in said or "line 4" in said, said


def test_a_wrong_rules_file_later_leaves_the_old_rules_in_force(desk: Desk) -> None:
    desk.rules(rule("held", "risk > 0.4"))
    part = desk.start()
    desk.machine.until(lambda: desk.reads(part), "it reads")
    desk.rules_path.write_text("version: 1\nrules: [{name: nobody}]\n")
    desk.machine.until(lambda: desk.metric(part, "rules_wrong") == 1, "the file is seen to be wrong")
    desk.send([("held-1", signal("held-1", 1, time.time_ns() // 1000))])
    desk.machine.until(lambda: desk.inbox.customers() == {"held-1"}, "the old rule tells")
    desk.rules(rule("held", "risk > 0.4"), rule("mended", "risk > 0.9"))
    desk.machine.until(lambda: desk.metric(part, "rules_wrong") == 0, "the file is right again")
    desk.send([("held-2", signal("held-2", 1, time.time_ns() // 1000, risk=0.95))])
    desk.machine.until(lambda: len(desk.inbox.told()) == 3, "the new rule tells too")
    assert {call.document["rule"] for call in desk.inbox.calls} == {"held", "mended"}
    desk.end(part)
