"""The rules file on disk: read when the process starts, and again when it has changed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from services.alerting.rules.model import RuleSet
from services.alerting.rules.read import RulesError, read_rules

_log: Final = logging.getLogger(__name__)

NO_RULES: Final = RuleSet(version=1)


class RulesFile:
    """The rules that hold now."""

    def __init__(self, path: Path | None) -> None:
        """None: no rules. Raises RulesError where the file cannot be used, OSError where it cannot be read."""
        self._path = path
        self._stamp = self._stamp_now()
        self.rules = NO_RULES
        self.wrong = False
        """The file cannot be used; those before it hold."""
        if path is not None:
            self.rules = self._read(path)

    def look(self) -> bool:
        """True where other rules hold from now on. A file that cannot be used is logged and changes nothing."""
        stamp = self._stamp_now()
        if self._path is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            rules = self._read(self._path)
        except (RulesError, OSError) as error:
            self.wrong = True
            _log.error("the rules file cannot be used, those of before hold: %s", error)
            return False
        self.wrong = False
        changed = rules.rules_version != self.rules.rules_version
        self.rules = rules
        return changed

    def _read(self, path: Path) -> RuleSet:
        read = read_rules(path.read_bytes(), str(path))
        for warning in read.warnings:
            _log.warning("%s", warning)
        return read.rules

    def _stamp_now(self) -> tuple[int, int, int]:
        """What changes when somebody edits or replaces the file."""
        if self._path is None:
            return 0, 0, 0
        try:
            known = self._path.stat()
        except OSError:
            return 0, 0, 0
        return known.st_mtime_ns, known.st_size, known.st_ino
