"""Links open one thing for some time, whoever tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.alerting.tokens import ACKNOWLEDGE, ExpiredTokenError, TokenError, TokenKeys

OLD, NEW = b"o" * 32, b"n" * 32
KEYS = TokenKeys((OLD,))
CASE, END_S = "a" * 32, 1_772_443_245
TOKEN = KEYS.sign(CASE, ACKNOWLEDGE, END_S)


def test_a_token_is_good_for_its_case_and_action_until_it_ends() -> None:
    KEYS.check(TOKEN, CASE, ACKNOWLEDGE, END_S - 0.001)
    with pytest.raises(ExpiredTokenError, match="too old"):
        KEYS.check(TOKEN, CASE, ACKNOWLEDGE, END_S)
    for case, action in (("b" * 32, ACKNOWLEDGE), (CASE, "close"), (CASE + ACKNOWLEDGE, ""), ("", CASE + ACKNOWLEDGE)):
        with pytest.raises(TokenError, match="not for this case"):
            KEYS.check(TOKEN, case, action, 0)


def test_it_is_fixed() -> None:
    """Links that were sent must open after an upgrade."""
    assert TOKEN == "1772443245.h63xh0RghPuPKfmyK1cbXnrSsJs-vH2VU0pxtqdaqQQ"


def test_a_new_key_takes_over_from_an_old_one() -> None:
    both = TokenKeys((NEW, OLD))
    both.check(TOKEN, CASE, ACKNOWLEDGE, 0)
    fresh = both.sign(CASE, ACKNOWLEDGE, END_S)
    assert fresh != TOKEN
    TokenKeys((NEW,)).check(fresh, CASE, ACKNOWLEDGE, 0)
    with pytest.raises(TokenError):
        TokenKeys((NEW,)).check(TOKEN, CASE, ACKNOWLEDGE, 0)


@given(st.integers(0, len(TOKEN) - 1), st.characters(codec="utf-8"))
def test_no_other_text_opens_it(place: int, character: str) -> None:
    changed = TOKEN[:place] + character + TOKEN[place + 1 :]
    if changed != TOKEN:
        with pytest.raises(TokenError):
            KEYS.check(changed, CASE, ACKNOWLEDGE, 0)


@given(st.text())
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        KEYS.check(text, CASE, ACKNOWLEDGE, 0)


@pytest.mark.parametrize("changed", ["0" + TOKEN, TOKEN + "\n", TOKEN + "=", TOKEN * 2, "\u0661" + TOKEN[1:]])
def test_other_spellings_are_refused(changed: str) -> None:
    with pytest.raises(TokenError):
        KEYS.check(changed, CASE, ACKNOWLEDGE, 0)


@pytest.mark.parametrize("keys", [(), (OLD, NEW, b"x" * 32), (b"short",)])
def test_keys_are_one_or_two_and_long(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="key"):
        TokenKeys(keys)


def test_keys_are_not_shown() -> None:
    assert "oooo" not in repr(KEYS)
