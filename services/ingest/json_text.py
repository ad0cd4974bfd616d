"""What a JSON text says beyond the values a fast parser returns: repeated keys, constants, halves of characters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from schemas.reasons import Reason
from schemas.refusals import Problem, pointer

BLANK: Final = b" \t\r\n"
"""What JSON calls white space."""

_BLANK: Final = BLANK.decode()
_KEY_THEN_BLANK: Final = re.compile(rb'"[ \t\r\n]+:')
_WORTH_AN_ARRAY: Final = 4096
_COLON: Final = ord(":")
_QUOTE: Final = ord('"')
_SPACE: Final = ord(" ")

TOO_DEEP: Final = Problem(Reason.TOO_DEEP, "", "Nested too deeply; an event has two levels: itself and attributes.")


class NotJsonError(ValueError):
    """The text is no JSON as a whole; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def count_members(body: bytes) -> int:
    """Members of all objects in a JSON text: at least that many, and exactly that many in nearly every text.

    One too many is counted for a string that has ``":`` in it, or that begins with a colon (after blanks).

    So where it equals the number of different members that a parser returned, no key was there twice.
    """
    if len(body) < _WORTH_AN_ARRAY:
        return body.count(b'":') + len(_KEY_THEN_BLANK.findall(body))
    octets = np.frombuffer(body, np.uint8)
    before = octets[np.flatnonzero(octets[1:] == _COLON)]
    members = int(np.count_nonzero(before == _QUOTE))
    if before.size and before.min() <= _SPACE:
        members += len(_KEY_THEN_BLANK.findall(body))
    return members


def split_array(body: bytes) -> Iterator[bytes]:
    """The texts of an array's elements, as they were written.

    Raises `NotJsonError` where the array as a whole cannot be read; elements before that point have been yielded.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise NotJsonError(_not_utf8(error)) from None
    decode = json.JSONDecoder().raw_decode
    at = _skip_blank(text, _skip_blank(text, 0) + 1)  # behind the bracket
    if text[at : at + 1] == "]":
        _expect_end(text, at + 1)
        return
    while True:
        try:
            _, end = decode(text, at)
        except json.JSONDecodeError as error:
            raise _unreadable(text, error.pos, error.msg) from None
        except ValueError:  # Python refuses integers of thousands of digits
            raise _unreadable(text, at, "a number has too many digits") from None
        except RecursionError:
            raise NotJsonError(TOO_DEEP) from None
        yield text[at:end].encode()
        at = _skip_blank(text, end)
        if text[at : at + 1] == "]":
            _expect_end(text, at + 1)
            return
        if text[at : at + 1] != ",":
            raise _unreadable(text, at, "a comma or the end of the array was expected")
        at = _skip_blank(text, at + 1)


def find_fault(text: bytes) -> Problem | None:
    """What pydantic's parser tolerates or tells no place of: repeated keys, NaN, halves of characters."""
    constants: list[str] = []
    try:
        value = json.loads(text.decode(), object_pairs_hook=_Members, parse_constant=constants.append)
    except UnicodeDecodeError as error:
        return _not_utf8(error)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        return None  # the fast parser has said so already, with the place
    if constants:
        return Problem(Reason.INVALID_JSON, "", "NaN and Infinity are not JSON; leave the member out.")
    return _fault_in(value, ())


class _Members(dict[str, Any]):
    """An object that remembers a key that was there twice."""

    repeated: str | None = None

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        if len(self) < len(pairs):
            seen: set[str] = set()
            self.repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _fault_in(value: object, path: tuple[str, ...]) -> Problem | None:
    if isinstance(value, _Members):
        if value.repeated is not None:
            where = pointer((*path, value.repeated))
            return Problem(Reason.DUPLICATE_KEY, where, "This member is there twice; send it once.")
        for key, member in value.items():
            fault = _fault_in(key, (*path, key)) or _fault_in(member, (*path, key))
            if fault is not None:
                return fault
    elif isinstance(value, list):
        for index, item in enumerate(value):
            fault = _fault_in(item, (*path, str(index)))
            if fault is not None:
                return fault
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        where = pointer(part.encode(errors="replace").decode() for part in path)
        detail = (
            "Half of a surrogate pair, as cutting a text in the middle of a character leaves it; send whole characters."
        )
        return Problem(Reason.INVALID_VALUE, where, detail)
    return None


def _skip_blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _expect_end(text: str, at: int) -> None:
    if _skip_blank(text, at) != len(text):
        raise _unreadable(text, at, "something follows the end of the array")


def _unreadable(text: str, at: int, why: str) -> NotJsonError:
    detail = f"Not JSON at character {at} of {len(text)}: {why}."
    return NotJsonError(Problem(Reason.INVALID_JSON, "", detail))


def _not_utf8(error: UnicodeDecodeError) -> Problem:
    return Problem(Reason.INVALID_JSON, "", f"Not UTF-8 at byte {error.start}: {error.reason}.")
