"""What an HTTP request asks for: login, statement, settings, formats. Pure: no engine, no sockets."""

from __future__ import annotations

import base64
import binascii
import email.parser
import email.policy
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from infra.embedded.clickhouse.errors import (
    AUTHENTICATION_FAILED,
    BAD_ARGUMENTS,
    AccessError,
    ClickHouseError,
)

# Parameters of the HTTP interface itself; everything else in the URL is a setting.
_OWN_PARAMETERS: Final = frozenset(
    {
        "query", "database", "user", "password", "default_format", "compress", "decompress", "session_id",
        "session_timeout", "session_check", "query_id", "quota_key", "client_protocol_version", "stacktrace",
        "buffer_size", "wait_end_of_query", "role", "http_make_head_request", "close_session",
        "enable_http_compression",
    }
)  # fmt: skip
_CONTENT_TYPES: Final = {
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "csvwithnamesandtypes": "text/csv; charset=UTF-8; header=present",
    "json": "application/json; charset=UTF-8",
    "jsoncompact": "application/json; charset=UTF-8",
    "jsonstrings": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "jsoncompacteachrow": "application/x-ndjson; charset=UTF-8",
    "xml": "application/xml; charset=UTF-8",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "rowbinarywithnames": "application/octet-stream",
    "rowbinarywithnamesandtypes": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
    "parquet": "application/octet-stream",
}
MAX_FORM_BYTES: Final = 64 << 20


@dataclass(slots=True)
class Request:
    """A request, read but not yet judged."""

    user: str
    password: str
    parameters: dict[str, str]
    headers: Mapping[str, str]
    method: str
    settings: dict[str, str] = field(default_factory=dict)
    query_parameters: dict[str, str] = field(default_factory=dict)

    def take(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Sort pairs of the URL or of a form into settings, query parameters and our own."""
        for name, value in pairs:
            if name.startswith("param_"):
                self.query_parameters[name.removeprefix("param_")] = value
            elif name in _OWN_PARAMETERS:
                self.parameters[name] = value
            else:
                self.settings[name] = value

    def flag(self, name: str) -> bool:
        """A parameter that is 1 or true."""
        return self.parameters.get(name, "0").lower() in {"1", "true"}

    @property
    def database(self) -> str:
        return self.parameters.get("database") or self.headers.get("x-clickhouse-database", "")

    @property
    def format(self) -> str:
        """The format for queries that name none."""
        return self.headers.get("x-clickhouse-format") or self.parameters.get("default_format") or "TabSeparated"

    @property
    def query_id(self) -> str:
        given = self.parameters.get("query_id") or self.headers.get("x-clickhouse-query-id") or ""
        # It goes back in a header.
        safe = given if given.isascii() and given.isprintable() and len(given) <= 256 else ""
        return safe or str(uuid.uuid4())

    @property
    def client_revision(self) -> int:
        """The revision for which Native blocks are written; 0 when the client names none."""
        text = self.parameters.get("client_protocol_version", "0")
        return int(text) if text.isdecimal() and len(text) < 10 else 0

    @property
    def session_timeout_s(self) -> float:
        text = self.parameters.get("session_timeout", "60")
        if not text.isdecimal() or len(text) > 9:
            raise ClickHouseError(BAD_ARGUMENTS, f"Invalid session timeout: '{text[:32]}'")
        return float(min(int(text), 3600))


def content_type(format_: str) -> str:
    """Content type of a response in a format."""
    name = format_.lower()
    if name.startswith(("tabseparated", "tsv")):
        name = "tabseparated"
    return _CONTENT_TYPES.get(name, "text/plain; charset=UTF-8")


def read(method: str, raw_query: bytes, headers: Mapping[str, str]) -> Request:
    """Read URL and headers of a request. Raises ClickHouseError 516 for two logins at once or a broken one."""
    # Values that are no UTF-8 pass through to the engine byte by byte.
    pairs = parse_qsl(
        raw_query.decode("latin-1"), keep_blank_values=True, errors="surrogateescape", max_num_fields=5000
    )
    request = Request("", "", {}, headers, method)
    request.take(pairs)
    given: list[tuple[str, str]] = []
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith("basic "):
        try:
            plain = base64.b64decode(authorization[6:].strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise AccessError(
                AUTHENTICATION_FAILED, "Invalid authentication: the Basic header is unreadable"
            ) from error
        user, _, password = plain.partition(":")
        given.append((user, password))
    elif authorization:
        raise AccessError(AUTHENTICATION_FAILED, "Invalid authentication: only the Basic scheme is served")
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        given.append((headers.get("x-clickhouse-user", ""), headers.get("x-clickhouse-key", "")))
    if not given or "user" in request.parameters or "password" in request.parameters:
        given.append((request.parameters.get("user", ""), request.parameters.get("password", "")))
    if len({*given}) > 1:
        raise AccessError(AUTHENTICATION_FAILED, "Invalid authentication: two different logins in one request")
    user, password = given[0]
    request.user, request.password = user or "default", password
    return request


def form_fields(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """Fields of a multipart form. Raises ClickHouseError when it is broken or carries a file."""
    if "\r" in content_type or "\n" in content_type:
        raise ClickHouseError(BAD_ARGUMENTS, "The form's content type is unreadable")
    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise ClickHouseError(BAD_ARGUMENTS, "The multipart form is unreadable")
    fields: list[tuple[str, str]] = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str) or part.get_filename() is not None:
            raise ClickHouseError(BAD_ARGUMENTS, "External tables over HTTP are not served; use a temporary table")
        payload = part.get_payload(decode=True)
        fields.append((name, payload.decode("utf-8", "surrogateescape") if isinstance(payload, bytes) else ""))
    return fields
