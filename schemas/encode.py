"""Records to Avro single-object bytes, by an encoder generated from the schema files.

`encode` is Python source written from ``touchpoint.v*.avsc`` and compiled at import: the fields in order, each
by its type, nothing decided at run time that the schemas already decide. Its bytes are any Avro writer's.

A record is written with the oldest version that can say all it says: only what uses a new field needs readers that
know it. So a new writer beside old readers harms nothing until somebody sends the new field, and timers of a new worker
never write what an old one cannot read. docs/delivery.md has the order of an upgrade.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

from schemas.versions import CURRENT, VERSIONS, kinds_of

Record = dict[str, Any]
"""An event under the schema's field names: ids as bytes, times in UTC microseconds, money in millionths.

Nullable fields, ``channel`` and ``attributes`` may be left out or None.
"""

MAX_CACHED: Final = 4096
"""Entries a cache may hold before it starts again: bounds memory when a sender makes up names."""

_REPEATING: Final = frozenset({"source", "touchpoint", "channel", "currency", "received_at", "rating", "journey"})
"""Fields with few distinct values at a time; their bytes are kept."""

_TIMES: Final = frozenset({"occurred_at"})
"""Longs that are always large and always new."""

_MAY_BE_LEFT_OUT: Final[dict[str, object]] = {"channel": "", "attributes": {}}
_MIN_LONG: Final = -(1 << 63)
_MAX_LONG: Final = (1 << 63) - 1


class EncodeError(ValueError):
    """The record does not fit the schema; the message names the field where it can."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_TWO_MORE: Final = tuple(bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14))
_LAST: Final = tuple(_varint(n) for n in range(1 << 14))


def encode_long(value: int) -> bytes:
    """Avro's zigzag variable-length long."""
    # By tables, two bytes a look-up; halves of 28 bits keep the arithmetic on small integers.
    if 1 << 27 <= value < 1 << 55:
        high = value >> 27
        low = value << 1 & 0xFFFFFFF
        if high < 1 << 14:
            return _TWO_MORE[low & 0x3FFF] + _TWO_MORE[low >> 14] + _LAST[high]
        return _TWO_MORE[low & 0x3FFF] + _TWO_MORE[low >> 14] + _TWO_MORE[high & 0x3FFF] + _LAST[high >> 14]
    if 0 <= value < 1 << 27:
        value <<= 1
        return _LAST[value] if value < 1 << 14 else _TWO_MORE[value & 0x3FFF] + _LAST[value >> 14]
    if not _MIN_LONG <= value <= _MAX_LONG:
        raise EncodeError(f"{value} does not fit into 64 bits")
    return _varint((value << 1) ^ (value >> 63))


class _Strings(dict[str, bytes]):
    """Encoded strings of fields that repeat."""

    def __missing__(self, text: str) -> bytes:
        if len(self) >= MAX_CACHED:
            self.clear()
        body = text.encode()
        encoded = self[text] = encode_long(len(body)) + body
        return encoded


class _Doubles(dict[float, bytes]):
    """Doubles of a field that repeats, behind the byte that says they are there."""

    def __missing__(self, value: float) -> bytes:
        encoded = _SOME_DOUBLE.pack(2, value)
        if value:  # 0.0 and -0.0 are one key and two encodings
            if len(self) >= MAX_CACHED:
                self.clear()
            self[value] = encoded
        return encoded


class _Longs(dict[int, bytes]):
    """Encoded longs of fields that repeat."""

    def __missing__(self, value: int) -> bytes:
        if len(self) >= MAX_CACHED:
            self.clear()
        encoded = self[value] = encode_long(value)
        return encoded


def _encode_map(entries: dict[str, str]) -> bytes:
    if not entries:
        return b"\x00"
    count = len(entries)
    encoded = _LENGTHS[count] if count < _MAX_LENGTH else encode_long(count)
    for key, value in entries.items():
        body = value.encode()
        size = len(body)
        encoded += _MAP_KEYS[key] + (_LENGTHS[size] if size < _MAX_LENGTH else encode_long(size)) + body
    return encoded + b"\x00"


_SOME_DOUBLE: Final = struct.Struct("<Bd")
_MAP_KEYS: Final = _Strings()
_MAX_LENGTH: Final = 2048
_LENGTHS: Final = tuple(encode_long(length) for length in range(_MAX_LENGTH))
_SOME_LENGTHS: Final = tuple(b"\x02" + length for length in _LENGTHS)


def _in_words(record: Record, error: Exception) -> str:
    """Which field was it? Worked out only after a failure."""
    if isinstance(error, EncodeError):
        return str(error)
    if isinstance(error, KeyError) and error.args[0] in _FIELDS and error.args[0] not in record:
        return f"field {error.args[0]} is missing"
    return f"record does not fit the schema: {type(error).__name__}: {error}"


