"""Faults of the single-machine stack, one tree.

StackError
├── AlreadyRunningError   another supervisor holds this data folder
├── PortTakenError        somebody else listens on a port that is needed
├── StartFailedError      a part ended, or was not ready in time; what had started was stopped again
└── StartCancelledError   asked to stop before everything was ready
"""

from __future__ import annotations


class StackError(Exception):
    """Base of everything that infra.embedded raises on purpose; the message names the remedy."""


class AlreadyRunningError(StackError):
    """Another supervisor holds the lock of this data folder."""


class PortTakenError(StackError):
    """A port that is needed is taken; the message names the holder and the setting."""


class StartFailedError(StackError):
    """A part did not become ready; the message carries the end of its log and the place of it.

    ``exit_code`` is that of a supervisor in the background, whose words have been passed on already; else None.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StartCancelledError(StackError):
    """SIGTERM or SIGINT arrived before everything was ready."""
