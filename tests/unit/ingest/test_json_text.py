"""What the text of a JSON document says beyond its values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reasons import Reason
from services.ingest.json_text import NotJsonError, count_members, find_fault, split_array

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def members_of(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(members_of, value.values()))
    return sum(map(members_of, value)) if isinstance(value, list) else 0


def strings_of(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(string for inner in value.values() for string in strings_of(inner))]
    if isinstance(value, list):
        return [string for inner in value for string in strings_of(inner)]
    return [value] if isinstance(value, str) else []


@given(values, st.sampled_from([None, 1]), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",", "\n\t:")]))
def test_members_are_never_counted_too_low(value: object, indent: int | None, separators: tuple[str, str]) -> None:
    text = json.dumps([value], indent=indent, separators=separators)
    counted = count_members(text.encode())
    assert counted >= members_of(value)
    if "\\" not in text and not any(string.lstrip().startswith(":") for string in strings_of(value)):
        assert counted == members_of(value)


@given(values, st.sampled_from([None, 1]), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_a_repeated_key_is_always_counted(value: object, indent: int | None, separators: tuple[str, str]) -> None:
    inner = json.dumps(value, indent=indent, separators=separators)
    text = f'[{{"a":1,"\\u0061" :{inner}}}]'
    assert count_members(text.encode()) > members_of(json.loads(text))


@given(st.lists(values, max_size=6), st.sampled_from([None, 2]))
def test_the_elements_of_an_array_are_its_texts(items: list[object], indent: int | None) -> None:
    text = "\n " + json.dumps(items, indent=indent, ensure_ascii=False) + " \r\n"
    parts = list(split_array(text.encode()))
    assert [json.loads(part) for part in parts] == items
    assert all(part.decode() in text for part in parts)


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[1 2]",
        b"[1]]",
        b"[1] x",
        b"[{]",
        b"[01]",
        b'["\x01"]',
        b'["\xff"]',
        b"[" + b"9" * 5_000 + b"]",
    ],
)
def test_an_array_that_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises(NotJsonError) as caught:
        list(split_array(body))
    assert caught.value.problem.reason is Reason.INVALID_JSON


def test_depth_beyond_any_stack_is_an_answer() -> None:
    with pytest.raises(NotJsonError) as caught:
        list(split_array(b"[" * 100_000))
    assert caught.value.problem.reason is Reason.TOO_DEEP
    fault = find_fault(b"[" * 100_000)
    assert fault is not None
    assert fault.reason is Reason.TOO_DEEP


@pytest.mark.parametrize(
    ("text", "reason", "field"),
    [
        (b'{"a":1,"b":2,"a":3}', Reason.DUPLICATE_KEY, "/a"),
        (b'{"a":{"b":{"c":1,"c":1}}}', Reason.DUPLICATE_KEY, "/a/b/c"),
        (b'[{"a":1},{"a":1,"a":1}]', Reason.DUPLICATE_KEY, "/1/a"),
        (b'{"a":NaN}', Reason.INVALID_JSON, ""),
        (b'{"a":[-Infinity]}', Reason.INVALID_JSON, ""),
        (b'{"a":["x","\\ude00"]}', Reason.INVALID_VALUE, "/a/1"),
        (b'{"\\ud83d":1}', Reason.INVALID_VALUE, "/?"),
        (b'{"a":"\xff"}', Reason.INVALID_JSON, ""),
    ],
)
def test_faults_are_found_with_their_place(text: bytes, reason: Reason, field: str) -> None:
    fault = find_fault(text)
    assert fault is not None
    assert (fault.reason, fault.field) == (reason, field)


@pytest.mark.parametrize("text", [b"{", b'{"a":"\\ud83d\\ude00"}', b'{"a":1e999}', b"9" * 5_000])
def test_what_others_tell_is_no_fault_here(text: bytes) -> None:
    assert find_fault(text) is None
