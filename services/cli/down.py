"""``touchstone down``: stop the single-machine stack."""

from __future__ import annotations

from infra.embedded.background import stop_stack
from services.cli.console import say
from services.cli.settings import load_settings


def down() -> None:
    """Stop the stack of this data folder; its data stays, and the next up finds everything where it was.

    Also clears what a killed stack may have left. Stopping what does not run is no error.
    """
    settings = load_settings()
    if stop_stack(settings.data_dir, say=say):
        say(f"stopped; data and logs stay in {settings.data_dir}")
    else:
        say(f"no stack runs on {settings.data_dir}")
