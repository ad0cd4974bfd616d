"""Random draws for one customer, taken from numpy in blocks: a single draw costs a tenth of numpy's scalar call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np

T = TypeVar("T")

_BLOCK: Final = 128


class Chance:
    """Draws in a fixed order from one generator."""

    __slots__ = ("_gammas", "_normals", "_rng", "_uniforms")

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._uniforms: list[float] = []
        self._normals: list[float] = []
        self._gammas: dict[float, list[float]] = {}

    def _more_uniforms(self) -> list[float]:
        self._uniforms = self._rng.random(_BLOCK).tolist()
        return self._uniforms

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * (self._uniforms or self._more_uniforms()).pop()

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return (self._uniforms or self._more_uniforms()).pop() < probability

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> float:
        """A normally distributed number."""
        if not self._normals:
            self._normals = self._rng.standard_normal(_BLOCK).tolist()
        return mean + sd * self._normals.pop()

    def gamma(self, mean: float, shape: float) -> float:
        """A gamma distributed number; a higher shape is more regular."""
        drawn = self._gammas.get(shape)
        if not drawn:
            drawn = self._gammas[shape] = self._rng.standard_gamma(shape, _BLOCK // 8).tolist()
        return drawn.pop() * mean / shape

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, all alike."""
        return options[int((self._uniforms or self._more_uniforms()).pop() * len(options))]

    def uuids(self, count: int) -> list[str]:
        """Version 4 UUIDs in canonical form."""
        digits = self._rng.bytes(16 * count).hex()
        return [
            f"{digits[i : i + 8]}-{digits[i + 8 : i + 12]}-4{digits[i + 13 : i + 16]}"
            f"-a{digits[i + 17 : i + 20]}-{digits[i + 20 : i + 32]}"
            for i in range(0, 32 * count, 32)
        ]
