"""Which risk model judges where in the log. Pure.

An event at an offset of a partition is judged by the model that this partition activated last *before* that offset, and
by the base model where there was none. So it does not matter what a worker has read, or knows from the table, of
activations that come later.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from schemas.activation import PARAMETERS, VERSION
from services.scoring.risk.model import ModelError, RiskModel
from services.scoring.state import Ints, Rows

_UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a text that somebody made up may bring about on its way to a model."""


class OtherKindsError(ModelError):
    """The model counts other behaviours as coming back than the states do."""


def usable_model(version: str | None, parameters: str | None, activity_kinds: Iterable[str]) -> RiskModel:
    """The model of an activation. ModelError, or OtherKindsError, when it cannot judge here; the message says why.

    ``activity_kinds``: what the states' sums count as coming back.
    """
    if not version or not parameters:
        raise ModelError(f"an activation needs the attributes {VERSION} and {PARAMETERS}")
    try:
        model = RiskModel.from_json(parameters)
    except ModelError:
        raise
    except _UNREADABLE as error:
        raise ModelError(f"risk model {version} cannot be read: {type(error).__name__}: {error}") from error
    if model.version != version:
        raise ModelError(f"risk model {version} calls itself {model.version}")
    theirs, ours = sorted(set(model.activity_kinds)), sorted(set(activity_kinds))
    if theirs != ours:
        raise OtherKindsError(
            f"risk model {version} counts {', '.join(theirs)} as coming back, the customers' states {', '.join(ours)}; "
            "`touchstone rebuild --swap --activity KIND...` makes them anew, counting other kinds"
        )
    return model


@dataclass(frozen=True, slots=True)
class Judging:
    """Models, and which of them judges each of n events; None: the first judges all."""

    models: tuple[RiskModel, ...]
    which: Rows | None = None

    def select(self, rows: Rows) -> Judging:
        """For some of the events, in the order given."""
        return self if self.which is None else Judging(self.models, self.which[rows])

    def by_model(self, rows: Rows) -> list[tuple[RiskModel, Rows]]:
        """Events ``rows``, divided by the model that judges them; the order stays."""
        if self.which is None:
            return [(self.models[0], rows)]
        which = self.which[rows]
        return [(self.models[code], rows[which == code]) for code in present(which)]


@dataclass(slots=True)
class _Partition:
    known_from: int
    """Of activations below this offset all are here."""
    offsets: list[int] = field(default_factory=list)
    models: list[RiskModel] = field(default_factory=list)
    """In the order of ``offsets``, which ascend."""

    def add(self, offset: int, model: RiskModel) -> None:
        place = bisect_left(self.offsets, offset)
        if place == len(self.offsets) or self.offsets[place] != offset:
            insort(self.offsets, offset)
            self.models.insert(place, model)


class Timeline:
    """Activations of the partitions that are read here."""

    def __init__(self, base: RiskModel) -> None:
        self.base = base
        self._partitions: dict[int, _Partition] = {}

    def lacks(self, partition: int, first: int) -> bool:
        """Whether `begin` must be called before records from offset ``first`` on are judged."""
        known = self._partitions.get(partition)
        return known is None or first < known.known_from

    def begin(self, partition: int, first: int, activations: Iterable[tuple[int, RiskModel]]) -> None:
        """Take in all activations of a partition below ``first``: offsets and models, in any order."""
        known = self._partitions.setdefault(partition, _Partition(first))
        known.known_from = min(known.known_from, first)
        for offset, model in activations:
            known.add(offset, model)

    def add(self, partition: int, offset: int, model: RiskModel) -> None:
        """An activation that was met in the log. Adding it again changes nothing."""
        self._partitions[partition].add(offset, model)

    def at(self, partitions: Ints, offsets: Ints, firsts: Mapping[int, int] | None = None) -> Judging:
        """Who judges events at these n places. Each partition must have begun.

        ``firsts``: at least all of their partitions, and an offset in each below which none of them is, where that is
        known: mostly it tells at once that one model judges all.
        """
        if firsts is not None:
            one = {id(model): model for model in (self._all_after(*first) for first in firsts.items())}
            if len(one) == 1 and (model := next(iter(one.values()))) is not None:
                return Judging((model,))
        parts: list[tuple[Rows, int | Rows, tuple[RiskModel, ...]]] = []
        for partition in present(partitions):
            known = self._partitions[partition]
            rows = np.flatnonzero(partitions == partition)
            at = offsets[rows]
            low, high = (bisect_left(known.offsets, int(edge)) for edge in (at.min(), at.max()))
            # Usually nothing was activated between the first and the last of them.
            passed = low if low == high else np.searchsorted(known.offsets, at, side="left")
            parts.append((rows, passed, (self.base, *known.models)))
        # A model is read once, whatever partitions activate it, so the object tells it.
        models = {id(model): model for _, _, mine in parts for model in mine}
        codes = {known: code for code, known in enumerate(models)}
        which = np.zeros(len(offsets), dtype=np.intp)
        for rows, passed, mine in parts:
            which[rows] = np.array([codes[id(model)] for model in mine], dtype=np.intp)[passed]
        every, used = tuple(models.values()), present(which)
        return Judging((every[used[0]],)) if len(used) == 1 else Judging(every, which)

    def _all_after(self, partition: int, first: int) -> RiskModel | None:
        """The model that judges everything from an offset on; None if there are several."""
        known = self._partitions[partition]
        if not known.offsets:
            return self.base
        return known.models[-1] if known.offsets[-1] < first else None

    def current(self) -> dict[int, str]:
        """By partition the version of the model that judges what comes next. Any thread may ask."""
        return {
            partition: (known.models or [self.base])[-1].version for partition, known in list(self._partitions.items())
        }

    def forget_all(self) -> None:
        """The partitions are no longer ours."""
        self._partitions.clear()


def present(numbers: Ints | Rows) -> list[int]:
    """The distinct ones of small numbers such as partitions, ascending: `np.unique` would sort them."""
    return [int(number) for number in np.flatnonzero(np.bincount(numbers))]
