"""The page of settings, made from the settings classes: `python -m services.cli.settings_doc > docs/settings.md`."""

from __future__ import annotations

from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from infra.clickhouse.settings import ClickHouseSettings
from infra.embedded.clickhouse.settings import ClickHouseServerSettings
from infra.kafka.settings import TopicSettings
from infra.logs import LogSettings
from services.alerting.settings import AlertingSettings
from services.cli.settings import StackSettings
from services.ingest.settings import IngestSettings
from services.scoring.settings import ScoringSettings

SECTIONS: Final[tuple[tuple[str, str, type[BaseSettings]], ...]] = (
    ("The stack", "Read by `touchstone`, which tells its parts what they need to know.", StackSettings),
    ("Ingest", "Read by `services.ingest.main`.", IngestSettings),
    ("Scoring", "Read by `services.scoring.main`.", ScoringSettings),
    ("Alerting", "Read by `services.alerting.main`.", AlertingSettings),
    ("Logs", "Read by every process but Kafka.", LogSettings),
    ("Topics of a cluster", "Read by `infra.kafka.topics`; `touchstone up` makes its own.", TopicSettings),
    ("ClickHouse, as a client", "Read by every part that talks to ClickHouse.", ClickHouseSettings),
    ("ClickHouse, the embedded server", "Read by `infra.embedded.clickhouse.main`.", ClickHouseServerSettings),
)

HEAD: Final = """# Settings

Made by `python -m services.cli.settings_doc`; a test holds this page to the code.

Settings are environment variables, or lines of a `.env` file in the working folder; the environment wins. A wrong
value stops the start with a message that names the variable. `touchstone` also refuses variables that begin with
`TOUCHSTONE_` and that nothing reads, with the names it knows that look alike.
"""


def variable(settings: type[BaseSettings], name: str, field: FieldInfo) -> str:
    """The environment variable of a field."""
    if isinstance(field.validation_alias, str):
        return field.validation_alias
    return f"{settings.model_config.get('env_prefix', '')}{name}".upper()


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    seen: set[str] = set()
    for title, said, settings in SECTIONS:
        rows = []
        for name, field in settings.model_fields.items():
            told = variable(settings, name, field)
            if told not in seen:
                seen.add(told)
                rows.append(f"| `{told}` | {_shown(field.get_default())} | {_meaning(field)} |")
        parts.append(
            f"## {title}\n\n{said}\n\n| variable | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _shown(default: Any) -> str:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return "" if default is None or default == "" else f"`{default}`"


def _meaning(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    return text[:1].upper() + text[1:].rstrip(".")


if __name__ == "__main__":
    print(page(), end="")
