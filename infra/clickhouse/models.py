"""The table of risk models: each version once, with its report; the latest activated one judges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from infra.clickhouse.client import ClickHouse
from schemas.tables import DATABASE, MODEL_SHADOWS, MODELS

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""`activated_at` of a model that has not judged yet."""
_SELECT: Final = f"SELECT {', '.join(MODELS.names)} FROM {DATABASE}.{MODELS.name} FINAL"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A row: ``parameters`` is the JSON that the risk formula reads, ``report`` JSON or empty."""

    version: str
    activated_at: datetime
    parameters: str
    report: str

    @property
    def was_active(self) -> bool:
        return self.activated_at > NEVER


def list_models(client: ClickHouse) -> list[StoredModel]:
    """All of them: those that have judged, the latest first, then the others by version. Raises ClickHouseError."""
    return [_stored(row) for row in client.query(f"{_SELECT} ORDER BY activated_at DESC, version")]


def active_model(models: list[StoredModel]) -> StoredModel | None:
    """Of `list_models`, the one that was activated last; None if none ever was."""
    return next((model for model in models if model.was_active), None)


def save_model(client: ClickHouse, version: str, parameters: str, report: str) -> None:
    """Add a model that does not judge yet. Raises ClickHouseError."""
    client.insert_rows(MODELS.name, MODELS.names, [(version, NEVER, parameters, report)])


def shadow_version(client: ClickHouse) -> str | None:
    """The model that runs beside the active one, if one does. Raises ClickHouseError."""
    [(version,)] = client.query(f"SELECT argMax(version, chosen_at) FROM {DATABASE}.{MODEL_SHADOWS.name}")
    return str(version) or None


def choose_shadow(client: ClickHouse, version: str | None, at: datetime) -> None:
    """Let a model run beside the active one from now on, or none. Raises ClickHouseError."""
    client.insert_rows(MODEL_SHADOWS.name, MODEL_SHADOWS.names, [(at, version or "")])


def _stored(row: tuple[Any, ...]) -> StoredModel:
    version, activated_at, parameters, report = row
    return StoredModel(version, activated_at.replace(tzinfo=activated_at.tzinfo or UTC), parameters, report)
