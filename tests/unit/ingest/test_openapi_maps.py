"""What the description says of attributes is what is done with them."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from services.ingest.limits import Limits
from services.ingest.openapi import openapi_document


@pytest.mark.parametrize(
    ("attributes", "fits"),
    [({"shop": "north"}, True), (None, True), ({"sh\x13op": ["nested"]}, False), ({"\x00": "x"}, False)],
)
def test_a_key_that_is_refused_is_not_described_as_free(attributes: Any, fits: bool) -> None:
    schemas = openapi_document(Limits(), with_keys=False)["components"]["schemas"]
    described = Draft202012Validator(schemas["Purchase"]["properties"]["attributes"])
    assert described.is_valid(attributes) == fits
