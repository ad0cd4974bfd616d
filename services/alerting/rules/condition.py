"""A condition as analysts write it after WHERE: parsed, held to an allow list, and turned into polars and ClickHouse.

A number that is not finite is unknown, and what is compared with the unknown is neither true nor false, as in SQL with
NULL: a condition that comes out unknown does not hold, and neither does its NOT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final

import polars as pl
import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from services.alerting.rules.fields import FIELDS, Kind

DIALECT: Final = "clickhouse"
LONGEST: Final = 2_000
"""Characters of a condition. With `MOST_NODES` it bounds what parsing and evaluating can cost."""
MOST_NODES: Final = 300

_COMPARED: Final[dict[type[exp.Expr], str]] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_CALCULATED: Final[dict[type[exp.Expr], str]] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/"}
_ALLOWED: Final = "allowed are the fields, numbers, 'texts', AND OR NOT, = <> < <= > >=, IN, BETWEEN, + - * /"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in a text, and where: ``offset`` in characters from its start."""

    offset: int
    message: str


class ConditionError(ValueError):
    """A condition that cannot be used. ``problems`` has at least one."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was checked. Equal when it says the same, however it was spaced."""

    text: str
    """Normalised: one line, upper-case keywords."""

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields it asks for."""
        return frozenset(column.name for column in _tree(self.text).find_all(exp.Column))

    def holds(self) -> pl.Expr:
        """True where it holds; never null. Over columns by the fields' names."""
        return _truth(_tree(self.text)).fill_null(value=False)

    def fails(self) -> pl.Expr:
        """True where it certainly does not hold: false where it is unknown."""
        return (~_truth(_tree(self.text))).fill_null(value=False)

    def holds_sql(self, columns: Mapping[str, str]) -> str:
        """ClickHouse: 1 where it holds, else 0. ``columns``: an SQL expression for each field."""
        return f"ifNull({_sql(_tree(self.text), columns)}, 0)"

    def fails_sql(self, columns: Mapping[str, str]) -> str:
        """ClickHouse: 1 where it certainly does not hold, else 0."""
        return f"ifNull(NOT {_sql(_tree(self.text), columns)}, 0)"

    def doubts(self) -> list[str]:
        """What it says that can hardly be meant: numbers outside of what a field can be."""
        return list(_doubts(_tree(self.text)))


def parse(text: str) -> Condition:
    """The condition that ``text`` says; raises `ConditionError` with all that is wrong in it."""
    if len(text) > LONGEST:
        raise ConditionError([Problem(0, f"the condition is longer than {LONGEST:,} characters; shorten it")])
    try:
        trees = sqlglot.parse(text, read=DIALECT)
        tree = trees[0] if trees else None
        if tree is None:
            raise ConditionError([Problem(0, "the condition is empty; write one, as after WHERE")])
        if len(trees) > 1:
            raise ConditionError([Problem(text.find(";"), "one condition is wanted; remove what follows `;`")])
        problems = list(_problems(tree))
        if sum(1 for _ in tree.walk()) > MOST_NODES:
            problems.append(Problem(0, f"the condition has more than {MOST_NODES} parts; make several rules of it"))
        if problems:
            raise ConditionError(sorted(problems, key=lambda problem: problem.offset))
        return Condition(_normal(tree))
    except ParseError as error:
        found = error.errors[0] if error.errors else {}
        offset = _offset(text, int(found.get("line") or 1), int(found.get("col") or 1), found.get("highlight") or "")
        near = found.get("highlight") or text[offset : offset + 20]
        raise ConditionError([Problem(offset, f"cannot be read near `{near}`; write it as after WHERE")]) from error
    except TokenError as error:
        offset = max(text.rfind("'"), text.rfind('"'), text.rfind("`"), 0)
        raise ConditionError([Problem(offset, "a quote or comment is not closed; close it")]) from error
    except RecursionError as error:
        raise ConditionError([Problem(0, "the condition is nested too deeply; make several rules of it")]) from error


def tree_of(condition: Condition) -> exp.Expr:
    """What was parsed; not to be changed."""
    return _tree(condition.text)


def _offset(text: str, line: int, column: int, highlight: str) -> int:
    """Of a place that sqlglot names: it counts columns to the end of the word."""
    before = sum(len(part) + 1 for part in text.split("\n")[: line - 1])
    return min(max(before + column - max(len(highlight), 1), 0), max(len(text) - 1, 0))


@lru_cache(maxsize=1_000)
def _tree(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, read=DIALECT)


def _normal(tree: exp.Expr) -> str:
    plain = tree.copy()
    for node in plain.walk():
        node.comments = None
    return plain.sql(dialect=DIALECT)


def _place(node: exp.Expr) -> int:
    for part in node.find_all(exp.Identifier):
        if "start" in part.meta:
            return int(part.meta["start"])
    return 0


