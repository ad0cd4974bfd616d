"""The mapping file: which column feeds which field of the event, and how a source's words translate.

TOML, described with examples in docs/import.md. Everything unknown in it is an error, as a mistyped option would
otherwise silently import something else.
"""

from __future__ import annotations

import codecs
import difflib
import re
import tomllib
import zoneinfo
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas.emotions import EMOTIONS
from schemas.kinds import KINDS, OUTCOMES, RESERVED_KINDS
from schemas.metrics import METRICS
from services.importer.errors import MappingError

_VOCABULARIES: Final[dict[str, tuple[str, ...]]] = {
    "kind": tuple(kind for kind in KINDS if kind not in RESERVED_KINDS),
    "outcome": OUTCOMES,
    "metric": tuple(METRICS),
    "emotion": EMOTIONS,
}
"""Fields whose values are closed vocabularies: a constant or map into them is checked before any row is read."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Value(_Part):
    """Where a value comes from: one column, several joined, or a constant; then how it translates."""

    column: str | None = None
    columns: tuple[str, ...] | None = Field(None, min_length=1, strict=False)
    separator: str = "-"
    constant: str | float | None = None
    map: dict[str, str] | None = None
    otherwise: Literal["keep", "leave_out"] = "keep"
    """What becomes of a value that ``map`` does not list."""
    default: str | float | None = None
    """Stands in where the value is empty."""
    as_name: bool = False
    """Turn free words into a dotted name: small letters, other characters to ``_``."""
    kinds: tuple[str, ...] | None = Field(None, strict=False)
    """Use the value only for events of these kinds."""

    @model_validator(mode="after")
    def _one_source(self) -> Value:
        given = [name for name in ("column", "columns", "constant") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of column, columns, constant (given: {', '.join(given) or 'none'})")
        if self.otherwise != "keep" and self.map is None:
            raise ValueError("otherwise needs a map")
        return self

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for kind in kinds or ():
            check_word("kind", kind)
        return kinds

    def columns_used(self) -> Iterable[str]:
        """Columns of the file that the value needs."""
        if self.column is not None:
            yield self.column
        yield from self.columns or ()


def _column_name(value: object) -> object:
    """A bare string stands for the column of that name."""
    return {"column": value} if isinstance(value, str) else value


AnyValue = Annotated[Value, BeforeValidator(_column_name)]


class Time(_Part):
    """When it happened."""

    column: str
    format: str = "iso"
    """``iso``, ``epoch_s``, ``epoch_ms``, ``epoch_us``, or a pattern such as ``%d.%m.%Y %H:%M``."""
    zone: str | None = None
    """IANA name of the zone of times that carry none."""

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value not in ("iso", "epoch_s", "epoch_ms", "epoch_us") and "%" not in value:
            raise ValueError("must be iso, epoch_s, epoch_ms, epoch_us, or a pattern such as %d.%m.%Y %H:%M")
        return value

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in zoneinfo.available_timezones():
            raise ValueError(f"no such time zone{_meant(value, zoneinfo.available_timezones())}")
        return value


class Amount(_Part):
    """Money; a currency without an amount is left out."""

    column: str
    negative: Literal["refuse", "magnitude"] = "refuse"
    """``magnitude``: the sign is dropped, as a refund's amount is positive."""
    divide_by: Annotated[float, Field(gt=0, strict=False)] | None = None
    """100 for columns in cents."""
    decimals: Annotated[int, Field(ge=0, le=6)] | None = None
    """Round to so many; without it, an amount of more than six decimals is refused."""
    kinds: tuple[str, ...] | None = Field(None, strict=False)


class ScaleMapping(_Part):
    """How one of the source's own metrics becomes a published one."""

    metric: str
    range: tuple[float, float] | None = Field(None, strict=False)
    """The source's worst and best value, stretched to the metric's; without it values are taken as they are."""

    @field_validator("metric")
    @classmethod
    def _published(cls, value: str) -> str:
        return check_word("metric", value)

    @field_validator("range")
    @classmethod
    def _not_empty(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] == value[1]:
            raise ValueError("worst and best must differ")
        return value


class Ratings(_Part):
    """For sources that name the metric in one column and give its value in another."""

    metric_column: str
    value_column: str
    scales: dict[str, ScaleMapping] = {}
    others: Literal["attribute", "leave_out"] = "attribute"
    """Metrics without a scale here: kept as an attribute of the metric's name, or left out."""


