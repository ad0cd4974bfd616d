"""Replaces one function of the product by a wrong one, in this process alone."""

from __future__ import annotations

from typing import Any


def plant(owner: Any, name: str, wrong: Any) -> None:
    """AttributeError if ``owner`` has no such function any more: then nothing would be planted, and nobody know."""
    getattr(owner, name)
    setattr(owner, name, wrong)
