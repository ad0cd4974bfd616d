"""The record that makes a risk model judge from its place in a partition of the log on.

It belongs to no customer. Its attributes hold the whole model, so a replay needs nothing but the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.encode import EncodeError, encode
from schemas.identity import activation_event_id

KIND: Final = "model_activated"
CUSTOMER: Final = "touchstone.model"
"""Stands where other events have their customer."""
VERSION: Final = "version"
PARAMETERS: Final = "parameters"
"""Names of the attributes."""
MAX_PARAMETERS_BYTES: Final = 262_144
"""A record may have a megabyte; models have some thousand bytes."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A model that judges what follows ``log_offset`` in its partition, until the next one. A row of table
    ``model_activations``."""

    log_partition: int
    log_offset: int
    activated_at_us: int
    version: str
    parameters: str
    """The model as JSON."""


def encode_activation(version: str, parameters: str, partition: int, at_us: int) -> bytes:
    """The record for one partition, which it has to be sent to. EncodeError when the model is too large for one."""
    if len(parameters.encode()) > MAX_PARAMETERS_BYTES:
        raise EncodeError(f"the parameters of risk model {version} have more than {MAX_PARAMETERS_BYTES:,} bytes")
    return encode(
        {
            "event_id": activation_event_id(version, partition, at_us),
            "customer_id": CUSTOMER,
            "occurred_at": at_us,
            "received_at": at_us,
            "source": "touchstone",
            "kind": KIND,
            "touchpoint": CUSTOMER,
            "attributes": {VERSION: version, PARAMETERS: parameters},
        }
    )
