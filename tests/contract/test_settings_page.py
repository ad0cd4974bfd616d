"""The page of settings says what the code reads."""

from __future__ import annotations

from pathlib import Path

from services.cli.setting_names import OTHERS
from services.cli.settings_doc import SECTIONS, page, variable

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_made_from_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m services.cli.settings_doc > docs/settings.md"


def test_every_setting_is_explained() -> None:
    for _, _, settings in SECTIONS:
        for name, field in settings.model_fields.items():
            assert field.description, f"{variable(settings, name, field)} has no description"


def test_no_setting_of_a_part_is_missing() -> None:
    text = page()
    assert not [name for name in OTHERS if f"`{name}`" not in text]
