"""Text that others wrote, made safe to print: no character of it may steer the terminal."""

from __future__ import annotations


def visible(text: str, limit: int | None = None) -> str:
    """``text`` with everything unprintable as an escape, cut to ``limit`` characters."""
    shown = text if text.isprintable() else "".join(map(_shown, text))
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def visible_bytes(raw: bytes) -> str:
    """Any bytes: UTF-8 where it is, escapes elsewhere; a line stays a line."""
    lines = raw.decode("utf-8", errors="backslashreplace").split("\n")
    return "\n".join(visible(line) for line in lines)


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
