"""Two ways to write a record down: JSON for machines, text for people. Neither lets a value break its line."""

from __future__ import annotations

import copy
import logging
from datetime import UTC, datetime
from typing import Any, Final

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from infra.logs.personal import OURS, Told, told, trace

_RESERVED: Final = frozenset(RESERVED_ATTRS) | {"taskName", "color_message"}
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {0x2028: "\\u2028"}


def _prepared(record: logging.LogRecord) -> logging.LogRecord:
    """A copy that tells nothing personal: exceptions by `told`, extra fields of our own code alone."""
    safe = copy.copy(record)
    if isinstance(record.msg, BaseException):
        safe.msg = told(record.msg)
    if isinstance(record.args, tuple):
        safe.args = tuple(Told(arg) if isinstance(arg, BaseException) else arg for arg in record.args)
    elif isinstance(record.args, dict):
        safe.args = {name: Told(arg) if isinstance(arg, BaseException) else arg for name, arg in record.args.items()}
    message = safe.getMessage()
    # asyncio writes the future and its exception into the message itself.
    safe.msg = message.partition("\n")[0] if record.name == "asyncio" else message
    safe.args = ()
    fields = _fields(record)
    for name in set(vars(safe)) - _RESERVED - set(fields):
        delattr(safe, name)
    safe.exc_text = None
    return safe


def _fields(record: logging.LogRecord) -> dict[str, str | int | float | bool]:
    """Extra fields of our own messages. Other libraries' could hold anything, and so could containers."""
    if not record.name.startswith(OURS):
        return {}
    return {
        name: value
        for name, value in vars(record).items()
        if name not in _RESERVED and isinstance(value, str | int | float | bool)
    }


def _time(record: logging.LogRecord) -> str:
    """ISO 8601, UTC, milliseconds."""
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


class JsonLines(JsonFormatter):
    """``{"time", "level", "logger", "message", ...}``: fields of the message besides, ``exception`` where one is."""

    def __init__(self) -> None:
        super().__init__(json_ensure_ascii=False)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(_prepared(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return trace(ei[1]) if ei[1] is not None else ""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data |= {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.message,
            **_fields(record),
        }
        if message_dict.get("exc_info"):
            log_data["exception"] = message_dict["exc_info"]
        if message_dict.get("stack_info"):
            log_data["stack"] = message_dict["stack_info"]


class TextLines(logging.Formatter):
    """``time LEVEL logger: message name=value``; only the stack of an exception takes further lines."""

    def format(self, record: logging.LogRecord) -> str:
        safe = _prepared(record)
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {record.name}: {safe.getMessage()}{fields}".translate(_CONTROLS)
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + trace(record.exc_info[1])
        if record.stack_info:
            line += "\n" + record.stack_info
        return line