def _problems(node: exp.Expr) -> Iterator[Problem]:
    """What is wrong with ``node`` as a statement that is true or false."""
    inner = node.unnest()
    kind = type(inner)
    if kind in (exp.And, exp.Or):
        yield from _problems(inner.this)
        yield from _problems(inner.expression)
    elif kind is exp.Not:
        yield from _problems(inner.this)
    elif kind in _COMPARED:
        yield from _comparison(inner, inner.this, [inner.expression], ordered=kind not in (exp.EQ, exp.NEQ))
    elif kind is exp.Between:
        yield from _comparison(inner, inner.this, [inner.args["low"], inner.args["high"]], ordered=True)
    elif kind is exp.In:
        if set(_given(inner)) - {"this", "expressions"}:
            yield Problem(_place(inner), f"IN takes a list of numbers or 'texts'; {_ALLOWED}")
        else:
            yield from _comparison(inner, inner.this, inner.expressions, ordered=False)
    elif kind in (exp.Column, exp.Literal, exp.Neg) or kind in _CALCULATED:
        yield Problem(_place(inner), f"`{_shown(inner)}` is neither true nor false; compare it with something")
        yield from _value(inner)[1]
    else:
        yield Problem(_place(inner), f"`{_shown(inner)}` cannot stand in a condition; {_ALLOWED}")


def _given(node: exp.Expr) -> list[str]:
    return [name for name, value in node.args.items() if value not in (None, [], False)]


def _comparison(node: exp.Expr, left: exp.Expr, others: list[exp.Expr], *, ordered: bool) -> Iterator[Problem]:
    sides = [_value(side) for side in (left, *others)]
    wrong = [problem for _, problems in sides for problem in problems]
    yield from wrong
    if wrong:
        return
    kinds = {kind for kind, _ in sides}
    if len(kinds) > 1:
        yield Problem(_place(node), f"`{_shown(node)}` compares a number with a text; compare like with like")
    elif kinds == {"text"} and ordered:
        yield Problem(_place(node), f"`{_shown(node)}` orders texts; use =, <> or IN")
    elif kinds == {"text"}:
        yield from _values(left, others)
    if not any(side.find(exp.Column) for side in (left, *others)):
        yield Problem(_place(node), f"`{_shown(node)}` asks for no field; it is always the same")


def _values(left: exp.Expr, others: list[exp.Expr]) -> Iterator[Problem]:
    """Texts that a field never is, of the fields whose texts are known."""
    sides = [side.unnest() for side in (left, *others)]
    known = next(
        (FIELDS[side.name] for side in sides if isinstance(side, exp.Column) and FIELDS[side.name].values), None
    )
    if known is None:
        return
    for side in sides:
        if isinstance(side, exp.Literal) and side.this not in known.values:
            yield Problem(
                _place(left),
                f"{known.name} is never '{side.this}'; {_instead(side.this, known.values)}",
            )


def _value(node: exp.Expr) -> tuple[Kind, list[Problem]]:
    """Kind of a value, and what is wrong with it."""
    inner = node.unnest()
    kind = type(inner)
    if isinstance(inner, exp.Column):
        field = FIELDS.get(inner.name)
        if field is None or len(inner.parts) > 1:
            remedy = _instead(inner.name, tuple(FIELDS))
            if isinstance(inner.this, exp.Identifier) and inner.this.quoted:
                remedy = f"a text stands in single quotes: '{inner.name}'"
            return "number", [Problem(_place(inner), f"there is no field `{_shown(inner)}`; {remedy}")]
        return field.kind, []
    if isinstance(inner, exp.Literal):
        if inner.is_string:
            return "text", []
        if not _is_number(inner.this):
            return "number", [Problem(_place(inner), f"`{_shown(inner)}` is no number that can be used")]
        return "number", []
    if isinstance(inner, exp.Neg) or kind in _CALCULATED:
        parts = [inner.this] if isinstance(inner, exp.Neg) else [inner.this, inner.expression]
        found = [_value(part) for part in parts]
        problems = [problem for _, some in found for problem in some]
        if not problems and any(part != "number" for part, _ in found):
            problems = [Problem(_place(inner), f"`{_shown(inner)}` calculates with a text; only numbers can be")]
        return "number", problems
    return "number", [Problem(_place(inner), f"`{_shown(inner)}` cannot stand in a condition; {_ALLOWED}")]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _instead(wrong: str, right: tuple[str, ...]) -> str:
    near = get_close_matches(wrong.lower(), right, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(right)}"


