"""Errors of the embedded ClickHouse server.

    ClickHouseError            a code that clients know, sent to them as it is
    ├── EngineError            raised by the engine for one statement
    └── AccessError            refused by the login or by the read-only gate
    ProtocolError              bytes that are no ClickHouse protocol; ends that connection only

Codes and names are ClickHouse's own, so that drivers map them as they map a server's.
"""

from __future__ import annotations

import re
from typing import Final

BAD_ARGUMENTS: Final = 36
NOT_IMPLEMENTED: Final = 48
UNKNOWN_TABLE: Final = 60
SYNTAX_ERROR: Final = 62
UNKNOWN_SETTING: Final = 115
READONLY: Final = 164
TIMEOUT_EXCEEDED: Final = 159
TOO_MANY_SIMULTANEOUS_QUERIES: Final = 202
NO_SUCH_DATA_PART: Final = 232
NOT_ENOUGH_SPACE: Final = 243
SESSION_NOT_FOUND: Final = 372
SESSION_IS_LOCKED: Final = 373
QUERY_WAS_CANCELLED: Final = 394
SETTING_CONSTRAINT_VIOLATION: Final = 452
ACCESS_DENIED: Final = 497
AUTHENTICATION_FAILED: Final = 516
CANNOT_DECOMPRESS: Final = 271
UNEXPECTED_PACKET_FROM_CLIENT: Final = 101
SERVER_ERROR: Final = 1002

UNREADABLE: Final = frozenset({27, 33, 40, 117, 226, 228, 246, CANNOT_DECOMPRESS, 432})
"""What reading a part with empty or short files ends in: CANNOT_READ_ALL_DATA, CORRUPTED_DATA and the like."""

_NAMES: Final = {
    BAD_ARGUMENTS: "BAD_ARGUMENTS",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    UNKNOWN_TABLE: "UNKNOWN_TABLE",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    UNKNOWN_SETTING: "UNKNOWN_SETTING",
    READONLY: "READONLY",
    TIMEOUT_EXCEEDED: "TIMEOUT_EXCEEDED",
    TOO_MANY_SIMULTANEOUS_QUERIES: "TOO_MANY_SIMULTANEOUS_QUERIES",
    NO_SUCH_DATA_PART: "NO_SUCH_DATA_PART",
    NOT_ENOUGH_SPACE: "NOT_ENOUGH_SPACE",
    SESSION_NOT_FOUND: "SESSION_NOT_FOUND",
    SESSION_IS_LOCKED: "SESSION_IS_LOCKED",
    QUERY_WAS_CANCELLED: "QUERY_WAS_CANCELLED",
    SETTING_CONSTRAINT_VIOLATION: "SETTING_CONSTRAINT_VIOLATION",
    ACCESS_DENIED: "ACCESS_DENIED",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    CANNOT_DECOMPRESS: "CANNOT_DECOMPRESS",
    UNEXPECTED_PACKET_FROM_CLIENT: "UNEXPECTED_PACKET_FROM_CLIENT",
    SERVER_ERROR: "UNKNOWN_EXCEPTION",
}

# The engine's text: prefixes of its Python binding, then "Code: N. DB::Exception: message (NAME) (version V)".
_ENGINE_TEXT: Final = re.compile(
    r"Code: (?P<code>\d+)\. (?:DB::Exception: )?(?:Code: \d+\. DB::Exception: )?(?P<message>.*?)"
    r"(?:\. \((?P<name>[A-Z][A-Z0-9_]*)\)\.?|\s\((?P<name2>[A-Z][A-Z0-9_]*)\)\.?)?(?: \(version [^)]*\))?\s*$",
    re.DOTALL,
)

# An error inside an error's text repeats name and version.
_NESTED: Final = re.compile(r"\.? \([A-Z][A-Z0-9_]*\)(?: \(version [^)]*\))|Code: \d+\. DB::Exception: ")


_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$)")
_MOST_LOGGED: Final = 500


class ClickHouseError(Exception):
    """A refusal or failure with ClickHouse's error code; the connection stays usable."""

    def __init__(self, code: int, message: str, name: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message.rstrip(". \n")
        self.name = name or _NAMES.get(code, "UNKNOWN_EXCEPTION")

    def text(self, version: str) -> str:
        """The line that ClickHouse writes for it (HTTP bodies, native exceptions)."""
        return f"Code: {self.code}. DB::Exception: {self.message}. ({self.name}) (version {version})"


class EngineError(ClickHouseError):
    """The engine refused or failed one statement."""

    @classmethod
    def parse(cls, raised: BaseException) -> EngineError:
        """Read code, message and name out of what the engine's binding raised."""
        match = _ENGINE_TEXT.search(str(raised))
        if match is None:
            return cls(SERVER_ERROR, str(raised) or type(raised).__name__)
        name = match["name"] or match["name2"] or ""
        return cls(int(match["code"]), _NESTED.sub("", match["message"]), name)

    def without_values(self, folder: str) -> str:
        """The first line of the message, for logs. What is quoted may be a customer's, unless it lies in ``folder``."""
        line = self.message.partition("\n")[0]
        own = f"'{folder.rstrip('/')}/"
        return _QUOTED.sub(lambda found: found[0] if found[0].startswith(own) else "'...'", line)[:_MOST_LOGGED]


class AccessError(ClickHouseError):
    """Login failed, or the read-only login asked for more than reading."""


class ProtocolError(Exception):
    """The peer broke the protocol; only closing the connection is safe."""


# HTTP status by code, as ClickHouse's HTTP handler answers; everything else is 500.
_STATUS: Final[dict[int, int]] = {
    **dict.fromkeys((516, 192, 193, 194), 403),
    **dict.fromkeys(
        (6, 25, 26, 27, 36, 38, 41, 42, 43, 44, 47, 53, 62, 69, 72, 117, 167, 168, 190, 271, 321, 456, 457), 400
    ),
    **dict.fromkeys((46, 50, 56, 60, 63, 73, 78, 81, 115, 372), 404),
    373: 423,
    159: 408,
    48: 501,
    202: 503,
    242: 503,
    NOT_ENOUGH_SPACE: 507,
    497: 403,
    291: 403,
}


def http_status(code: int) -> int:
    """HTTP status for a ClickHouse error code."""
    return _STATUS.get(code, 500)
