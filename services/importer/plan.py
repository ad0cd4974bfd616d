"""A mapping as columnar work: source columns in, one column per event field out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from schemas.metrics import METRICS
from services.importer.errors import MappingError
from services.importer.mapping import Amount, Condition, Mapping, Ratings, Rule, Time, Value

ATTRIBUTE: Final = "attribute:"
"""Prefix of result columns that become members of ``attributes``."""
RATED_NAME: Final = "rated_name"
RATED_VALUE: Final = "rated_value"
"""Result columns: an own metric's name and value, kept as an attribute."""
ATTRIBUTES: Final = "attributes_column"
"""Result column: a JSON object whose members become attributes."""
SKIPPED: Final = "skipped"
"""Result column: True for rows that a rule leaves out."""

NUMBERS: Final = frozenset({"rating", "intensity", "confidence"})
_WITHOUT_ZONE: Final = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
_OFFSET: Final = r"(?:[zZ]|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True, slots=True)
class Plan:
    """Expressions by result column, ready for any frame of the file's schema."""

    expressions: dict[str, pl.Expr]

    def apply(self, source: pl.DataFrame) -> pl.DataFrame:
        """One row out for each row in."""
        return source.select(**self.expressions)


def make_plan(mapping: Mapping, schema: dict[str, pl.DataType], name: str) -> Plan:
    """Plan for files of this schema. Raises `MappingError` if a column's type cannot feed its field."""
    fields: dict[str, pl.Expr] = {"occurred_at": _time(mapping.fields.occurred_at, schema, name)}
    for field, value in mapping.fields.values().items():
        fields[field] = _value(value, schema, number=field in NUMBERS)
    if "source" not in fields:
        fields["source"] = pl.lit(mapping.dataset)
    if mapping.fields.amount is not None:
        fields["amount"] = _amount(mapping.fields.amount, schema)
    extras: dict[str, pl.Expr] = {
        ATTRIBUTE + key: _value(value, schema, number=False) for key, value in mapping.attributes.items()
    }
    if mapping.attributes_column is not None:
        extras[ATTRIBUTES] = _text(mapping.attributes_column, schema)
    if mapping.ratings is not None:
        fields |= _ratings(mapping.ratings, schema)
        extras |= _own_metrics(mapping.ratings, schema)
    _apply_rules(fields, mapping.rules, schema)
    _keep_to_kinds(fields, extras, mapping)
    if "amount" in fields and "currency" in fields:
        fields["currency"] = pl.when(fields["amount"].is_not_null()).then(fields["currency"])
    skipped = [_matches(rule, schema) for rule in mapping.rules if rule.skip]
    extras[SKIPPED] = pl.any_horizontal(skipped) if skipped else pl.lit(False)
    return Plan(fields | extras)


def _text(column: str, schema: dict[str, pl.DataType]) -> pl.Expr:
    """The column as text; an empty text is no value."""
    expression = pl.col(column)
    if schema[column] == pl.Boolean:
        expression = pl.when(expression).then(pl.lit("true")).when(~expression).then(pl.lit("false"))
    elif schema[column].is_nested():
        expression = pl.struct(expression).struct.json_encode()
    elif schema[column] != pl.String:
        expression = expression.cast(pl.String)
    return pl.when(expression != "").then(expression)


def _value(value: Value, schema: dict[str, pl.DataType], *, number: bool) -> pl.Expr:
    if value.constant is not None:
        return _literal(value.constant, number=number)
    if value.columns is not None:
        # One part missing, no value: a joined id without one of its parts would be another row's.
        expression = pl.concat_str([_text(column, schema) for column in value.columns], separator=value.separator)
    else:
        expression = _text(value.column or "", schema)
    if value.map is not None:
        translated = {old: new or None for old, new in value.map.items()}
        keep = expression if value.otherwise == "keep" else None
        expression = expression.replace_strict(translated, default=keep, return_dtype=pl.String)
    if value.as_name:
        expression = expression.str.to_lowercase().str.replace_all(r"[^a-z0-9_.]+", "_").str.strip_chars("_.")
    if value.default is not None:
        expression = expression.fill_null(_literal(value.default, number=False))
    # What is no number becomes one that no scale has, so that the row is refused instead of losing its rating.
    return _number(expression) if number else expression


