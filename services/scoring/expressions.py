"""One definition of each formula, two ways to work it out: arrays in the stream, SQL as of now.

A formula is a function of an `Algebra` and of terms. Given `Arrays` it computes with numpy; given `Sql` the same
function spells the ClickHouse expression. So a score cannot mean two things in two places.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Term = Any
"""A numpy array or scalar, or a `SqlTerm`: both know arithmetic and comparison."""


class Algebra(Protocol):
    """What formulas may use besides + - * / and comparisons."""

    def exp2(self, x: Term) -> Term:
        """2^x."""

    def exp(self, x: Term) -> Term:
        """e^x."""

    def log(self, x: Term) -> Term:
        """Natural logarithm; the argument must be positive."""

    def sqrt(self, x: Term) -> Term:
        """Square root."""

    def maximum(self, a: Term, b: Term) -> Term:
        """The larger of two."""

    def minimum(self, a: Term, b: Term) -> Term:
        """The smaller of two."""

    def where(self, condition: Term, then: Term, otherwise: Term) -> Term:
        """``then`` where the condition holds. Both sides are worked out and must be finite."""

    def both(self, a: Term, b: Term) -> Term:
        """Logical and."""

    def floor(self, x: Term) -> Term:
        """The largest whole number that is not larger."""

    def unless_zero(self, factor: Term, value: Callable[[], Term]) -> Term:
        """``value()``, or 0 without working it out where ``factor``, the same for all rows, is 0."""

    def days_from(self, days: Term, day: Term) -> Term:
        """How many of each customer's days (ascending, zeros first) are ``day`` or later; ``day`` is above 0 and the
        same for all customers."""

    def gaps(self, days: Term) -> Term:
        """Days between neighbours among each customer's days: what the four below take."""

    def longest_gap(self, gaps: Term) -> Term:
        """0 where there is no gap."""

    def last_gap(self, gaps: Term) -> Term:
        """The newest; 0 where there is none."""

    def squared_gaps(self, gaps: Term) -> Term:
        """Sum of squares."""

    def gaps_beyond(self, gaps: Term, days: Term) -> Term:
        """How many are longer than ``days``, which is not negative."""

    def let(self, name: str, value: Term) -> Term:
        """Give a value a name, so that SQL works it out once."""


class Arrays:
    """Formulas over numpy arrays."""

    def exp2(self, x: Term) -> Term:
        return np.exp2(x)

    def exp(self, x: Term) -> Term:
        return np.exp(x)

    def log(self, x: Term) -> Term:
        return np.log(x)

    def sqrt(self, x: Term) -> Term:
        return np.sqrt(x)

    def maximum(self, a: Term, b: Term) -> Term:
        return np.maximum(a, b)

    def minimum(self, a: Term, b: Term) -> Term:
        return np.minimum(a, b)

    def where(self, condition: Term, then: Term, otherwise: Term) -> Term:
        return np.where(condition, then, otherwise)

    def both(self, a: Term, b: Term) -> Term:
        return np.logical_and(a, b)

    def floor(self, x: Term) -> Term:
        return np.floor(x)

    def unless_zero(self, factor: Term, value: Callable[[], Term]) -> Term:
        return 0.0 if factor == 0.0 else value()

    def days_from(self, days: Term, day: Term) -> Term:
        return (days >= np.asarray(day)[:, None]).sum(axis=1).astype(np.float64)

    def gaps(self, days: Term) -> Term:
        # Worked out at the first use, as most models do not ask.
        return functools.cache(lambda: _gaps(days))

    def longest_gap(self, gaps: Term) -> Term:
        return gaps().max(axis=1).astype(np.float64)

    def last_gap(self, gaps: Term) -> Term:
        return gaps()[:, -1].astype(np.float64)

    def squared_gaps(self, gaps: Term) -> Term:
        return np.einsum("ij,ij->i", gaps(), gaps()).astype(np.float64)

    def gaps_beyond(self, gaps: Term, days: Term) -> Term:
        return (gaps() > np.asarray(days)[:, None]).sum(axis=1).astype(np.float64)

    def let(self, name: str, value: Term) -> Term:
        return value


def _gaps(days: Term) -> npt.NDArray[np.int64]:
    """(n, 31) from (n, 32); 0 where there is no earlier day."""
    wide: npt.NDArray[np.int64] = days.astype(np.int64)
    gaps: npt.NDArray[np.int64] = np.diff(wide, axis=1)
    gaps[wide[:, :-1] == 0] = 0
    return gaps


