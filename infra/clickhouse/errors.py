"""Faults of the ClickHouse side, one tree, told apart by the server's code and never by its words.

ClickHouseError
├── TransientError            may pass by itself: try again
│   ├── UnreachableError      nobody answers, or the connection broke
│   └── OverloadedError       the server answers that it cannot now: busy, out of memory or disk, too many parts
└── PermanentError            stays until somebody acts: stop
    ├── LoginRefusedError     wrong user or password, or a login that may only read
    ├── StatementRefusedError any other code
    ├── UnfitServerError      a setting, or the version, is not as Touchstone needs it
    └── MigrationError        the database does not fit the migration files
"""

from __future__ import annotations

from typing import Final


class ClickHouseError(Exception):
    """Base of everything that infra.clickhouse raises on purpose. ``code`` is the server's, None without one.

    ``for_logs`` is the message without the server's words, which quote statements and values.
    """

    def __init__(self, message: str, code: int | None = None, *, for_logs: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.for_logs = message if for_logs is None else for_logs


class TransientError(ClickHouseError):
    """May pass by itself; the same statement may be sent again."""


class UnreachableError(TransientError):
    """No connection, no answer in time, or the connection broke in the middle."""


class OverloadedError(TransientError):
    """The server cannot do it now."""


class PermanentError(ClickHouseError):
    """Stays until somebody acts."""


class LoginRefusedError(PermanentError):
    """The login is wrong or may not do this."""


class StatementRefusedError(PermanentError):
    """The server refused the statement."""


class UnfitServerError(PermanentError):
    """The server is not as Touchstone needs it."""


class MigrationError(PermanentError):
    """The database and the migration files do not fit together."""


# Names as in ClickHouse's own list of error codes.
NETWORK_CODES: Final[dict[int, str]] = {
    3: "UNEXPECTED_END_OF_FILE",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    40: "CHECKSUM_DOESNT_MATCH",
    94: "CANNOT_WRITE_TO_SOCKET",
    95: "CANNOT_READ_FROM_SOCKET",
    99: "UNKNOWN_PACKET_FROM_CLIENT",
    100: "UNKNOWN_PACKET_FROM_SERVER",
    101: "UNEXPECTED_PACKET_FROM_CLIENT",
    102: "UNEXPECTED_PACKET_FROM_SERVER",
    203: "NO_FREE_CONNECTION",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    279: "ALL_CONNECTION_TRIES_FAILED",
}
OVERLOAD_CODES: Final[dict[int, str]] = {
    159: "TIMEOUT_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    285: "TOO_FEW_LIVE_REPLICAS",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    439: "CANNOT_SCHEDULE_TASK",
    745: "SERVER_OVERLOADED",
    999: "KEEPER_EXCEPTION",
}
LOGIN_CODES: Final[dict[int, str]] = {
    # READONLY is about the login here (its profile forbids writing); a table that cannot be written now is 242.
    164: "READONLY",
    192: "UNKNOWN_USER",
    193: "WRONG_PASSWORD",
    194: "REQUIRED_PASSWORD",
    497: "ACCESS_DENIED",
    516: "AUTHENTICATION_FAILED",
}

_LOGIN_REMEDY: Final = "set TOUCHSTONE_CLICKHOUSE_USER and TOUCHSTONE_CLICKHOUSE_PASSWORD to a login that may write"


def of_code(code: int, text: str, server: str) -> ClickHouseError:
    """The error for a code; ``text`` is the message that came with it, ``server`` who sent it."""
    if code in NETWORK_CODES:
        known = f"{server} does not answer: {NETWORK_CODES[code]} ({code})"
        return UnreachableError(f"{known}: {text}", code, for_logs=known)
    if code in OVERLOAD_CODES:
        known = f"{server}: {OVERLOAD_CODES[code]} ({code})"
        return OverloadedError(f"{known}: {text}", code, for_logs=known)
    if code in LOGIN_CODES:
        known = f"{server}: {LOGIN_CODES[code]} ({code})"
        return LoginRefusedError(f"{known}: {text}; {_LOGIN_REMEDY}", code, for_logs=f"{known}; {_LOGIN_REMEDY}")
    known = f"{server}: code {code}"
    return StatementRefusedError(f"{known}: {text}", code, for_logs=f"{known}; the server's log has its words")
