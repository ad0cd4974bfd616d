"""Bodies of every form become verdicts, in the order sent; nothing is lost between accepted and refused."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reasons import Reason
from services.ingest.admit import Admission, RefusedBodyError, admit
from services.ingest.limits import Limits

NOW_US = 1_772_443_245_000_000  # 2026-03-02T09:20:45Z
LIMITS = Limits()


def event(number: int = 0, **members: Any) -> dict[str, Any]:
    return {
        "event_id": f"e-{number}",
        "customer_id": f"C-{number % 7}",
        "occurred_at": "2026-03-02T09:14:05Z",
        "source": "crm",
        "kind": "interaction",
        "touchpoint": "store",
    } | members


def run(body: bytes | object, *, lines: bool = False, limits: Limits = LIMITS) -> Admission:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return admit(data, lines=lines, received_at_us=NOW_US, limits=limits)


def verdicts(admission: Admission) -> list[str | None]:
    return [result["verdict"] for result in admission.results]


def as_lines(events: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in events)


def test_forms_of_a_body_give_the_same_records() -> None:
    events = [event(n, text=f"no. {n}", attributes={"n": str(n)}) for n in range(5)]
    expected = run(events)
    assert verdicts(expected) == ["ok"] * 5
    assert expected.keys == ["C-0", "C-1", "C-2", "C-3", "C-4"]
    pretty = b"\xef\xbb\xbf  \r\n" + json.dumps(events, indent=4, separators=(" , ", " : ")).encode() + b"\n"
    for other in (
        run(pretty),
        run(as_lines(events), lines=True),
        run(as_lines(events)),
        run(b"\n\n" + as_lines(events).replace(b"\n", b"\r\n\r\n") + b"\r\n"),
    ):
        assert other.values == expected.values
        assert other.results == expected.results
    alone = [run(item) for item in events]
    assert [admission.values[0] for admission in alone] == expected.values


def test_one_bad_event_takes_no_other_with_it() -> None:
    events = [event(n) for n in range(20)]
    events[7]["kind"] = "review_due"
    events[13]["text"] = "half \ud83d"
    for body, lines in ((json.dumps(events).encode(), False), (as_lines(events), True)):
        admission = run(body, lines=lines)
        assert [n for n, verdict in enumerate(verdicts(admission)) if verdict == "drop"] == [7, 13]
        assert admission.positions == [n for n in range(20) if n not in (7, 13)]
        assert [refused.position for refused in admission.refused] == [7, 13]
        assert [refused.customer_id for refused in admission.refused] == ["C-0", "C-6"]
        assert admission.refused[0].payload == json.dumps(events[7]).encode()


def test_text_that_looks_like_members_is_no_reason_to_refuse() -> None:
    events = [event(1, text='he wrote "now": "never" : and left'), event(2, text='"a": "a": "a" :')]
    assert verdicts(run(events)) == ["ok", "ok"]


def test_a_key_that_is_there_twice_is_refused_alone() -> None:
    good, twice = json.dumps(event(1)), json.dumps(event(2))[:-1] + ', "source": "shop"}'
    for body in (f"[{good}, {twice}]", f"[{good}, {twice.replace(chr(34) + ': ', chr(34) + ' : ')}]"):
        admission = run(body.encode())
        assert verdicts(admission) == ["ok", "drop"]
        assert admission.results[1]["reason"] == Reason.DUPLICATE_KEY


def test_large_json_numbers_of_money_are_exact() -> None:
    texts = [
        json.dumps(event(n, kind="purchase", currency="IDR"))[:-1] + f', "amount": {written}}}'
        for n, written in enumerate(["8999999999999.999999", "1e12", "9000000000.10", "12345678901"])
    ]
    for body in (f"[{','.join(texts)}]".encode(), "\n".join(texts).encode()):
        assert verdicts(run(body)) == ["ok"] * 4
    refused = run(texts[0].replace("999999}", "9999991}").encode())
    assert refused.results[0]["reason"] == Reason.INVALID_VALUE


@pytest.mark.parametrize(
    ("occurred_at", "verdict"),
    [
        ("1970-01-01T00:00:00Z", "ok"),
        ("2026-03-02T09:21:45Z", "ok"),
        ("2026-03-02T09:21:46Z", "warning"),
        ("2026-03-02T09:30:45Z", "warning"),
        ("2026-03-02T09:30:45.000001Z", "drop"),
    ],
)
def test_clock_rule(occurred_at: str, verdict: str) -> None:
    item = event(occurred_at=occurred_at)
    for admission in (run(item), run([event(), item])):
        result = admission.results[-1]
        assert result["verdict"] == verdict
        if verdict != "ok":
            assert (result["reason"], result["field"]) == (Reason.FUTURE_TIME, "/occurred_at")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.INVALID_JSON),
        (b" \n ", Reason.INVALID_JSON),
        (b"\xef\xbb\xbf", Reason.INVALID_JSON),
        (b"[]", Reason.MISSING_FIELD),
        (b"[", Reason.INVALID_JSON),
        (b'[{"a":1}', Reason.INVALID_JSON),
        (b"[\xff]", Reason.INVALID_JSON),
        (b"[" * 100_000, Reason.TOO_DEEP),
        (b"[" * 100_000 + b"]" * 100_000, Reason.TOO_DEEP),
    ],
)
def test_a_body_that_cannot_be_read_has_one_reason(body: bytes, reason: Reason) -> None:
    with pytest.raises(RefusedBodyError) as caught:
        run(body)
    assert caught.value.problem.reason is reason


def test_batch_at_its_limit_and_one_more() -> None:
    limits = replace(LIMITS, max_batch_events=10)
    events = [event(n) for n in range(10)]
    bad = [*events, {"kind": 1}]
    assert verdicts(run(events, limits=limits)) == ["ok"] * 10
    assert verdicts(run(as_lines(events), lines=True, limits=limits)) == ["ok"] * 10
    for body in (json.dumps([*events, event()]).encode(), json.dumps(bad).encode(), as_lines(bad)):
        with pytest.raises(RefusedBodyError) as caught:
            run(body, limits=limits)
        assert caught.value.problem.reason is Reason.TOO_LONG


def test_the_longest_valid_event_passes() -> None:
    attributes = {"😀" * 63 + chr(0x1F600 + n): "😀" * 1_000 for n in range(32)}
    item = event(event_id="😀" * 255, customer_id="😀" * 255, text="😀" * 10_000, attributes=attributes)
    admission = run([item])
    assert verdicts(admission) == ["ok"]
    assert len(admission.values[0]) < 1_000_000, "it must fit into a Kafka record"


def test_one_event_too_large() -> None:
    limits = replace(LIMITS, max_event_bytes=1_000)
    assert run(event(text="x" * 1_000), limits=limits).results[0]["reason"] == Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"kind":"interaction",' + b",".join(b'"a%d":1' % n for n in range(300_000)) + b"}", Reason.TOO_LARGE),
        (
            b'{"kind":"interaction","attributes":{' + b",".join(b'"a%d":1' % n for n in range(80_000)) + b"}}",
            Reason.TOO_LARGE,
        ),
        (b'{"text":"' + b"x" * 4_000_000 + b'"}', Reason.TOO_LARGE),
        (b'{"kind":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Reason.TOO_DEEP),
    ],
    ids=["members", "attributes", "string", "depth"],
)
def test_hostile_bodies_cost_little(body: bytes, reason: Reason) -> None:
    for form in (body, b"[" + body + b"]"):
        started = time.process_time()
        try:
            got = run(form).results[0]["reason"]
        except RefusedBodyError as error:
            got = error.problem.reason
        assert got == reason
        assert time.process_time() - started < 3, "far above what it takes, far below what it could"


@given(
    st.lists(
        st.sampled_from(
            [
                json.dumps(event(1)),
                json.dumps(event(2, kind="purchase", amount=4.5, currency="EUR")),
                json.dumps(event(3, score=1)),
                json.dumps(event(4, text='"x": "y"')),
                json.dumps(event(5))[:-1] + ',"source":"twice"}',
                json.dumps(event(6, text="\ud83d")),
                '{"a": {"b": [1, 2]}}',
                "17",
                '"text"',
                "null",
                "[]",
            ]
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(deadline=None)
def test_an_event_gets_the_same_verdict_in_any_company(texts: list[str]) -> None:
    alone = [admit(text.encode(), lines=True, received_at_us=NOW_US, limits=LIMITS) for text in texts]
    together = run(f"[{', '.join(texts)}]".encode())
    assert together.results == [admission.results[0] for admission in alone]
    assert together.values == [value for admission in alone for value in admission.values]
    assert len(together.values) + len(together.refused) == len(texts)


@given(st.binary(max_size=200), st.booleans())
@settings(deadline=None)
def test_no_bytes_are_too_strange(body: bytes, lines: bool) -> None:
    for data in (body, b"[" + body + b"]", b"{" + body + b"}"):
        try:
            admission = admit(data, lines=lines, received_at_us=NOW_US, limits=LIMITS)
        except RefusedBodyError:
            continue
        assert len(admission.values) + len(admission.refused) == len(admission.results)