def _added() -> tuple[tuple[dict[str, Any], ...], ...]:
    """By version, the fields it has and the one before it has not; with all kinds there are by now, whose codes never
    change."""
    fields = CURRENT.document["fields"]
    counts = (0, *(len(version.document["fields"]) for version in VERSIONS))
    return tuple(tuple(fields[before:after]) for before, after in pairwise(counts))


def _added_kinds() -> tuple[frozenset[str], ...]:
    """Likewise of kinds, by version after the first."""
    return tuple(frozenset(kinds_of(after)) - frozenset(kinds_of(before)) for before, after in pairwise(VERSIONS))


FIRST_FIELDS, *_LATER_FIELDS = _added()
"""Fields of the first version, which every record has; of each later version what it added."""
_LATER_KINDS: Final = _added_kinds()


class EncoderSource:
    """Writes the source of one encoder, field by field in the schema's order."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {
            "LENGTHS": _LENGTHS,
            "SOME_LENGTHS": _SOME_LENGTHS,
            "TWO_MORE": _TWO_MORE,
            "LAST": _LAST,
            "encode_long": encode_long,
            "encode_map": _encode_map,
            "pack_double": struct.Struct("<d").pack,
            "pack_some_double": _SOME_DOUBLE.pack,
            "EncodeError": EncodeError,
            "in_words": _in_words,
        }
        """What the source may refer to."""
        self.lines: list[str] = []
        self.names |= {f"HEADER_{version.version}": version.header for version in VERSIONS}
        self._parts: list[str | bytes] = ["header"]

    def constant(self, value: bytes) -> None:
        """Bytes that are the same in every record."""
        last = self._parts[-1]
        if isinstance(last, bytes):
            self._parts[-1] = last + value
        else:
            self._parts.append(value)

    def expression(self, source: str) -> None:
        """Bytes that ``source`` evaluates to."""
        self._parts.append(source)

    def field(self, name: str, avro_type: Any) -> None:
        """A field that is read from ``record``."""
        if isinstance(avro_type, list):
            branch = _branch(name, avro_type)
            if isinstance(branch, dict) and branch["type"] == "enum":
                table: dict[str | None, bytes] = {s: b"\x02" + encode_long(i) for i, s in enumerate(branch["symbols"])}
                table[None] = b"\x00"
                self.names[f"ENUM_{name}"] = table
                self._parts.append(f"ENUM_{name}[get({name!r})]")
                return
            self.lines.append(f"{name} = get({name!r})")
        elif name in _MAY_BE_LEFT_OUT:
            self.names[f"DEFAULT_{name}"] = _MAY_BE_LEFT_OUT[name]
            self.lines.append(f"{name} = get({name!r}) or DEFAULT_{name}")
        else:
            self.lines.append(f"{name} = record[{name!r}]")
        self.variable(name, avro_type)

    def variable(self, name: str, avro_type: Any) -> None:
        """A field whose value the lines so far have put into the variable of its name."""
        if isinstance(avro_type, list):
            self._nullable(name, _branch(name, avro_type))
            self._parts.append(f"some_{name}")
        else:
            self._parts += self._value(name, avro_type)

    def later_fields(self, kind: str | None = None) -> None:
        """What later versions added, all of them or none: the header says which version it has become.

        ``kind``: the only one there is; without it the kind is in the variable of that name.
        """
        for field in (field for fields in _LATER_FIELDS for field in fields):
            self.lines.append(f"{field['name']} = get({field['name']!r})")
        self.lines.append(f"header, added = HEADER_{VERSIONS[0].version}, b''")
        condition = "if"
        for index in reversed(range(len(_LATER_FIELDS))):
            told = [f"{field['name']} is not None" for field in _LATER_FIELDS[index]]
            new_kinds = sorted(_LATER_KINDS[index])
            told += [f"kind == {new!r}" for new in new_kinds] if kind is None else ["True"] * (kind in new_kinds)
            if not told:
                continue
            self.lines.append(f"{condition} {' or '.join(told)}:")
            before = len(self.lines)
            written = [field for fields in _LATER_FIELDS[: index + 1] for field in fields]
            for field in written:
                self._nullable(field["name"], _branch(field["name"], field["type"]))
            added = " + ".join(f"some_{field['name']}" for field in written)
            self.lines.append(f"header, added = HEADER_{VERSIONS[index + 1].version}, {added}")
            self.lines[before:] = [f"    {line}" for line in self.lines[before:]]
            condition = "elif"
        self._parts.append("added")

    def _value(self, name: str, avro_type: Any) -> list[str]:
        """Expressions of the bytes of variable ``name``; statements they need first go to the lines."""
        kind = avro_type["type"] if isinstance(avro_type, dict) else avro_type
        if name in _REPEATING and kind in ("string", "long"):
            self.names[f"CACHE_{name}"] = _Strings() if kind == "string" else _Longs()
            return [f"CACHE_{name}[{name}]"]
        if kind == "string":
            self.lines += [f"{name} = {name}.encode()", f"size_{name} = len({name})"]
            return [self._prefix(name), name]
        if kind == "fixed":
            size = avro_type["size"]
            self.lines.append(f"if len({name}) != {size}: raise EncodeError('{name} must be {size} bytes')")
            return [name]
        if kind == "enum":
            self.names[f"ENUM_{name}"] = {s: encode_long(i) for i, s in enumerate(avro_type["symbols"])}
            return [f"ENUM_{name}[{name}]"]
        if name in _TIMES:
            # What `encode_long` does for the times of our day, without the call.
            self.lines += [
                f"low_{name} = {name} << 1 & 0xFFFFFFF",
                f"high_{name} = {name} >> 27",
                f"if 0x4000 <= high_{name} < 0x10000000:",
                f"    first_{name} = TWO_MORE[low_{name} & 0x3FFF]",
                f"    second_{name} = TWO_MORE[low_{name} >> 14]",
                f"    third_{name} = TWO_MORE[high_{name} & 0x3FFF]",
                f"    last_{name} = LAST[high_{name} >> 14]",
                "else:",
                f"    first_{name} = encode_long({name})",
                f"    second_{name} = third_{name} = last_{name} = b''",
            ]
            return [f"{part}_{name}" for part in ("first", "second", "third", "last")]
        simple = {"long": "encode_long", "double": "pack_double", "map": "encode_map"}
        if kind not in simple or (kind == "map" and avro_type["values"] != "string"):
            raise EncodeError(f"no encoder for field {name} of type {avro_type}")
        return [f"{simple[kind]}({name})"]

    def _nullable(self, name: str, branch: Any) -> None:
        self.lines.append(f"if {name} is None: some_{name} = b'\\x00'")
        if branch == "double" and name in _REPEATING:
            self.names[f"CACHE_{name}"] = _Doubles()
            self.lines.append(f"else: some_{name} = CACHE_{name}[{name}]")
        elif branch == "double":
            self.lines.append(f"else: some_{name} = pack_some_double(2, {name})")
        else:
            self.lines.append("else:")
            before = len(self.lines)
            value = self._value(name, branch)
            self.lines[before:] = [f"    {line}" for line in self.lines[before:]]
            if branch == "string" and name not in _REPEATING:
                value[0] = self._prefix(name, some=True)
            else:
                value.insert(0, "b'\\x02'")
            self.lines.append(f"    some_{name} = {' + '.join(value)}")

    @staticmethod
    def _prefix(name: str, *, some: bool = False) -> str:
        table, otherwise = ("SOME_LENGTHS", "b'\\x02' + ") if some else ("LENGTHS", "")
        return f"({table}[size_{name}] if size_{name} < {_MAX_LENGTH} else {otherwise}encode_long(size_{name}))"

    def compile(self, name: str, arguments: str = "record") -> Callable[..., bytes]:
        """The function. Its first argument is ``record``, a mapping."""
        parts = (repr(part) if isinstance(part, bytes) else part for part in self._parts)
        source = "\n".join(
            [
                f"def encode({arguments}):",
                "    get = record.get",
                "    try:",
                *(f"        {line}" for line in self.lines),
                f"        return b''.join(({', '.join(parts)}))",
                "    except Exception as error:",
                "        raise EncodeError(in_words(record, error)) from error",
            ]
        )
        exec(compile(source, f"<encoder of {name}>", "exec"), self.names)
        generated: Callable[..., bytes] = self.names["encode"]
        return generated


def _branch(name: str, union: list[Any]) -> Any:
    if len(union) != 2 or union[0] != "null":
        raise EncodeError(f"field {name}: only unions of null and one type are known")
    return union[1]


def _generate(name: str) -> Callable[[Record], bytes]:
    source = EncoderSource()
    for field in FIRST_FIELDS:
        source.field(field["name"], field["type"])
    source.later_fields()
    return source.compile(name)


_FIELDS: Final = frozenset(field["name"] for field in CURRENT.document["fields"])

encode: Final = _generate(CURRENT.document["name"])
"""``encode(record: Record) -> bytes``: marker, fingerprint and body of one record, ready for the log.

Raises `EncodeError` if a field is missing or does not fit; members that are no fields are ignored.
"""
