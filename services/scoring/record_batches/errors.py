"""What can go wrong while record batches are handed over.

RecordBatchError
├── PositionGap        records between two batches were never handed over
└── ProgressStalled    there is work, but the position does not move
"""

from __future__ import annotations

__all__ = ["PositionGap", "ProgressStalled", "RecordBatchError"]


class RecordBatchError(Exception):
    """Base of this package's errors. None of them is retried in place: the process stops without a commit."""


class PositionGap(RecordBatchError):  # noqa: N818 - names the fact, like the rest of the tree
    """A batch does not start where the one before it ended, so a commit would skip records."""


class ProgressStalled(RecordBatchError):  # noqa: N818
    """No progress for too long although records wait; a restart of the process is the remedy."""
