"""The quick way to an identity is the standard library's."""

from __future__ import annotations

import uuid

from hypothesis import example, given
from hypothesis import strategies as st

from schemas.identity import _NAMESPACE, identify


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.text("crm-shop", max_size=10))
@example("6b8c3c5e-53d0-4c55-9f5c-0a2b7f7a9a1 ", "crm")
@example("6b8c3c5e-53d0-4c55-9f5c-0a2b7f7a9ag1", "crm")
@example("6b8c3c5e--3d0-4c55-9f5c-0a2b7f7a9a11", "crm")
@example("６b8c3c5e-53d0-4c55-9f5c-0a2b7f7a9a11", "crm")
def test_any_other_id_is_uuid5_of_source_and_id(sender_id: str, source: str) -> None:
    expected = uuid.uuid5(_NAMESPACE, f"{source}\x1f{sender_id}").bytes
    assert identify(source, sender_id) == (expected, sender_id)


@given(st.uuids(), st.booleans())
def test_a_uuid_stands_for_itself(value: uuid.UUID, capital: bool) -> None:
    text = str(value).upper() if capital else str(value)
    assert identify("any", text) == (value.bytes, None)
