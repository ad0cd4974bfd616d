"""The schema files by the fingerprint that every record carries in front.

A record on the wire is Avro single-object encoding: marker ``C3 01``, the little-endian CRC-64-AVRO fingerprint of
the writer's schema in canonical form, then the body. So a reader finds the writer's schema without a registry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import avro.schema

MARKER: Final = b"\xc3\x01"
HEADER_BYTES: Final = 10


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One immutable schema file."""

    version: int
    text: str
    header: bytes
    """Marker and fingerprint: the first ten bytes of each record written with this version."""

    @property
    def document(self) -> dict[str, Any]:
        """The schema as parsed JSON, freshly parsed so that callers may change it."""
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed


def _load(version: int) -> SchemaVersion:
    text = (resources.files("schemas") / "avro" / f"touchpoint.v{version}.avsc").read_text("utf-8")
    fingerprint: bytes = avro.schema.parse(text).fingerprint("CRC-64-AVRO")
    return SchemaVersion(version=version, text=text, header=MARKER + fingerprint)


VERSIONS: Final[tuple[SchemaVersion, ...]] = (_load(1), _load(2), _load(3), _load(4))
"""Each adds fields that may be null, or kinds, at the end of those of the one before: so a record that has none of what
is new can be written as the old version, and read as the new one."""
CURRENT: Final = VERSIONS[-1]
"""What readers know of. Records are written with the oldest version that can say all they say, see `schemas.encode`."""
BY_HEADER: Final[dict[bytes, SchemaVersion]] = {version.header: version for version in VERSIONS}


def kinds_of(version: SchemaVersion) -> tuple[str, ...]:
    """The kinds of event that a version can tell, in the order of their codes."""
    [kind] = [field["type"] for field in version.document["fields"] if field["name"] == "kind"]
    return tuple(kind["symbols"])