def _literal(value: str | float, *, number: bool) -> pl.Expr:
    if number:
        return _number(pl.lit(str(value)))
    return pl.lit(value if isinstance(value, str) else f"{value:g}") if value != "" else pl.lit(None, pl.String)


def _number(text: pl.Expr) -> pl.Expr:
    return pl.when(text.is_not_null()).then(text.cast(pl.Float64, strict=False).fill_null(float("nan")))


def _time(time: Time, schema: dict[str, pl.DataType], name: str) -> pl.Expr:
    """The time as ISO 8601 in UTC; what cannot be read stays as it is, so that the refusal shows it."""
    column, kind = pl.col(time.column), schema[time.column]
    as_text = _text(time.column, schema)
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        return _iso(column.dt.convert_time_zone("UTC"))
    if kind.is_temporal():
        if not isinstance(kind, pl.Datetime | pl.Date):
            raise MappingError(f"{name}: fields.occurred_at: column {time.column!r} is a {kind}; a date is needed")
        if time.zone is None:
            raise MappingError(
                f"{name}: fields.occurred_at: the times in column {time.column!r} carry no zone; "
                'give one, such as zone = "UTC"'
            )
        return _iso(_in_zone(column.cast(pl.Datetime("us")), time.zone))
    if time.format.startswith("epoch_"):
        per_unit = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}[time.format]
        number = as_text.cast(pl.Int64, strict=False)
        exact = (number * per_unit).cast(pl.Datetime("us"))
        rounded = (as_text.cast(pl.Float64, strict=False) * per_unit).round(0).cast(pl.Int64, strict=False)
        return _iso(pl.coalesce(exact, rounded.cast(pl.Datetime("us")))).fill_null(as_text)
    if time.format == "iso":
        if time.zone is None:
            return as_text
        patterns: Iterable[str] = _WITHOUT_ZONE
        parsed = [as_text.str.to_datetime(pattern, time_unit="us", strict=False) for pattern in patterns]
        parsed.append(as_text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
        local = _iso(_in_zone(pl.coalesce(parsed), time.zone))
        return pl.when(as_text.str.contains(_OFFSET)).then(as_text).otherwise(local.fill_null(as_text))
    return _by_pattern(as_text, time, name)


def _by_pattern(as_text: pl.Expr, time: Time, name: str) -> pl.Expr:
    try:
        pl.select(_parsed(pl.lit("x"), time.format))
    except pl.exceptions.PolarsError as error:
        raise MappingError(f"{name}: fields.occurred_at.format: {time.format} cannot be used: {error}") from None
    parsed = _parsed(as_text, time.format)
    if _has_offset(time.format):
        return _iso(parsed).fill_null(as_text)
    if time.zone is None:
        raise MappingError(
            f"{name}: fields.occurred_at: times of format {time.format} carry no zone; give one, such as "
            'zone = "Europe/Berlin"'
        )
    return _iso(_in_zone(parsed, time.zone)).fill_null(as_text)


def _parsed(text: pl.Expr, pattern: str) -> pl.Expr:
    if _has_offset(pattern):
        return text.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)
    if any(part in pattern for part in ("%H", "%I", "%T", "%R", "%X", "%c", "%s")):
        return text.str.to_datetime(pattern, time_unit="us", strict=False)
    return text.str.to_date(pattern, strict=False).cast(pl.Datetime("us"))


def _has_offset(pattern: str) -> bool:
    return "%z" in pattern or "%:z" in pattern or "%#z" in pattern


def _in_zone(local: pl.Expr, zone: str) -> pl.Expr:
    """UTC of local times: of an hour that comes twice the first, of one that the clock skips the next."""
    skipped = (local + pl.duration(hours=1)).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    first = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return pl.coalesce(first, skipped).dt.convert_time_zone("UTC")


def _iso(utc: pl.Expr) -> pl.Expr:
    return utc.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")


