"""What may be said of a step of a case over HTTP."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.case import MAX_NAME_CHARS, MAX_NOTE_CHARS

_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]+$"
Person = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS, pattern=_NO_CONTROLS)]
Note = Annotated[str, StringConstraints(max_length=MAX_NOTE_CHARS, pattern=r"^[^\x00]*$")]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    by: Person = Field("api", description="Who does it; the key that was sent says nothing of it.")
    note: Note = Field("", description="Kept with the step.")


class Acknowledge(_Body):
    """Somebody takes a case on."""


class Assign(BaseModel):
    """A case is given to somebody."""

    model_config = _Body.model_config

    owner: Person = Field(description="Who answers for it from now on.")
    by: Person = Field("api", description="Who does it.")


class Close(_Body):
    """A case comes to its end."""

    outcome: Literal["succeeded", "failed", "abandoned"] = Field(description="How it ended for the customer.")
    complaint: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        pattern=_NO_CONTROLS,
        description="case_id of a complaint that has come to its end with it: also appends complaint_resolved.",
    )
    contacted: bool = Field(True, description="Somebody came back to the customer: also appends follow_up.")
