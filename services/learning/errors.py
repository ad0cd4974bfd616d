"""What learning refuses.

LearningError
├── BadHistory       the events cannot be used as they are: a column, a value
├── TooLittle        the history is fine and too short or too uniform to learn from
└── ModelMismatch    a stored model does not fit what it is asked to judge

Each message names what is missing and what to do about it.
"""

from __future__ import annotations


class LearningError(ValueError):
    """Learning or judging by what was learnt is not possible; the message has the remedy."""


class BadHistory(LearningError):  # noqa: N818 - says what is wrong, as its siblings
    """Events or settings cannot be used as they are."""


class TooLittle(LearningError):  # noqa: N818
    """There is too little history, or only one kind of outcome in it."""


class ModelMismatch(LearningError):  # noqa: N818
    """A model is damaged, or made by another version of these formulas."""
