"""Faust's consumer asks a scheduling strategy in which order it hands records over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from faust.types import TP
from faust.types.transports import SchedulingStrategyT

__all__ = ["WholeFetchScheduler"]


class WholeFetchScheduler(SchedulingStrategyT):
    """One item per partition: all that was fetched for it. (Faust's own goes record by record.)"""

    def iterate(self, records: Mapping[TP, Any]) -> Iterator[tuple[TP, Any]]:
        return iter(records.items())