class Condition(_Part):
    """What a column has to be. All that is given must hold."""

    one_of: tuple[str | float, ...] | None = Field(None, min_length=1, strict=False)
    below: Annotated[float, Field(strict=False)] | None = None
    at_least: Annotated[float, Field(strict=False)] | None = None
    empty: bool | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Condition:
        if not self.model_fields_set:
            raise ValueError("an empty condition; give one_of, below, at_least or empty")
        return self


def _one_of(value: object) -> object:
    """A bare value, or a list of some, stands for being one of them."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return {"one_of": [value]}
    return {"one_of": value} if isinstance(value, list) else value


class Rule(_Part):
    """What holds for some rows only. Every rule that matches applies, in the order of the file."""

    when: dict[str, Annotated[Condition, BeforeValidator(_one_of)]] = Field(min_length=1)
    set: dict[str, Annotated[str | float | Value, Field(union_mode="left_to_right")]] = {}
    """Fields to replace; here a bare string is a constant."""
    leave_out: tuple[str, ...] = Field((), strict=False)
    skip: bool = False
    """Do not import the row; it is counted."""

    @model_validator(mode="after")
    def _does_something(self) -> Rule:
        if not (self.set or self.leave_out or self.skip):
            raise ValueError("the rule does nothing: give set, leave_out or skip")
        for name in (*self.set, *self.leave_out):
            if name not in FIELDS:
                raise ValueError(f"no field {name}{_meant(name, FIELDS)}")
        for name, value in self.set.items():
            check_words(name, value)
        return self

    def value_of(self, field: str) -> Value:
        """What the rule puts into a field of ``set``."""
        given = self.set[field]
        return given if isinstance(given, Value) else Value(constant=given)


class Fields(_Part):
    """What feeds each field of the event; see docs/import.md for what each field means."""

    customer_id: AnyValue
    occurred_at: Annotated[Time, BeforeValidator(_column_name)]
    kind: AnyValue
    touchpoint: AnyValue
    event_id: AnyValue | None = None
    source: AnyValue | None = None
    channel: AnyValue | None = None
    journey_id: AnyValue | None = None
    journey: AnyValue | None = None
    outcome: AnyValue | None = None
    metric: AnyValue | None = None
    rating: AnyValue | None = None
    emotion: AnyValue | None = None
    intensity: AnyValue | None = None
    confidence: AnyValue | None = None
    amount: Annotated[Amount, BeforeValidator(_column_name)] | None = None
    currency: AnyValue | None = None
    case_id: AnyValue | None = None
    text: AnyValue | None = None

    @field_validator(*_VOCABULARIES)
    @classmethod
    def _words(cls, value: Value | None, info: ValidationInfo) -> Value | None:
        if value is not None:
            check_words(str(info.field_name), value)
        return value

    def values(self) -> dict[str, Value]:
        """The fields that are plain values, by name: all but time and amount."""
        return {name: value for name in FIELDS if isinstance(value := getattr(self, name), Value)}


FIELDS: Final = tuple(Fields.model_fields)
"""Names that ``[fields]`` and rules may use."""


class Mapping(_Part):
    """A mapping file, checked as far as it can be without the file to import."""

    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,100}$")]
    """Name of the data. Rows without an id get one made from it, so it must stay the same for the same data."""
    fields: Fields
    attributes: dict[str, AnyValue] = {}
    attributes_column: str | None = None
    """A column that holds a JSON object, all members of which become attributes."""
    ratings: Ratings | None = None
    rules: tuple[Rule, ...] = Field((), strict=False)
    encoding: str = "utf-8"
    """Of CSV and NDJSON files."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Of CSV files."""

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError:
            raise ValueError("no such encoding; usual ones are utf-8, latin-1, cp1252") from None
        return value

    @model_validator(mode="after")
    def _one_rating(self) -> Mapping:
        if self.ratings is not None and (self.fields.metric or self.fields.rating):
            raise ValueError("give either [ratings] or fields.metric and fields.rating")
        return self

    def columns_used(self) -> dict[str, str]:
        """Columns that the file must have, each with the place in the mapping that first names it."""
        used: dict[str, str] = {}
        fields = self.fields
        used.setdefault(fields.occurred_at.column, "fields.occurred_at")
        if fields.amount is not None:
            used.setdefault(fields.amount.column, "fields.amount")
        for name, value in fields.values().items():
            for column in value.columns_used():
                used.setdefault(column, f"fields.{name}")
        for name, value in self.attributes.items():
            for column in value.columns_used():
                used.setdefault(column, f"attributes.{name}")
        if self.attributes_column is not None:
            used.setdefault(self.attributes_column, "attributes_column")
        if self.ratings is not None:
            used.setdefault(self.ratings.metric_column, "ratings.metric_column")
            used.setdefault(self.ratings.value_column, "ratings.value_column")
        for number, rule in enumerate(self.rules, 1):
            for column in rule.when:
                used.setdefault(column, f"rules: rule {number}, when")
            for field in rule.set:
                for column in rule.value_of(field).columns_used():
                    used.setdefault(column, f"rules: rule {number}, set.{field}")
        return used