def _shown(node: exp.Expr) -> str:
    text = node.sql(dialect=DIALECT, comments=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _doubts(tree: exp.Expr) -> Iterator[str]:
    for node in tree.find_all(*_COMPARED, exp.Between):
        sides = [side.unnest() for side in node.args.values() if isinstance(side, exp.Expr)]
        field = next((FIELDS[side.name] for side in sides if isinstance(side, exp.Column)), None)
        if field is None or field.kind != "number":
            continue
        for side in sides:
            number = _constant(side)
            if number is not None and not field.lowest <= number <= field.highest:
                yield f"`{_shown(node)}`: {field.name} is between {field.lowest:g} and {field.highest:g}"


def _constant(node: exp.Expr) -> float | None:
    if isinstance(node, exp.Neg):
        inner = _constant(node.this.unnest())
        return None if inner is None else -inner
    return float(node.this) if isinstance(node, exp.Literal) and not node.is_string else None


# The same tree as polars and as ClickHouse. IN and BETWEEN become comparisons: ClickHouse's own IN takes the unknown
# for false, so that its NOT would be true.


def _spread(node: exp.Expr) -> list[tuple[exp.Expr, str, exp.Expr]] | None:
    """The comparisons that a node stands for: of IN any must hold, of all others each."""
    kind = type(node)
    if kind in _COMPARED:
        return [(node.this, _COMPARED[kind], node.expression)]
    if isinstance(node, exp.Between):
        return [(node.this, ">=", node.args["low"]), (node.this, "<=", node.args["high"])]
    if isinstance(node, exp.In):
        return [(node.this, "=", value) for value in node.expressions]
    return None


def _truth(node: exp.Expr) -> pl.Expr:
    inner = node.unnest()
    if isinstance(inner, exp.And):
        return _truth(inner.this) & _truth(inner.expression)
    if isinstance(inner, exp.Or):
        return _truth(inner.this) | _truth(inner.expression)
    if isinstance(inner, exp.Not):
        return ~_truth(inner.this)
    parts = [_compare(_side(left), sign, _side(right)) for left, sign, right in _spread(inner) or []]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole | part if isinstance(inner, exp.In) else whole & part
    return whole


def _compare(left: pl.Expr, sign: str, right: pl.Expr) -> pl.Expr:
    compared: Any = {
        "=": left.__eq__,
        "<>": left.__ne__,
        "<": left.__lt__,
        "<=": left.__le__,
        ">": left.__gt__,
        ">=": left.__ge__,
    }[sign]
    result: pl.Expr = compared(right)
    return result


def _side(node: exp.Expr) -> pl.Expr:
    """Of a comparison. What was calculated may have left the finite numbers: by zero, or beyond the largest."""
    value = _polars(node)
    return _finite(value) if type(node.unnest()) in _CALCULATED else value


def _polars(node: exp.Expr) -> pl.Expr:
    inner = node.unnest()
    if isinstance(inner, exp.Column):
        column = pl.col(inner.name)
        return _finite(column.cast(pl.Float64)) if FIELDS[inner.name].kind == "number" else column.cast(pl.String)
    if isinstance(inner, exp.Literal):
        return pl.lit(str(inner.this)) if inner.is_string else pl.lit(float(inner.this))
    if isinstance(inner, exp.Neg):
        return -_polars(inner.this)
    left, right = _polars(inner.this), _polars(inner.expression)
    match _CALCULATED[type(inner)]:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right


def _finite(number: pl.Expr) -> pl.Expr:
    return pl.when(number.is_finite()).then(number)


def _sql(node: exp.Expr, columns: Mapping[str, str]) -> str:
    inner = node.unnest()
    if isinstance(inner, exp.And):
        return f"({_sql(inner.this, columns)} AND {_sql(inner.expression, columns)})"
    if isinstance(inner, exp.Or):
        return f"({_sql(inner.this, columns)} OR {_sql(inner.expression, columns)})"
    if isinstance(inner, exp.Not):
        return f"(NOT {_sql(inner.this, columns)})"
    joined = " OR " if isinstance(inner, exp.In) else " AND "
    parts = _spread(inner) or []
    return "(" + joined.join(f"{_side_sql(a, columns)} {sign} {_side_sql(b, columns)}" for a, sign, b in parts) + ")"


def _side_sql(node: exp.Expr, columns: Mapping[str, str]) -> str:
    value = _value_sql(node, columns)
    return _finite_sql(value) if type(node.unnest()) in _CALCULATED else value


def _value_sql(node: exp.Expr, columns: Mapping[str, str]) -> str:
    inner = node.unnest()
    if isinstance(inner, exp.Column):
        column = columns[inner.name]
        return _finite_sql(f"toFloat64({column})") if FIELDS[inner.name].kind == "number" else f"toString({column})"
    if isinstance(inner, exp.Literal):
        return inner.sql(dialect=DIALECT) if inner.is_string else f"toFloat64({float(inner.this)!r})"
    if isinstance(inner, exp.Neg):
        return f"(-{_value_sql(inner.this, columns)})"
    sign = _CALCULATED[type(inner)]
    return f"({_value_sql(inner.this, columns)} {sign} {_value_sql(inner.expression, columns)})"


def _finite_sql(number: str) -> str:
    return f"if(isFinite({number}), {number}, NULL)"
