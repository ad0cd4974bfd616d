"""Secrets by reference, read when they are used: a rotated one needs no restart. None is kept, logged or quoted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 16_384


class SecretUnreadableError(ValueError):
    """A secret that cannot be read; names the field and where it should stand."""


def read_secret(reference: str, field: str) -> str:
    """What stands at ``file:/path`` or ``env:NAME``, without the blanks and line breaks around it.

    Raises `SecretUnreadableError` where nothing stands there, or more than one line, or unprintable characters.
    """
    kind, _, place = reference.partition(":")
    if kind == "env":
        text = os.environ.get(place, "")
    elif kind == "file":
        try:
            with Path(place).open("rb") as file:
                raw = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise SecretUnreadableError(f"{field}: {reference} cannot be read: {error.strerror}") from None
        text = "" if len(raw) > MOST_BYTES else raw.decode("utf-8", "replace")
    else:
        raise SecretUnreadableError(f"{field}: say where the secret stands, file:/path or env:NAME")
    text = text.strip()
    if not text:
        raise SecretUnreadableError(f"{field}: {reference} is empty or too large")
    if not text.isascii() or not text.isprintable():
        raise SecretUnreadableError(f"{field}: {reference} must be one line of plain ASCII")
    return text