def check_word(field: str, word: str) -> str:
    """The word, if ``field`` may have it; ValueError with the nearest ones if not."""
    known = _VOCABULARIES.get(field)
    if known is not None and word not in known:
        raise ValueError(f"{word!r} is no {field}{_meant(word, known)} ({', '.join(known)})")
    return word


def check_words(field: str, value: Value | str | float) -> None:
    """Check constants and map targets of a field with a closed vocabulary."""
    if isinstance(value, Value):
        words = [word for word in (value.constant, value.default, *(value.map or {}).values()) if word is not None]
    else:
        words = [value]
    for word in words:
        if isinstance(word, str) and word:
            check_word(field, word)


def _meant(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def load_mapping(text: str, name: str) -> Mapping:
    """The mapping in ``text``; ``name`` is how errors call it. Raises `MappingError` with line and field."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"{name}: not TOML: {error}") from None
    try:
        return Mapping.model_validate(document)
    except ValidationError as error:
        faults = [_fault(text, name, entry) for entry in error.errors(include_url=False)]
        raise MappingError("\n".join(dict.fromkeys(faults))) from None


REQUIRED: Final = tuple(f"fields.{name}" for name, field in Fields.model_fields.items() if field.is_required())
"""Places in a mapping without whose columns no row is an event."""


def check_columns(
    mapping: Mapping, columns: Iterable[str], name: str, file_name: str, *, lenient: bool = False
) -> list[str]:
    """`MappingError` if the file lacks a column that the mapping names.

    ``lenient``, for files whose rows leave members out: only what every event needs must be there; the rest is
    returned as notes.
    """
    present = list(columns)
    absent = {column: place for column, place in mapping.columns_used().items() if column not in present}
    notes = [
        f"{name}: {place}: {file_name} has no column {column!r}{_meant(column, present)}"
        for column, place in absent.items()
    ]
    if notes and not (lenient and not set(absent.values()) & set(REQUIRED)):
        raise MappingError("\n".join([*notes, f"The columns of {file_name} are: {', '.join(present)}"]))
    return notes


def _fault(text: str, name: str, entry: Any) -> str:
    path = [part for part in entry["loc"] if not _is_union_branch(part)]
    message = entry["msg"].removeprefix("Value error, ")
    if entry["type"] == "extra_forbidden":
        message = f"no such option{_meant(str(path[-1]), _OPTIONS)}"
    elif entry["type"] == "missing":
        message = "is missing"
    line = _line_of(text, [str(part) for part in path])
    place = ".".join(str(part + 1 if isinstance(part, int) else part) for part in path) or "mapping"
    return f"{name}:{line}: {place}: {message}" if line else f"{name}: {place}: {message}"


_OPTIONS: Final = sorted(
    {
        option
        for part in (Mapping, Fields, Value, Time, Amount, Ratings, ScaleMapping, Condition, Rule)
        for option in part.model_fields
    }
)


def _is_union_branch(part: object) -> bool:
    """pydantic puts the tried alternative's name into the path; nobody wrote that."""
    return isinstance(part, str) and (part in ("Value", "str", "float") or "[" in part)


def _line_of(text: str, path: list[str]) -> int | None:
    """Line of the deepest part of the path that is written as a key or table header, as far as plain TOML goes."""
    found: int | None = None
    at = 0
    lines = text.splitlines()
    for part in path:
        if part.isdecimal():
            headers = [i for i, line in enumerate(lines) if line.strip().startswith("[[")]
            if int(part) < len(headers):
                at = headers[int(part)]
                found = at + 1
            continue
        key = re.compile(rf"(^|[\[{{,.\s])[\"']?{re.escape(part)}[\"']?\s*(=|\]|\.)")
        for number in range(at, len(lines)):
            if key.search(lines[number].partition("#")[0]):
                at, found = number, number + 1
                break
    return found
