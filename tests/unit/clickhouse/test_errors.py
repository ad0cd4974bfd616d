"""Errors are told apart by code."""

from __future__ import annotations

import pytest

from infra.clickhouse import errors
from infra.clickhouse.client import quoted


@pytest.mark.parametrize("code", [159, 202, 209, 210, 241, 242, 243, 252, 319, 999])
def test_what_may_pass_is_transient(code: int) -> None:
    found = errors.of_code(code, "text", "here")
    assert isinstance(found, errors.TransientError)
    assert found.code == code


@pytest.mark.parametrize("code", [60, 62, 530, 539, 53, 27])
def test_what_is_not_listed_is_permanent(code: int) -> None:
    assert isinstance(errors.of_code(code, "Code: 252", "here"), errors.StatementRefusedError)


@pytest.mark.parametrize("code", [164, 193, 497, 516])
def test_a_refused_login_says_what_to_set(code: int) -> None:
    found = errors.of_code(code, "text", "here")
    assert isinstance(found, errors.LoginRefusedError)
    assert "TOUCHSTONE_CLICKHOUSE_PASSWORD" in str(found)


def test_no_code_is_in_two_lists() -> None:
    lists = [errors.NETWORK_CODES, errors.OVERLOAD_CODES, errors.LOGIN_CODES]
    assert sum(len(codes) for codes in lists) == len(set().union(*lists))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a"], "'a'"),
        (["a", "b"], "'a','b'"),
        (["it's", "b"], "'it\\'s','b'"),
        (["a','b"], "'a\\',\\'b'"),
        (["back\\", "'"], "'back\\\\','\\''"),
        (["nul\0"], "'nul\\0'"),
    ],
)
def test_values_are_quoted(values: list[str], expected: str) -> None:
    assert quoted(values) == expected