class SqlTerm:
    """A piece of SQL; operators put pieces together. Everything is parenthesised, nothing is quoted."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text

    def _with(self, operator: str, other: Term) -> SqlTerm:
        return SqlTerm(f"({self.text} {operator} {sql(other)})")

    def _after(self, operator: str, other: Term) -> SqlTerm:
        return SqlTerm(f"({sql(other)} {operator} {self.text})")

    def __add__(self, other: Term) -> SqlTerm:
        return self._with("+", other)

    def __radd__(self, other: Term) -> SqlTerm:
        return self._after("+", other)

    def __sub__(self, other: Term) -> SqlTerm:
        return self._with("-", other)

    def __rsub__(self, other: Term) -> SqlTerm:
        return self._after("-", other)

    def __mul__(self, other: Term) -> SqlTerm:
        return self._with("*", other)

    def __rmul__(self, other: Term) -> SqlTerm:
        return self._after("*", other)

    def __truediv__(self, other: Term) -> SqlTerm:
        return self._with("/", other)

    def __rtruediv__(self, other: Term) -> SqlTerm:
        return self._after("/", other)

    def __neg__(self) -> SqlTerm:
        return SqlTerm(f"(-{self.text})")

    def __gt__(self, other: Term) -> SqlTerm:
        return self._with(">", other)

    def __ge__(self, other: Term) -> SqlTerm:
        return self._with(">=", other)

    def __lt__(self, other: Term) -> SqlTerm:
        return self._with("<", other)

    def __le__(self, other: Term) -> SqlTerm:
        return self._with("<=", other)


def sql(value: Term) -> str:
    """The SQL text of a term or a Python number."""
    if isinstance(value, SqlTerm):
        return value.text
    return repr(float(value)) if isinstance(value, float) else str(int(value))


class Sql:
    """Formulas as SQL text. ``named`` collects the values that `let` gave a name to, in order."""

    def __init__(self, prefix: str = "x_") -> None:
        self.named: dict[str, str] = {}
        self._prefix = prefix

    def _call(self, name: str, *arguments: Term) -> SqlTerm:
        return SqlTerm(f"{name}({', '.join(sql(argument) for argument in arguments)})")

    def exp2(self, x: Term) -> SqlTerm:
        return self._call("exp2", x)

    def exp(self, x: Term) -> SqlTerm:
        return self._call("exp", x)

    def log(self, x: Term) -> SqlTerm:
        return self._call("log", x)

    def sqrt(self, x: Term) -> SqlTerm:
        return self._call("sqrt", x)

    def maximum(self, a: Term, b: Term) -> SqlTerm:
        return self._call("greatest", a, b)

    def minimum(self, a: Term, b: Term) -> SqlTerm:
        return self._call("least", a, b)

    def where(self, condition: Term, then: Term, otherwise: Term) -> SqlTerm:
        return self._call("if", condition, then, otherwise)

    def both(self, a: Term, b: Term) -> SqlTerm:
        return self._call("and", a, b)

    def floor(self, x: Term) -> SqlTerm:
        return self._call("floor", x)

    def unless_zero(self, factor: Term, value: Callable[[], Term]) -> SqlTerm:
        # The condition is constant, so the server leaves the other side out.
        return self._call("if", SqlTerm(f"({sql(factor)} = 0)"), 0.0, value())

    def days_from(self, days: Term, day: Term) -> SqlTerm:
        # Of the days' own type, and the same for all rows: compared many at once.
        whole = f"toUInt16(least(greatest(ceil({sql(day)}), 0), 65535))"
        return SqlTerm(f"toFloat64(arrayCount(d -> d >= {whole}, {sql(days)}))")

    def gaps(self, days: Term) -> SqlTerm:
        return self.let("gaps", SqlTerm(f"arrayDifference({sql(days)})"))

    def longest_gap(self, gaps: Term) -> SqlTerm:
        return SqlTerm(f"toFloat64(arrayMax({sql(gaps)}))")

    def last_gap(self, gaps: Term) -> SqlTerm:
        return SqlTerm(f"toFloat64({sql(gaps)}[-1])")

    def squared_gaps(self, gaps: Term) -> SqlTerm:
        return self._call("L2SquaredNorm", gaps)

    def gaps_beyond(self, gaps: Term, days: Term) -> SqlTerm:
        # Whole days are longer than a time if they are longer than its whole days.
        return SqlTerm(f"toFloat64(arrayCount(g -> g > toUInt16(least(floor({sql(days)}), 65535)), {sql(gaps)}))")

    def let(self, name: str, value: Term) -> SqlTerm:
        alias = self._prefix + name
        if alias in self.named:
            raise ValueError(f"{name} is named twice")
        self.named[alias] = sql(value)
        return SqlTerm(alias)
