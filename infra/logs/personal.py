"""Exceptions as logs may tell them.

An exception's text can quote what it was about: a polars error a cell, a KeyError a customer, a server's complaint the
statement with its values. So only texts of kinds that never hold data are told; of the others the kind and the place.
"""

from __future__ import annotations

import traceback
from typing import Final

OURS: Final = ("infra.", "services.", "touchstone.")
"""Loggers of our own code."""

_PLAIN: Final = (OSError, TimeoutError, ImportError, MemoryError, NotImplementedError)
"""Texts made by Python or the system."""
_PLAIN_MODULES: Final = (
    "aiokafka.errors",
    "cimpl",  # confluent-kafka
    "faust.exceptions",
    "infra.embedded.errors",
    "infra.kafka.errors",
    "infra.kafka.producer",
    "kafka.errors",
    "mode.exceptions",
    "services.ingest.settings",
    "services.scoring.cache",
    "services.scoring.record_batches.",
)
"""Whose exceptions speak of addresses, positions, counts and settings."""


def told(error: BaseException) -> str:
    """Kind and, where it holds no data, text; on one line.

    An exception may bring a text of its own for logs as attribute ``for_logs``.
    """
    kind = type(error).__name__
    text = getattr(error, "for_logs", None)
    if not isinstance(text, str):
        plain = isinstance(error, _PLAIN) or type(error).__module__.startswith(_PLAIN_MODULES)
        text = str(error) if plain else ""
    # Kafka's clients begin an error's text with its kind.
    text = " ".join(text.split()).removeprefix(kind).removeprefix(": ")
    return f"{kind}: {text}" if text else kind


def trace(error: BaseException) -> str:
    """The stack as Python prints it, with causes, the first one first; texts as by `told`."""
    parts: list[str] = []
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        frames = "".join(traceback.format_tb(step.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{told(step)}")
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)
    return "\n\nwhich led to\n\n".join(reversed(parts))


class Told:
    """Stands for an exception among a message's arguments, whichever way it is asked for."""

    def __init__(self, error: BaseException) -> None:
        self._text = told(error)

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__