def _amount(amount: Amount, schema: dict[str, pl.DataType]) -> pl.Expr:
    """The amount as a decimal text, which the contract reads exactly."""
    text = _text(amount.column, schema)
    if amount.divide_by is not None or amount.decimals is not None:
        number = text.cast(pl.Float64, strict=False)
        if amount.divide_by is not None:
            number = number / amount.divide_by
        # What is no number stays, so that the refusal is about what the file says.
        rounded = number.round(6 if amount.decimals is None else amount.decimals)
        text = rounded.cast(pl.String).fill_null(text)
    return text.str.strip_prefix("-") if amount.negative == "magnitude" else text


def _ratings(ratings: Ratings, schema: dict[str, pl.DataType]) -> dict[str, pl.Expr]:
    named = _text(ratings.metric_column, schema)
    value = _number(_text(ratings.value_column, schema))
    metric: pl.Expr = pl.lit(None, pl.String)
    rating: pl.Expr = pl.lit(None, pl.Float64)
    for own_name, mapped in ratings.scales.items():
        converted = value
        if mapped.range is not None:
            scale = METRICS[mapped.metric]
            worst, best = mapped.range
            converted = scale.low + (value - worst) * ((scale.high - scale.low) / (best - worst))
            converted = converted.round(0) if scale.whole else converted
        here = (named == own_name) & value.is_not_null()
        metric = pl.when(here).then(pl.lit(mapped.metric)).otherwise(metric)
        rating = pl.when(here).then(converted).otherwise(rating)
    return {"metric": metric, "rating": rating}


def _own_metrics(ratings: Ratings, schema: dict[str, pl.DataType]) -> dict[str, pl.Expr]:
    if ratings.others == "leave_out":
        return {}
    named, value = _text(ratings.metric_column, schema), _text(ratings.value_column, schema)
    own = named.is_not_null() & value.is_not_null() & ~named.is_in(list(ratings.scales))
    return {RATED_NAME: pl.when(own).then(named), RATED_VALUE: pl.when(own).then(value)}


def _apply_rules(fields: dict[str, pl.Expr], rules: Iterable[Rule], schema: dict[str, pl.DataType]) -> None:
    for rule in rules:
        here = _matches(rule, schema)
        for field in rule.set:
            value = _value(rule.value_of(field), schema, number=field in NUMBERS)
            fields[field] = pl.when(here).then(value).otherwise(_or_nothing(fields, field))
        for field in rule.leave_out:
            fields[field] = pl.when(~here).then(_or_nothing(fields, field))


def _or_nothing(fields: dict[str, pl.Expr], field: str) -> pl.Expr:
    return fields.get(field, pl.lit(None, pl.Float64 if field in NUMBERS else pl.String))


def _keep_to_kinds(fields: dict[str, pl.Expr], extras: dict[str, pl.Expr], mapping: Mapping) -> None:
    kind = fields["kind"]
    limited: dict[str, tuple[str, ...] | None] = {
        field: value.kinds for field, value in mapping.fields.values().items()
    }
    if mapping.fields.amount is not None:
        limited["amount"] = mapping.fields.amount.kinds
    for field, kinds in limited.items():
        if kinds is not None:
            fields[field] = pl.when(kind.is_in(list(kinds))).then(fields[field])
    for key, value in mapping.attributes.items():
        if value.kinds is not None:
            extras[ATTRIBUTE + key] = pl.when(kind.is_in(list(value.kinds))).then(extras[ATTRIBUTE + key])


def _matches(rule: Rule, schema: dict[str, pl.DataType]) -> pl.Expr:
    tests = [_meets(column, condition, schema) for column, condition in rule.when.items()]
    return pl.all_horizontal(tests).fill_null(False)


def _meets(column: str, condition: Condition, schema: dict[str, pl.DataType]) -> pl.Expr:
    text = _text(column, schema)
    number = text.cast(pl.Float64, strict=False)
    tests: list[pl.Expr] = []
    if condition.one_of is not None:
        words = [word for word in condition.one_of if isinstance(word, str)]
        numbers = [float(word) for word in condition.one_of if not isinstance(word, str)]
        tests.append(pl.any_horizontal(text.is_in(words), number.is_in(numbers)).fill_null(False))
    if condition.below is not None:
        tests.append(number < condition.below)
    if condition.at_least is not None:
        tests.append(number >= condition.at_least)
    if condition.empty is not None:
        tests.append(text.is_null() if condition.empty else text.is_not_null())
    return pl.all_horizontal(tests)
