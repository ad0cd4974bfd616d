"""The one setting that all processes' logs share; levels are the processes' own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LogSettings(BaseSettings):
    """Wrong values raise pydantic's ValidationError."""

    model_config = SettingsConfigDict(env_prefix="TOUCHSTONE_", env_file=".env", extra="ignore", frozen=True)

    log_format: Literal["json", "text"] = Field(
        "text", description="Of all processes' logs: json, one object a line (the images set it), or text for people."
    )
