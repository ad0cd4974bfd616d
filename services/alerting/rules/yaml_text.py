"""YAML as the rules file may use it: PyYAML's safe loader without what surprises or costs.

Words are texts: only ``true``, ``false``, ``null`` and numbers are more, so ``20:00``, ``on`` and ``no`` stay what is
written. Anchors, aliases, tags and more than one document are refused, and so is deep nesting.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import yaml
from yaml.events import AliasEvent
from yaml.nodes import Node, ScalarNode

MOST_BYTES: Final = 1024 * 1024
DEEPEST: Final = 12

_TAGS: Final = "tag:yaml.org,2002:"


class YamlError(ValueError):
    """A file that is no YAML as it may be here. ``line`` and ``column`` count from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line, self.column, self.message = line, column, message


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types of its own
    """Composes nodes; never constructs objects."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def __init__(self, text: str) -> None:
        self._depth = 0
        try:
            super().__init__(text)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise YamlError(line, 1, "has a character that YAML does not allow; remove it") from error

    def root(self) -> Node:
        """The one document; raises `YamlError`."""
        try:
            node = self.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
            raise YamlError(line, column, f"{error.problem or error.context}; correct the YAML there") from error
        if node is None:
            raise YamlError(1, 1, "the file is empty; begin with version: 1")
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise YamlError(line, column, "anchors (&) and aliases (*) are not allowed; write it out")
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            raise YamlError(line, column, f"the tag {tag[:60]} is not allowed; remove it")
        if self._depth >= DEEPEST:
            raise YamlError(line, column, f"is nested deeper than {DEEPEST} levels; nothing here needs that")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


Loader.add_implicit_resolver(f"{_TAGS}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
Loader.add_implicit_resolver(f"{_TAGS}int", re.compile(r"^[-+]?[0-9]{1,18}$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    f"{_TAGS}float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)
Loader.add_implicit_resolver(f"{_TAGS}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


def place_in(text: str, node: ScalarNode, offset: int) -> tuple[int, int]:
    """Line and column, from 0, of a character of a scalar's value, however it is quoted or folded.

    White space may differ between value and file, the other characters follow each other in both.
    """
    value = str(node.value)
    wanted = sum(1 for character in value[:offset] if not character.isspace())
    start, end = node.start_mark.index, node.end_mark.index
    if node.style in ("|", ">"):
        start = text.find("\n", start, end) + 1 or start
    elif node.style in ("'", '"'):
        start += 1
    seen = 0
    at = start
    while at < end:
        if not text[at].isspace():
            if seen == wanted:
                break
            seen += 1
            if node.style == "'" and text.startswith("''", at):
                at += 1  # one quote is written as two
            elif node.style == '"' and text[at] == "\\":
                at += 1
        at += 1
    at = min(at, max(end - 1, start))
    line = text.count("\n", 0, at)
    return line, at - (text.rfind("\n", 0, at) + 1)
